"""LinuxKit's YAML: kernel, init, onboot, onshutdown, services, files and volumes as frozen dataclasses.

Beside what counts, each part keeps its place for messages (``where``) and its YAML's folder (``base``).

Keys and types are LinuxKit's (src/cmd/linuxkit/moby: schema.go, config.go).  All faults of a file are told at
once.  What the parts of a file, or several files, say about each other is looked at in ``merge.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import Decoder, NotedError, hidden, key, keys_of
from linuxkit_rules.spec.image import ImageConfig
from linuxkit_rules.spec.yamlfile import Node, parse

Kind = Literal["onboot", "onshutdown", "services"]
KINDS: tuple[Kind, ...] = ("onboot", "onshutdown", "services")
"""The sections of containers, in the order in which they are laid out."""

FIRST_ID = 100
"""Containers are numbered from here on, and their names stand for these numbers as uid and gid."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel's image, and which of its files are taken; ``tar`` None is kernel.tar, ``none`` is none."""

    image: str = ""
    cmdline: str = ""
    binary: str = ""
    tar: str | None = None
    ucode: str | None = None
    where: str = hidden("")
    base: str = hidden("")


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory, empty or filled from an image, that containers bind by its name."""

    name: str = key(check=checks.volume_name)
    image: str = ""
    readonly: bool = False
    format: Literal["", "oci", "filesystem"] = ""
    platforms: tuple[str, ...] = ()
    where: str = hidden("")
    base: str = hidden("")

    @property
    def merged(self) -> str:
        """Where the volume is mounted in the running system."""
        return f"/containers/volumes/{self.name}/merged"


@dataclass(frozen=True, slots=True)
class File:
    """A file, directory or symbolic link laid over everything; ``where`` is its place in the YAML."""

    path: str
    directory: bool = False
    symlink: str = ""
    contents: str | None = None
    source: str = ""
    metadata: Literal["", "yaml", "json"] = ""
    optional: bool = False
    mode: str = key("", check=checks.octal_or_empty)
    uid: int | str | None = key(None, check=checks.identity)
    gid: int | str | None = key(None, check=checks.identity)
    where: str = hidden("")
    base: str = hidden("")


@dataclass(frozen=True, slots=True)
class Container:
    """An entry of onboot, onshutdown or services.

    ``where`` is its place in the YAML; ``places`` pairs paths below it (``binds[1]``) with theirs;
    ``path`` is the container's own (``services[0]``).
    """

    name: str = key(check=checks.container_name)
    image: str = key(check=checks.image)
    config: ImageConfig = dataclasses.field(default=ImageConfig(), metadata={"hidden": True})
    where: str = hidden("")
    base: str = hidden("")
    places: tuple[tuple[str, str], ...] = hidden(())
    path: str = hidden("")

    def place(self, path: str) -> str:
        """Give ``file:line:column`` of ``path`` in this container, or of the container."""
        return dict(self.places).get(path, self.where)

    def fault(self, path: str, message: str, hint: str | None = None) -> SpecError:
        """Give the error that says ``message`` of ``path`` in this container."""
        return SpecError(f"{self.path}.{path}: {message}", where=self.place(path), hint=hint)


def _containers(decoder: Decoder, node: Node, path: str) -> tuple[Container, ...]:
    return tuple(decoder.each(node, path, lambda item, below: _container(decoder, item, below)))


def _container(decoder: Decoder, node: Node, path: str) -> Container:
    before = len(decoder.faults)
    decoder.known(node, path, [*keys_of(Container), *keys_of(ImageConfig)])
    own, config = decoder.fields(Container, node, path), decoder.fields(ImageConfig, node, path)
    if len(decoder.faults) > before:
        raise NotedError
    prefix = f"{path}."
    places = tuple(
        (name.removeprefix(prefix), where)
        for name, where in decoder.places.items()
        if name.startswith(prefix)
    )
    return Container(
        **own,
        config=ImageConfig(**config),
        where=node.where,
        base=decoder.base,
        places=places,
        path=path,
    )


def _files(decoder: Decoder, node: Node, path: str) -> tuple[File, ...]:
    return tuple(decoder.each(node, path, lambda item, below: _file(decoder, item, below)))


def _file(decoder: Decoder, node: Node, path: str) -> File:
    file = decoder.record(File, node, path, where=node.where, base=decoder.base)
    problem = _path_problem(file) or _content_problem(file)
    if problem:
        raise decoder.fault(node.where, path, problem)
    return file


def _path_problem(file: File) -> str | None:
    if ".." in file.path.split("/"):
        return f"path {file.path!r} must not hold .."
    if "\0" in file.path or not posixpath.normpath("/" + file.path).strip("/"):
        return f"path {file.path!r} names no file"
    if not file.directory and file.path.endswith(("/", "/.")):
        return f"path {file.path!r} names a directory; say directory: true, or leave the slash out"
    return None


def _content_problem(file: File) -> str | None:
    given = [
        name
        for name, there in (
            ("directory", file.directory),
            ("symlink", file.symlink != ""),
            ("contents", file.contents is not None),
            ("source", file.source != ""),
            ("metadata", file.metadata != ""),
        )
        if there
    ]
    if len(given) > 1:
        return f"{file.path} has {' and '.join(given)}: only one of them can be"
    if not given:
        return f"{file.path} needs one of contents, source, metadata, symlink or directory"
    return None


def _volumes(decoder: Decoder, node: Node, path: str) -> tuple[Volume, ...]:
    return tuple(
        decoder.each(
            node,
            path,
            lambda item, below: decoder.record(Volume, item, below, where=item.where, base=decoder.base),
        )
    )


def _kernel(decoder: Decoder, node: Node, path: str) -> Kernel:
    return decoder.record(Kernel, node, path, where=node.where, base=decoder.base)


@dataclass(frozen=True, slots=True)
class Spec:
    """What one YAML says, or several merged.

    ``init_places`` are the places of the init images, ``init_bases`` the folders of their YAMLs.
    """

    kernel: Kernel = key(Kernel(), read=_kernel)  # noqa: RUF009 - key gives a dataclasses.field
    init: tuple[str, ...] = key((), check=checks.image)
    onboot: tuple[Container, ...] = key((), read=_containers)
    onshutdown: tuple[Container, ...] = key((), read=_containers)
    services: tuple[Container, ...] = key((), read=_containers)
    files: tuple[File, ...] = key((), read=_files)
    volumes: tuple[Volume, ...] = key((), read=_volumes)
    init_places: tuple[str, ...] = hidden(())
    init_bases: tuple[str, ...] = hidden(())

    def containers(self) -> list[tuple[Kind, int, Container]]:
        """Give every container with its section and its index there, in the order of the layout."""
        return [(kind, index, item) for kind in KINDS for index, item in enumerate(getattr(self, kind))]

    def ids(self) -> dict[str, int]:
        """Give the number for which each container's name stands as uid or gid; a later one counts."""
        return {item.name: FIRST_ID + index for index, (_, _, item) in enumerate(self.containers())}


def load(path: Path, name: str | None = None) -> Spec:
    """Read ``path``, shown as ``name`` in messages; raise SpecError or ErrorList."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=name or str(path)) from None
    return loads(data, name or str(path), str(path.parent))


def loads(text: bytes | str, name: str, base: str = ".") -> Spec:
    """Read LinuxKit's YAML; ``name`` stands for the file in messages.  Raise SpecError or ErrorList.

    Relative paths in it count from the folder ``base``, which is kept beside them.  References across
    containers are not looked at: ``merge`` does that, for one spec too.
    """
    node, decoder = parse(text, name), Decoder(base)
    spec: Spec | None = None
    with contextlib.suppress(NotedError):
        spec = decoder.record(Spec, node, "")
    decoder.finish()
    if spec is None:
        raise SpecError("cannot be read", where=name)
    places = tuple(decoder.places[f"init[{index}]"] for index in range(len(spec.init)))
    return dataclasses.replace(spec, init_places=places, init_bases=(base,) * len(places))


def normal(path: str) -> str:
    """Give a file's path as trees have it: relative, without empty parts and dots."""
    return posixpath.normpath("/" + path).strip("/")
