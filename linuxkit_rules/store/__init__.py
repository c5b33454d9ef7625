"""The content store and the memory of stages."""
