"""The SCons tool: ``env.LinuxKitImage(target, yml, …)`` and ``env.LinuxKitOutputs(folder, yml)``.

    from linuxkit_rules import linuxkit
    env = Environment(tools=[linuxkit])
    env.LinuxKitImage("out/redisos.iso", "redisos.yml")

Construction variables: ``linuxkit_rules.scons.settings.DEFAULTS``.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import SCons.Script
from SCons.Util import flatten

from linuxkit_rules.errors import LinuxKitError, UsageError
from linuxkit_rules.scons.actions import Node
from linuxkit_rules.scons.formats import Formats
from linuxkit_rules.scons.image import Image, memo_of
from linuxkit_rules.scons.jobs import use_processors
from linuxkit_rules.scons.settings import set_defaults

DEFAULT_FORMAT = "iso"


def exists(env: Any) -> bool:
    """Whether the tool can work here: always."""
    return True


def generate(env: Any, **settings: Any) -> None:
    """Add the methods and the construction variables to ``env``."""
    set_defaults(env)
    env.AddMethod(linuxkit_image, "LinuxKitImage")
    env.AddMethod(linuxkit_outputs, "LinuxKitOutputs")


def linuxkit_image(
    env: Any,
    target: Any,
    source: Any,
    formats: str | Sequence[str] = (),
    layered: bool | str | None = None,
    **overrides: Any,
) -> list[Node]:
    """Declare an image; give the nodes of its files.

    ``target`` is the file of one format, known by its suffix (``out/redisos.iso``), or, where ``formats`` are
    named, the files' common beginning (``out/redisos``).  ``source`` is a YAML or several, merged in order.
    ``layered`` sets ``LINUXKIT_LAYERED``, and ``overrides`` any ``LINUXKIT_*`` variables, for this image.  A
    user's fault ends SCons with status 2.
    """
    if layered is not None:
        overrides["LINUXKIT_LAYERED"] = str(layered)
    try:
        return declare(env.Override(overrides) if overrides else env, target, source, formats)
    except LinuxKitError as error:
        # SCons's own UserError would add a line that names this file as the place of the fault.
        print(f"\nscons: *** {error}", file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Look for no garbage: declaring leaves little, but many objects that would be looked at over and over.

    They count as old afterwards, and are looked at where all are, unless the user has frozen some.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if enabled:
            gc.enable()


def declare(env: Any, target: Any, source: Any, formats: str | Sequence[str]) -> list[Node]:
    """Do what ``linuxkit_image`` says; raise LinuxKitError."""
    use_processors(env)
    with _without_collection():
        folder, name, wanted = _wanted(env, target, formats)
        sources = [file_node(env, item) for item in flatten([source])]
        return Image(env, folder, name, wanted, sources).declare()


def linuxkit_outputs(env: Any, folder: Any, source: Any, **overrides: Any) -> list[Node]:
    """Declare those formats of ``source`` whose files below ``folder`` the command line asks for.

    The files are named after the YAML.  Each target costs time even when nothing is to be done, so a format
    that nobody asked for is not declared; where the command line names no file at all, the hybrid ISO is.
    """
    yml = env.File(flatten([source])[-1])
    name = PurePath(yml.name).stem
    base = env.Dir(folder).Entry(name)
    asked = _asked(env, base)
    if not asked and any(not _is_folder(item) for item in SCons.Script.COMMAND_LINE_TARGETS):
        return []
    return linuxkit_image(env, base, source, asked or [DEFAULT_FORMAT], **overrides)


def _wanted(env: Any, target: Any, formats: str | Sequence[str]) -> tuple[Node, str, list[str]]:
    """Give the folder, the image's name, and the formats to declare."""
    item = flatten([target])[0]
    known = Formats.find(memo_of(env))
    if not formats:
        node = file_node(env, item)
        found, name = known.by_file(node.name)
        return node.dir, name, [found]
    names = formats.split(",") if isinstance(formats, str) else list(formats)
    node = env.Entry(item)
    return node.get_dir(), node.name, list(dict.fromkeys(known.by_name(item) for item in names))


def file_node(env: Any, item: Any) -> Node:
    """Give the node of a file; raise UsageError where a folder is in its place."""
    try:
        return env.File(item)
    except TypeError:
        raise UsageError("is a folder, where a file is needed", where=str(item)) from None


def _asked(env: Any, base: Node) -> list[str]:
    """Give the formats one of whose files the command line names."""
    known = Formats.find(memo_of(env))
    nodes = {env.Entry(item) for item in SCons.Script.COMMAND_LINE_TARGETS if not _is_folder(item)}
    found: dict[Node, str] = {}
    for suffix, name in known.pairs():
        found.setdefault(base.dir.Entry(base.name + suffix), name)
    return list(dict.fromkeys(name for node, name in found.items() if node in nodes))


def _is_folder(text: Any) -> bool:
    return not isinstance(text, str) or text.endswith("/") or Path(text).is_dir()
