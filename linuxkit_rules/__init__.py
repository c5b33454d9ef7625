"""Bootable, reproducible Linux images made of containers, as a plugin of SCons."""

from typing import Any

__all__ = ["linuxkit"]


def linuxkit(env: Any, **settings: Any) -> None:
    """Add the tool to a construction environment: ``Environment(tools=[linuxkit])``."""
    from linuxkit_rules.scons.tool import generate

    generate(env, **settings)
