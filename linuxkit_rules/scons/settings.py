"""Construction variables ``LINUXKIT_*``: what a user may set, and the engine they give.

Each variable may also come from the environment; one set in the SConstruct wins.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import SCons.Action

from linuxkit_rules.errors import UsageError
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.host import checked_arch, store_root
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.store.blobs import Store

DEFAULTS: dict[str, str] = {
    "LINUXKIT_STORE": "",
    "LINUXKIT_ARCH": "",
    "LINUXKIT_COMPRESSION": "zstd:6",
    "LINUXKIT_PACKAGE_LOCK": "",
    "LINUXKIT_DEBIAN_MIRROR": "",
    "LINUXKIT_IMAGE_LAYOUTS": "",
    "LINUXKIT_STATE": "",
    "LINUXKIT_TRACE": "",
}
"""Every construction variable, and its value where neither SConstruct nor environment sets it."""


def set_defaults(env: Any) -> None:
    """Give each ``LINUXKIT_*`` variable a value unless the SConstruct has."""
    env.SetDefault(**{name: os.environ.get(name, value) for name, value in DEFAULTS.items()})


def settings_of(env: Any) -> Settings:
    """Read the variables that decide bytes; raise UsageError for a value that means nothing."""
    compression, level = _compression(env["LINUXKIT_COMPRESSION"])
    lock = env["LINUXKIT_PACKAGE_LOCK"]
    layouts = env["LINUXKIT_IMAGE_LAYOUTS"]
    names = layouts.split(os.pathsep) if isinstance(layouts, str) else layouts
    settings = Settings(
        arch=checked_arch(str(env["LINUXKIT_ARCH"])),
        compression=compression,
        level=level,
        home=Path.home(),
        layouts=tuple(Path(env.Dir(name).get_abspath()) for name in names if name),
    )
    return replace(settings, package_lock=Path(env.File(lock).get_abspath())) if lock else settings


def engine_of(env: Any) -> Engine:
    """Give the engine for the variables that say where things are; one for each choice and run."""
    return _engine(
        store_root(str(env["LINUXKIT_STORE"])),
        str(env["LINUXKIT_DEBIAN_MIRROR"]),
        str(env["LINUXKIT_TRACE"]),
    )


@functools.cache
def _engine(root: Path, mirror: str, trace: str) -> Engine:
    settings = {"debian_mirror": mirror or None}
    return Engine(Store(root), _reporter(Path(trace) if trace else None), settings)


def _reporter(trace: Path | None) -> Callable[[Event], None]:
    """Give what prints the steps; the file ``trace`` gets all of them, as lines of JSON."""
    lock = threading.Lock()

    def report(event: Event) -> None:
        with lock:
            if SCons.Action.print_actions and (event.how == "run" or event.depth == 0):
                word = event.stage if event.how == "run" else f"{event.stage} (from the store)"
                print("  " * event.depth + f"{word} {event.label}".rstrip(), flush=True)
            if trace is not None:
                with trace.open("a") as file:
                    file.write(json.dumps(dataclasses.asdict(event)) + "\n")

    return report


def _compression(text: str) -> tuple[Compression, int]:
    name, _, level = text.partition(":")
    try:
        return Compression(name), int(level or 0)
    except ValueError:
        names = ", ".join(item.value for item in Compression)
        raise UsageError(
            f"LINUXKIT_COMPRESSION={text!r} is no way of packing", hint=f"one of {names}, and :LEVEL"
        ) from None
