"""The command ``moby``.  A file for each; only here, and in SCons's tool, is anything printed."""

from linuxkit_rules.cli.main import main

__all__ = ["main"]
