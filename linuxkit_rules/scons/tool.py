"""The SCons tool: ``env.LinuxKitImage(target, yml, …)`` and ``env.LinuxKitOutputs(folder, yml)``.

    from linuxkit_rules import linuxkit
    env = Environment(tools=[linuxkit])
    env.LinuxKitImage("out/redisos.iso", "redisos.yml")

Construction variables: ``linuxkit_rules.scons.settings.DEFAULTS``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import SCons.Script
from SCons.Util import flatten

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.outputs.base import Output
from linuxkit_rules.outputs.registry import by_file, by_name, suffixes
from linuxkit_rules.scons.actions import Node
from linuxkit_rules.scons.image import Image
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
    env: Any, target: Any, source: Any, formats: str | Sequence[str] = (), **overrides: Any
) -> list[Node]:
    """Declare an image; give the nodes of its files.

    ``target`` is the file of one format, known by its suffix (``out/redisos.iso``), or, where ``formats`` are
    named, the files' common beginning (``out/redisos``).  ``source`` is a YAML or several, merged in order.
    ``overrides`` set ``LINUXKIT_*`` variables for this image.  A user's fault ends SCons with status 2.
    """
    try:
        return declare(env.Override(overrides) if overrides else env, target, source, formats)
    except LinuxKitError as error:
        # SCons's own UserError would add a line that names this file as the place of the fault.
        print(f"\nscons: *** {error}", file=sys.stderr)
        sys.exit(2)


def declare(env: Any, target: Any, source: Any, formats: str | Sequence[str]) -> list[Node]:
    """Do what ``linuxkit_image`` says; raise LinuxKitError."""
    folder, name, outputs = _wanted(env, target, formats)
    image = Image(env, folder, name, [env.File(item) for item in flatten([source])])
    for output in outputs:
        image.claim(output)
    return [node for output in outputs for node in image.declare(output)]


def linuxkit_outputs(env: Any, folder: Any, source: Any, **overrides: Any) -> list[Node]:
    """Declare those formats of ``source`` whose files below ``folder`` the command line asks for.

    The files are named after the YAML.  Each target costs time even when nothing is to be done, so a format
    that nobody asked for is not declared; where the command line names none, the hybrid ISO is.
    """
    yml = env.File(flatten([source])[-1])
    name = PurePath(yml.name).stem
    base = env.Dir(folder).File(name)
    asked = _asked(env, base)
    return linuxkit_image(env, base, source, asked or [DEFAULT_FORMAT], **overrides)


def _wanted(env: Any, target: Any, formats: str | Sequence[str]) -> tuple[Node, str, list[Output]]:
    """Give the folder, the image's name, and the outputs to declare."""
    node = env.File(flatten([target])[0])
    if not formats:
        output, name = by_file(node.name)
        return node.dir, name, [output]
    names = formats.split(",") if isinstance(formats, str) else list(formats)
    return node.dir, node.name, [by_name(item) for item in names]


def _asked(env: Any, base: Node) -> list[str]:
    """Give the formats one of whose files the command line names."""
    files = {base.dir.File(base.name + suffix): suffix for suffix, _ in suffixes()}
    nodes = [env.File(item) for item in SCons.Script.COMMAND_LINE_TARGETS if not _is_folder(item)]
    return list(dict.fromkeys(by_file(f"x{files[node]}")[0].name for node in nodes if node in files))


def _is_folder(text: Any) -> bool:
    return not isinstance(text, str) or text.endswith("/") or Path(text).is_dir()
