"""The only place that imports SCons."""
