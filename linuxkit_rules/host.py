"""What this machine and its user say: architecture, where the store lies, settings of the environment."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from linuxkit_rules.errors import UsageError

if TYPE_CHECKING:
    from linuxkit_rules.stages.access import Access
    from linuxkit_rules.stages.stage import Engine

_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
_GIT_KEPT = frozenset(
    f"GIT_{name}"
    for name in (
        "CEILING_DIRECTORIES",
        "CONFIG_GLOBAL",
        "CONFIG_NOSYSTEM",
        "CONFIG_SYSTEM",
        "DISCOVERY_ACROSS_FILESYSTEM",
        "EXEC_PATH",
    )
)
"""Variables of git that say something of the machine, not of one repository or one command."""


def host_arch() -> str:
    """Give this machine's architecture in Debian's and OCI's word: amd64 or arm64."""
    machine = platform.machine()
    return _ARCHES.get(machine, machine)


def checked_arch(text: str) -> str:
    """Give ``text``, or this machine's where it is empty; raise UsageError for an unknown one."""
    arch = text or host_arch()
    if arch not in _ARCHES.values():
        raise UsageError(f"the architecture {arch!r} is not supported", hint="amd64 or arm64")
    return arch


def store_root(text: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Give the store's folder: ``text``, or the user's cache folder (XDG base directory specification)."""
    if text:
        return Path(text).expanduser().absolute()
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "linuxkit_rules"


def engine(environment: Mapping[str, str] = os.environ) -> Engine:
    """Give the engine that the ``LINUXKIT_*`` variables of the environment describe."""
    from linuxkit_rules.formats.limits import Limits
    from linuxkit_rules.stages.stage import Engine
    from linuxkit_rules.store.blobs import Store

    store = Store(store_root(environment.get("LINUXKIT_STORE", "")))
    limits = Limits.parse(environment.get("LINUXKIT_LIMITS", ""))
    return Engine(store, access=access(environment), limits=limits)


def access(variables: Mapping[str, str]) -> Access:
    """Give what the variables that say where to fetch from mean."""
    from linuxkit_rules.stages.access import Access

    names = variables.get("LINUXKIT_PLAIN_HTTP", "").split(",")
    return Access(
        debian_mirror=variables.get("LINUXKIT_DEBIAN_MIRROR") or None,
        offline=variables.get("LINUXKIT_OFFLINE", "") not in ("", "0"),
        plain_http=tuple(name.strip() for name in names if name.strip()),
    )


def package_lock(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the lock of the library's packages: ``LINUXKIT_PACKAGE_LOCK``, or the one that comes with it."""
    from linuxkit_rules.debian.lock import LIBRARY_LOCK

    text = environment.get("LINUXKIT_PACKAGE_LOCK", "")
    return Path(text).expanduser() if text else LIBRARY_LOCK


def git_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the environment in which git finds a folder's own repository, writes nothing and fetches nothing.

    A hook or an alias that runs a build has GIT_DIR, GIT_INDEX_FILE and their like set: those are dropped.
    """
    kept = {
        name: value for name, value in environment.items() if not name.startswith("GIT_") or name in _GIT_KEPT
    }
    return kept | {
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
