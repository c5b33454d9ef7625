"""A spec that counts all paths from the current folder, so that one YAML there says the same."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, TypeVar

from linuxkit_rules.errors import SpecError
from linuxkit_rules.oci.reference import (
    ArchiveSource,
    DirectorySource,
    LayoutSource,
    LibrarySource,
    parse_source,
)
from linuxkit_rules.plan.memo import Evidence
from linuxkit_rules.plan.template import LIBRARY, located
from linuxkit_rules.spec.linuxkit import Container, File, Kernel, Spec, Volume
from linuxkit_rules.spec.metadata import metadata
from linuxkit_rules.spec.trust import Policy, Trust

Part = TypeVar("Part", Kernel, Container, Volume)


def relocated(spec: Spec) -> Spec:
    """Give ``spec`` with every relative path counted from the current folder.

    The text that a file has by ``metadata:`` stays what it was: where paths move it becomes ``contents:``.
    Raises SpecError for a path that a YAML cannot say.
    """
    moved = dataclasses.replace(
        spec,
        kernel=_part(spec.kernel, spec.kernel.where),
        init=tuple(
            _image(text, base, where)
            for text, base, where in zip(spec.init, spec.init_bases, spec.init_places, strict=True)
        ),
        onboot=tuple(_part(item, item.place("image")) for item in spec.onboot),
        onshutdown=tuple(_part(item, item.place("image")) for item in spec.onshutdown),
        services=tuple(_part(item, item.place("image")) for item in spec.services),
        volumes=tuple(_part(item, item.where) for item in spec.volumes),
        files=tuple(_file(item) for item in spec.files),
        trust=_trust(spec.trust),
    )
    return moved if moved == spec else dataclasses.replace(moved, files=_settled(moved.files, spec))


def _settled(files: tuple[File, ...], spec: Spec) -> tuple[File, ...]:
    return tuple(
        dataclasses.replace(file, contents=metadata(spec, file.metadata), metadata="")
        if file.metadata
        else file
        for file in files
    )


def _part(part: Part, where: str) -> Part:
    changes: dict[str, Any] = {"image": _image(part.image, part.base, where)} if part.image else {}
    return dataclasses.replace(part, **changes)


def _trust(trust: Trust) -> Trust:
    keys = (
        _path(text, base, trust.place(f"keys[{index}]"))
        for index, (text, base) in enumerate(zip(trust.keys, trust.key_bases, strict=True))
    )
    return dataclasses.replace(trust, keys=tuple(keys), policy=tuple(map(_policy, trust.policy)))


def _policy(policy: Policy) -> Policy:
    keys = (
        _path(text, policy.base, policy.place(f"keys[{index}]")) for index, text in enumerate(policy.keys)
    )
    return dataclasses.replace(policy, keys=tuple(keys))


def _file(file: File) -> File:
    if not file.source or file.source.startswith("~/"):
        return file
    return dataclasses.replace(file, source=_path(file.source, file.base, file.where))


def _image(text: str, base: str, where: str) -> str:
    source = parse_source(text)
    if base in ("", "."):
        return text
    if isinstance(source, LibrarySource):
        if located(source, Path(base), Evidence()).is_relative_to(LIBRARY):
            return text
        source = DirectorySource(f"./{source.name}")
    if isinstance(source, DirectorySource):
        path = _path(source.directory, base, where)
        return str(DirectorySource(path if path.startswith(("/", "./", "../")) else f"./{path}"))
    if isinstance(source, LayoutSource):
        path = _path(source.directory, base, where)
        source = dataclasses.replace(source, directory=path)
    elif isinstance(source, ArchiveSource):
        path = _path(source.file, base, where)
        source = dataclasses.replace(source, file=path)
    else:
        return text
    if ":" in path:
        hint = "call moby in another folder, or rename that one"
        raise SpecError(f"{text!r} cannot be written with the folder {base!r}", where=where, hint=hint)
    return str(source)


def _path(path: str, base: str, where: str) -> str:
    """Give ``path``, which counts from ``base``, counted from the current folder."""
    joined = os.path.join(base, path)  # noqa: PTH118 - the path is to stay a text
    if base in ("", ".") or joined == path:
        return path
    if not joined.isprintable():
        raise SpecError(f"the folder {base!r} cannot be written in a YAML", where=where)
    plain = os.path.normpath(joined)
    if os.path.realpath(plain) == os.path.realpath(joined):
        joined = plain
    return f"./{joined}" if joined.startswith("~/") else joined
