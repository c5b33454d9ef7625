"""Construction variables ``LINUXKIT_*``: what a user may set, and the engine they give.

Each variable may also come from the environment; one set in the SConstruct wins.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SCons.Action

from linuxkit_rules.errors import FormatError, UsageError
from linuxkit_rules.host import access, checked_arch, is_locked, store_root
from linuxkit_rules.store.blobs import Store

if TYPE_CHECKING:
    from linuxkit_rules.formats.compression import Compression
    from linuxkit_rules.plan.settings import Settings
    from linuxkit_rules.stages.stage import Engine, Event
    from linuxkit_rules.stages.trace import Span, Trace, Untraced

DEFAULTS: dict[str, str] = {
    "LINUXKIT_STORE": "",
    "LINUXKIT_ARCH": "",
    "LINUXKIT_COMPRESSION": "zstd:6",
    "LINUXKIT_DECOMPRESS_KERNEL": "",
    "LINUXKIT_PACKAGE_LOCK": "",
    "LINUXKIT_DEBIAN_MIRROR": "",
    "LINUXKIT_OFFLINE": "",
    "LINUXKIT_PLAIN_HTTP": "",
    "LINUXKIT_IMAGE_LAYOUTS": "",
    "LINUXKIT_IGNORE_TRUST": "",
    "LINUXKIT_IMAGE_LOCK": "",
    "LINUXKIT_LOCKED": "",
    "LINUXKIT_VENDOR": "",
    "LINUXKIT_STATE": "",
    "LINUXKIT_TRACE": "",
}
"""Every construction variable, and its value where neither SConstruct nor environment sets it."""

_FETCHING = ("LINUXKIT_DEBIAN_MIRROR", "LINUXKIT_OFFLINE", "LINUXKIT_PLAIN_HTTP")


def set_defaults(env: Any) -> None:
    """Give each ``LINUXKIT_*`` variable a value unless the SConstruct has."""
    env.SetDefault(**{name: os.environ.get(name, value) for name, value in DEFAULTS.items()})


def choices_of(env: Any) -> dict[str, Any]:
    """Give the variables that decide bytes, with absolute paths, as a JSON object."""
    lock, image_lock = env["LINUXKIT_PACKAGE_LOCK"], env["LINUXKIT_IMAGE_LOCK"]
    layouts = env["LINUXKIT_IMAGE_LAYOUTS"]
    names = layouts.split(os.pathsep) if isinstance(layouts, str) else layouts
    return {
        "arch": checked_arch(str(env["LINUXKIT_ARCH"])),
        "compression": str(env["LINUXKIT_COMPRESSION"]),
        "package_lock": str(env.File(lock).get_abspath()) if lock else "",
        "layouts": [str(env.Dir(name).get_abspath()) for name in (env["LINUXKIT_VENDOR"], *names) if name],
        "home": str(Path.home()),
        "decompress_kernel": str(env["LINUXKIT_DECOMPRESS_KERNEL"]) not in ("", "0"),
        "ignore_trust": str(env["LINUXKIT_IGNORE_TRUST"]) not in ("", "0", "False"),
        "image_lock": str(env.File(image_lock).get_abspath()) if image_lock else "",
        "locked": is_locked(str(env["LINUXKIT_LOCKED"])),
    }


def settings_of(choices: Mapping[str, Any]) -> Settings:
    """Read what ``choices_of`` gave; raise UsageError for a value that means nothing."""
    from linuxkit_rules.plan.settings import Settings

    compression, level = _compression(choices["compression"])
    settings = Settings(
        arch=choices["arch"],
        compression=compression,
        level=level,
        home=Path(choices["home"]),
        decompress_kernel=choices["decompress_kernel"],
        layouts=tuple(Path(item) for item in choices["layouts"]),
        ignore_trust=choices["ignore_trust"],
        image_lock=Path(choices["image_lock"]) if choices["image_lock"] else None,
        locked=choices["locked"],
    )
    lock = choices["package_lock"]
    return dataclasses.replace(settings, package_lock=Path(lock)) if lock else settings


class Site:
    """Where things are: the ``store``; and the ``engine``, made when something has to run."""

    def __init__(self, root: Path, trace: str, fetching: Mapping[str, str]) -> None:
        self.store = Store(root)
        self._fetching = fetching
        self._trace = Path(trace) if trace else None
        self._engine: Engine | None = None
        self._guard = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The one engine of this site."""
        from linuxkit_rules.stages.stage import Engine

        with self._guard:
            if self._engine is None:
                self._engine = Engine(self.store, _reporter(), access(self._fetching), _trace(self._trace))
            return self._engine


def site_of(env: Any) -> Site:
    """Give the site for the variables that say where things are; one for each choice and run."""
    vendor = env["LINUXKIT_VENDOR"]
    fetching = {name: str(env[name]) for name in _FETCHING}
    fetching["LINUXKIT_VENDOR"] = str(env.Dir(vendor).get_abspath()) if vendor else ""
    return _site(store_root(str(env["LINUXKIT_STORE"])), str(env["LINUXKIT_TRACE"]), tuple(fetching.items()))


@functools.cache
def _site(root: Path, trace: str, fetching: tuple[tuple[str, str], ...]) -> Site:
    return Site(root, trace, dict(fetching))


def _reporter() -> Callable[[Event], None]:
    """Give what prints the steps."""
    lock = threading.Lock()

    def report(event: Event) -> None:
        if SCons.Action.print_actions and (event.how == "run" or event.depth == 0):
            word = event.stage if event.how == "run" else f"{event.stage} (from the store)"
            with lock:
                print("  " * event.depth + f"{word} {event.label}".rstrip(), flush=True)

    return report


def _trace(path: Path | None) -> Trace | Untraced:
    """Give the trace that adds each step to the file ``path``, a line of JSON for each."""
    from linuxkit_rules.stages.trace import Trace, Untraced

    if path is None:
        return Untraced()
    lock = threading.Lock()

    def report(span: Span) -> None:
        value = dataclasses.asdict(span)
        line = json.dumps(value.pop("event") | value)
        with lock, path.open("a") as file:
            file.write(line + "\n")

    return Trace(time.monotonic, report)


def _compression(text: str) -> tuple[Compression, int]:
    from linuxkit_rules.formats.compression import Compression, checked_level

    name, _, level = text.partition(":")
    try:
        compression = Compression(name)
        return compression, checked_level(compression, int(level or 0))
    except FormatError as error:
        raise UsageError(f"LINUXKIT_COMPRESSION={text!r}: {error.message}", hint=error.hint) from None
    except ValueError:
        raise UsageError(
            f"LINUXKIT_COMPRESSION={text!r} is no way of packing", hint="zstd, gzip or none, and :LEVEL"
        ) from None
