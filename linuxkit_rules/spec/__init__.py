"""The image's YAML and the component's YAML, read into frozen dataclasses."""
