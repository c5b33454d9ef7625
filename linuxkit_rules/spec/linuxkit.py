"""LinuxKit's YAML as frozen dataclasses: kernel, init, containers, files, volumes; and 2017's outputs, trust.

Beside what counts, each part keeps its place for messages (``where``) and its YAML's folder (``base``).

Keys and types are LinuxKit's (src/cmd/linuxkit/moby: schema.go, config.go).  All faults of a file are told at
once.  What the parts of a file, or several files, say about each other is looked at in ``merge.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import Decoder, NotedError, hidden, key, keys_of
from linuxkit_rules.spec.image import ImageConfig
from linuxkit_rules.spec.legacy import Output, read_outputs
from linuxkit_rules.spec.trust import Trust, read_trust
from linuxkit_rules.spec.yamlfile import Node, parse
from linuxkit_rules.values import dataclass

Kind = Literal["onboot", "onshutdown", "services"]
KINDS: tuple[Kind, ...] = ("onboot", "onshutdown", "services")
"""The sections of containers, in the order in which they are laid out."""

PATH_MAX = 4096
"""The longest path that Linux takes, in bytes, with the NUL that ends it."""

FIRST_ID = 100
"""Containers are numbered from here on, and their names stand for these numbers as uid and gid."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel's image, and which of its files are taken; ``tar`` None is kernel.tar, ``none`` is none."""

    image: str = key("", doc="Image that holds the kernel. A later YAML's replaces it, as each key here.")
    cmdline: str = key("", doc="The kernel's command line.")
    binary: str = key("", doc="The kernel's file in the image. Default: kernel.")
    tar: str | None = key(
        None, doc="Archive in the image, with the kernel's modules; none for no modules. Default: kernel.tar."
    )
    ucode: str | None = key(
        None, doc="Archive of microcode in the image, which is laid before the initrd. Default: none."
    )
    where: str = hidden("")
    base: str = hidden("")


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory, empty or filled from an image, that containers bind by its name."""

    name: str = key(check=checks.volume_name, doc="Name by which containers bind the volume; unique.")
    image: str = key("", doc="Image that fills the volume. Default: it is empty.")
    readonly: bool = key(False, doc="Whether it can only be read; containers must then bind it with ro.")
    format: Literal["", "oci", "filesystem"] = key(
        "", doc="filesystem: the image's files; oci: the image as an OCI layout. Default: filesystem."
    )
    platforms: tuple[str, ...] = key(
        (), doc='With format oci, the platforms of the image that are taken: "linux/arm64". Default: all.'
    )
    where: str = hidden("")
    base: str = hidden("")

    @property
    def merged(self) -> str:
        """Where the volume is mounted in the running system."""
        return f"/containers/volumes/{self.name}/merged"


@dataclass(frozen=True, slots=True)
class File:
    """A file, directory or symbolic link laid over everything; ``where`` is its place in the YAML."""

    path: str = key(doc="Where it lies in the system; missing directories above it are made.")
    directory: bool = key(False, doc="Make a directory.")
    symlink: str = key("", doc="Make a symbolic link with this target.")
    contents: str | None = key(None, doc="Make a file with this text.")
    source: str = key(
        "", doc="Make a file of a local one; the path counts from the YAML's folder, or from ~/ of the user."
    )
    metadata: Literal["", "yaml", "json"] = key(
        "", doc="Make a file that holds this configuration, in the form named."
    )
    optional: bool = key(False, doc="Whether a source that is not there is left out, and no fault.")
    mode: str = key(
        "",
        check=checks.octal_or_empty,
        doc='Permission bits as octal text: "0644". Default: 0600, for directories 0700. Directories made'
        " above get the same, and x where r, w or x is set.",
    )
    uid: int | str | None = key(
        None, check=checks.identity, doc="Owner: a number, or a container's name for its number. Default: 0."
    )
    gid: int | str | None = key(
        None, check=checks.identity, doc="Group: a number, or a container's name for its number. Default: 0."
    )
    where: str = hidden("")
    base: str = hidden("")


@dataclass(frozen=True, slots=True)
class Container:
    """An entry of onboot, onshutdown or services.

    ``where`` is its place in the YAML; ``places`` pairs paths below it (``binds[1]``) with theirs;
    ``path`` is the container's own (``services[0]``).
    """

    name: str = key(
        check=checks.container_name,
        doc="The container's name, which is a directory's name; unique in services.",
    )
    image: str = key(
        check=checks.image,
        doc="Its image: @pkg:NAME, @pkg:./FOLDER, oci:FOLDER, docker-archive:FILE, oci-archive:FILE,"
        " or a registry's reference.",
    )
    config: ImageConfig = dataclasses.field(default=ImageConfig(), metadata={"hidden": True, "beside": True})
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
    known = len(decoder.places)
    own, config = decoder.fields(Container, node, path), decoder.fields(ImageConfig, node, path)
    if len(decoder.faults) > before:
        raise NotedError
    below = itertools.islice(reversed(decoder.places.items()), len(decoder.places) - known)
    places = tuple((name.removeprefix(f"{path}."), where) for name, where in below)[::-1]
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
    if len(file.path.encode("utf-8", "surrogatepass")) >= PATH_MAX:
        return f"the path is longer than {PATH_MAX - 1} bytes"
    if ".." in file.path.split("/"):
        return f"path {file.path!r} must not hold .."
    if "\0" in file.path or not posixpath.normpath("/" + file.path).strip("/"):
        return f"path {file.path!r} names no file"
    if not file.directory and file.path.endswith(("/", "/.")):
        return f"path {file.path!r} names a directory; say directory: true, or leave the slash out"
    return None


def _content_problem(file: File) -> str | None:
    if "\0" in file.source:
        return f"source {file.source!r} names no file"
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

    kernel: Kernel = key(
        Kernel(), read=_kernel, doc="The kernel. A later YAML replaces those of its keys that it gives."
    )
    init: tuple[str, ...] = key(
        (), check=checks.image, doc="Images laid over each other as the root file system. YAMLs are appended."
    )
    onboot: tuple[Container, ...] = key(
        (),
        read=_containers,
        doc="Containers run once while booting, one after the other. YAMLs are appended.",
    )
    onshutdown: tuple[Container, ...] = key(
        (), read=_containers, doc="Containers run once at shutdown, one after the other. YAMLs are appended."
    )
    services: tuple[Container, ...] = key(
        (), read=_containers, doc="Containers that run all the time, at once. YAMLs are appended."
    )
    files: tuple[File, ...] = key(
        (), read=_files, doc="Files, directories and links laid over everything. YAMLs are appended."
    )
    volumes: tuple[Volume, ...] = key(
        (), read=_volumes, doc="Directories that containers bind by their names. YAMLs are appended."
    )
    trust: Trust = key(
        Trust(), read=read_trust, doc="Whose images must be signed, and by which keys. YAMLs are appended."
    )
    outputs: tuple[Output, ...] = key(
        (), read=read_outputs, doc="Formats that are made where the command names none. YAMLs are appended."
    )
    init_places: tuple[str, ...] = hidden(())
    init_bases: tuple[str, ...] = hidden(())

    def containers(self) -> list[tuple[Kind, int, Container]]:
        """Give every container with its section and its index there, in the order of the layout."""
        return [(kind, index, item) for kind in KINDS for index, item in enumerate(getattr(self, kind))]

    def images(self) -> Iterator[tuple[str, str]]:
        """Give every image as it is written, with its place."""
        if self.kernel.image:
            yield self.kernel.image, self.kernel.where
        yield from zip(self.init, self.init_places, strict=True)
        yield from ((item.image, item.where) for item in self.volumes if item.image)
        yield from ((item.image, item.place("image")) for _, _, item in self.containers())

    def ids(self) -> dict[str, int]:
        """Give the number for which each container's name stands as uid or gid; a later one counts."""
        return {item.name: FIRST_ID + index for index, (_, _, item) in enumerate(self.containers())}


def load(path: Path, name: str | None = None, base: Path | None = None) -> Spec:
    """Read ``path``, shown as ``name`` in messages; raise SpecError or ErrorList.

    Relative paths in it count from the folder ``base``, or its own.
    """
    shown = name or str(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise SpecError("is a folder, where a file is needed", where=shown)
        if not stat.S_ISREG(mode):
            raise SpecError("is no regular file", where=shown, hint="moby build - reads standard input")
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=shown) from None
    return loads(data, shown, str(path.parent if base is None else base))


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
