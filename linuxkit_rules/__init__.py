"""Bootable, reproducible Linux images made of containers, as a plugin of SCons."""
