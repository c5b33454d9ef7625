"""Construction variables ``LINUXKIT_*``: what a user may set, and the engine they give.

Each variable may also come from the environment; one set in the SConstruct wins.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import SCons.Action

from linuxkit_rules.errors import UsageError
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.store.blobs import Store

DEFAULTS: dict[str, str] = {
    "LINUXKIT_STORE": "",
    "LINUXKIT_ARCH": "",
    "LINUXKIT_COMPRESSION": "zstd:3",
    "LINUXKIT_PACKAGE_LOCK": "",
    "LINUXKIT_DEBIAN_MIRROR": "",
    "LINUXKIT_IMAGE_LAYOUTS": "",
    "LINUXKIT_TRACE": "",
}
"""Every construction variable, and its value where neither SConstruct nor environment sets it."""

_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}


def set_defaults(env: Any) -> None:
    """Give each ``LINUXKIT_*`` variable a value unless the SConstruct has."""
    env.SetDefault(**{name: os.environ.get(name, value) for name, value in DEFAULTS.items()})


def host_arch() -> str:
    """Give this machine's architecture in Debian's and OCI's word: amd64 or arm64."""
    machine = platform.machine()
    return _ARCHES.get(machine, machine)


def store_root(text: str) -> Path:
    """Give the store's folder: ``text``, or the user's cache folder (XDG base directory specification)."""
    if text:
        return Path(text).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "linuxkit_rules"
