"""Debian packages as a source of images: indexes, lock, resolution, unpacking."""
