"""Construction variables ``LINUXKIT_*``: what a user may set, and the engine they give.

Each variable may also come from the environment; one set in the SConstruct wins.
"""

from __future__ import annotations

import atexit
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

from linuxkit_rules.digest import canonical_json
from linuxkit_rules.errors import FormatError, UsageError
from linuxkit_rules.formats.limits import Limits
from linuxkit_rules.host import (
    access,
    checked_arch,
    is_locked,
    is_set,
    may_upload,
    remote_cache,
    remote_executor,
    store_root,
)
from linuxkit_rules.scons.jobs import is_interrupted
from linuxkit_rules.store.blobs import Store

if TYPE_CHECKING:
    from linuxkit_rules.formats.compression import Compression
    from linuxkit_rules.plan.settings import Settings
    from linuxkit_rules.remote.uploads import Uploads
    from linuxkit_rules.scons.progress import Display
    from linuxkit_rules.stages.layers import Saving
    from linuxkit_rules.stages.stage import Engine, Event
    from linuxkit_rules.stages.trace import Span, Trace, Untraced

DEFAULTS: dict[str, str] = {
    "LINUXKIT_STORE": "",
    "LINUXKIT_ARCH": "",
    "LINUXKIT_COMPRESSION": "auto",
    "LINUXKIT_LAYERED": "",
    "LINUXKIT_JOBS": "",
    "LINUXKIT_DECOMPRESS_KERNEL": "",
    "LINUXKIT_PACKAGE_LOCK": "",
    "LINUXKIT_DEBIAN_MIRROR": "",
    "LINUXKIT_OFFLINE": "",
    "LINUXKIT_PLAIN_HTTP": "",
    "LINUXKIT_MIRRORS": "",
    "LINUXKIT_CA_FILES": "",
    "LINUXKIT_IMAGE_LAYOUTS": "",
    "LINUXKIT_TRUST_POLICY": "",
    "LINUXKIT_IGNORE_TRUST": "",
    "LINUXKIT_IMAGE_LOCK": "",
    "LINUXKIT_LOCKED": "",
    "LINUXKIT_VENDOR": "",
    "LINUXKIT_REMOTE_CACHE": "",
    "LINUXKIT_REMOTE_CACHE_MODE": "ro",
    "LINUXKIT_REMOTE_CACHE_TIMEOUT": "5",
    "LINUXKIT_REMOTE_EXECUTOR": "",
    "LINUXKIT_REMOTE_EXECUTOR_PLATFORM": "",
    "LINUXKIT_REMOTE_EXECUTOR_TIMEOUT": "5",
    "LINUXKIT_LIMITS": "",
    "LINUXKIT_STATE": "",
    "LINUXKIT_TRACE": "",
}
"""Every construction variable, and its value where neither SConstruct nor environment sets it."""

_FETCHING = (
    "LINUXKIT_DEBIAN_MIRROR",
    "LINUXKIT_OFFLINE",
    "LINUXKIT_PLAIN_HTTP",
    "LINUXKIT_MIRRORS",
    "LINUXKIT_CA_FILES",
    "LINUXKIT_REMOTE_CACHE",
    "LINUXKIT_REMOTE_CACHE_MODE",
    "LINUXKIT_REMOTE_CACHE_TIMEOUT",
    "LINUXKIT_REMOTE_EXECUTOR",
    "LINUXKIT_REMOTE_EXECUTOR_PLATFORM",
    "LINUXKIT_REMOTE_EXECUTOR_TIMEOUT",
)

UPLOAD_SECONDS = 300.0
"""How long the end of a build waits for what is being sent to the remote cache."""


_FROM = {
    "run": "",
    "hit": " (from the store)",
    "remote": " (from the remote cache)",
    "executed": " (on another machine)",
}


def set_defaults(env: Any) -> None:
    """Give each ``LINUXKIT_*`` variable a value unless the SConstruct has."""
    env.SetDefault(**{name: os.environ.get(name, value) for name, value in DEFAULTS.items()})


def choices_of(env: Any) -> dict[str, Any]:
    """Give the variables that decide bytes, with absolute paths, as a JSON object."""
    lock, image_lock = env["LINUXKIT_PACKAGE_LOCK"], env["LINUXKIT_IMAGE_LOCK"]
    policy = env["LINUXKIT_TRUST_POLICY"]
    layouts = env["LINUXKIT_IMAGE_LAYOUTS"]
    names = layouts.split(os.pathsep) if isinstance(layouts, str) else layouts
    return {
        "arch": checked_arch(str(env["LINUXKIT_ARCH"])),
        "compression": str(env["LINUXKIT_COMPRESSION"]),
        "package_lock": str(env.File(lock).get_abspath()) if lock else "",
        "layouts": [str(env.Dir(name).get_abspath()) for name in (env["LINUXKIT_VENDOR"], *names) if name],
        "home": str(Path.home()),
        "decompress_kernel": is_set(str(env["LINUXKIT_DECOMPRESS_KERNEL"])),
        "trust_policy": str(env.File(policy).get_abspath()) if policy else "",
        "ignore_trust": is_set(str(env["LINUXKIT_IGNORE_TRUST"])),
        "image_lock": str(env.File(image_lock).get_abspath()) if image_lock else "",
        "locked": is_locked(str(env["LINUXKIT_LOCKED"])),
        "layered": is_set(str(env["LINUXKIT_LAYERED"])),
        "limits": Limits.parse(str(env["LINUXKIT_LIMITS"])).changed(),
    }


def settings_of(choices: Mapping[str, Any]) -> Settings:
    """Read what ``choices_of`` gave; raise UsageError for a value that means nothing."""
    from linuxkit_rules.plan.settings import Settings

    compression, level, release = _compression(choices["compression"])
    settings = Settings(
        arch=choices["arch"],
        compression=compression,
        level=level,
        release=release,
        home=Path(choices["home"]),
        decompress_kernel=choices["decompress_kernel"],
        layouts=tuple(Path(item) for item in choices["layouts"]),
        ignore_trust=choices["ignore_trust"],
        trust_policy=Path(choices["trust_policy"]) if choices["trust_policy"] else None,
        image_lock=Path(choices["image_lock"]) if choices["image_lock"] else None,
        locked=choices["locked"],
        layered=choices["layered"],
    )
    lock = choices["package_lock"]
    return dataclasses.replace(settings, package_lock=Path(lock)) if lock else settings


def may_write(env: Any) -> bool:
    """Whether this run of SCons may write anything before it builds."""
    return not any(env.GetOption(option) for option in ("no_exec", "question", "clean"))


class Site:
    """Where things are: the ``store``; the ``limits`` of images; the ``engine``, made when it has to run.

    ``limits_note`` names the limits that are not the default ones.
    """

    def __init__(self, root: Path, trace: str, fetching: Mapping[str, str], limits: Limits) -> None:
        self.remote = remote_cache(fetching, lambda: self.engine.access.progress)
        self.store = Store(root, source=self.remote)
        self.limits = limits
        self.limits_note = canonical_json(changed).decode() if (changed := limits.changed()) else ""
        self._fetching = fetching
        self._trace = Path(trace) if trace else None
        self._engine: Engine | None = None
        self._display: Display | None = None
        self._guard = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The one engine of this site."""
        from linuxkit_rules.scons.progress import Display
        from linuxkit_rules.stages.stage import Engine

        with self._guard:
            if self._engine is None:
                display = self._display = Display(quiet=not SCons.Action.print_actions)
                fetching = access(self._fetching, progress=display)
                self._engine = Engine(
                    self.store,
                    _reporter(display),
                    fetching,
                    self.limits,
                    self.remote,
                    self._uploads(display),
                    _trace(self._trace),
                    remote_executor(self._fetching, display.warn, is_stopped=is_interrupted),
                )
            return self._engine

    @property
    def has_worked(self) -> bool:
        """Whether anything was built or delivered."""
        return self._engine is not None

    def tell(self, name: str, stage: str, saving: Saving) -> None:
        """Print what sharing layers saves the image ``name``, and add it to the trace."""
        from linuxkit_rules.scons.progress import shown

        if self._display is not None and SCons.Action.print_actions:
            sizes = f"{shown(saving.packed)} packed in place of at most {shown(saving.unshared)}"
            self._display.line(f"{name}: {saving.layers} layers, used {saving.uses} times: {sizes}")
        if self._trace is not None:
            what = {"how": "saving", "stage": stage, "label": name, "depth": 0}
            _append(self._trace, what | dataclasses.asdict(saving))

    def _uploads(self, display: Display) -> Uploads | None:
        """Give what sends results to the remote cache, which is finished before the program ends."""
        from linuxkit_rules.remote.uploads import Uploads

        if self.remote is None or not may_upload(self._fetching):
            return None
        uploads = Uploads(self.remote, self.store)
        atexit.register(_finish, uploads, display)
        return uploads


def site_of(env: Any) -> Site:
    """Give the site for the variables that say where things are; one for each choice and run."""
    vendor = env["LINUXKIT_VENDOR"]
    fetching = {name: _text(env[name], os.pathsep if "FILES" in name else ",") for name in _FETCHING}
    fetching["LINUXKIT_VENDOR"] = str(env.Dir(vendor).get_abspath()) if vendor else ""
    limits = Limits.parse(str(env["LINUXKIT_LIMITS"]))
    root = store_root(str(env["LINUXKIT_STORE"]), base=Path(env.Dir("#").get_abspath()))
    return _site(root, str(env["LINUXKIT_TRACE"]), tuple(fetching.items()), limits)


def _text(value: Any, separator: str) -> str:
    """Give a variable's text; a list's items stand with ``separator`` between."""
    return str(value) if isinstance(value, (str, bool, int)) else separator.join(map(str, value))


@functools.cache
def _site(root: Path, trace: str, fetching: tuple[tuple[str, str], ...], limits: Limits) -> Site:
    return Site(root, trace, dict(fetching), limits)


def _finish(uploads: Uploads, display: Display) -> None:
    """Wait until all is sent; an interrupt ends that."""
    if not (waiting := uploads.waiting):
        return
    try:
        if SCons.Action.print_actions:
            display.line(f"sending {waiting} results to the remote cache")
        left = uploads.finish(UPLOAD_SECONDS)
    except KeyboardInterrupt:
        left = uploads.drop()
    if left:
        display.warn(f"{left} results were not sent to the remote cache")


def _reporter(display: Display) -> Callable[[Event], None]:
    """Give what prints the steps on ``display``."""
    lock = threading.Lock()

    def report(event: Event) -> None:
        if SCons.Action.print_actions and (event.how == "run" or event.depth == 0):
            with lock:
                display.line("  " * event.depth + f"{event.stage}{_FROM[event.how]} {event.label}".rstrip())

    return report


def _trace(path: Path | None) -> Trace | Untraced:
    """Give the trace that adds each step to the file ``path``, a line of JSON for each."""
    from linuxkit_rules.stages.trace import Trace, Untraced

    if path is None:
        return Untraced()
    lock = threading.Lock()

    def report(span: Span) -> None:
        value = dataclasses.asdict(span)
        with lock:
            _append(path, value.pop("event") | value)

    return Trace(time.monotonic, report)


def _append(trace: Path, value: dict[str, Any]) -> None:
    """Add a line to the trace."""
    with trace.open("a") as file:
        file.write(json.dumps(value) + "\n")


def _compression(text: str) -> tuple[Compression | None, int, bool]:
    """Give compression (None: by the kernel), level, and whether time is spent for size."""
    from linuxkit_rules.formats.compression import Compression, checked_level

    if text in ("auto", "release"):
        return None, 0, text == "release"
    name, _, level = text.partition(":")
    try:
        compression = Compression(name)
        return compression, checked_level(compression, int(level or 0)), False
    except FormatError as error:
        raise UsageError(f"LINUXKIT_COMPRESSION={text!r}: {error.message}", hint=error.hint) from None
    except ValueError:
        raise UsageError(
            f"LINUXKIT_COMPRESSION={text!r} is no way of packing",
            hint="auto, release; or zstd, gzip or none, and :LEVEL",
        ) from None
