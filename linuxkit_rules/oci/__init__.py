"""The Open Container Initiative's formats: images, layouts, layers, registries, runtime configuration."""
