"""Stage ``component``: the image of a component, made of Debian packages and of files laid over.

The lowest layer has the usr-merge links, then come a layer for each package, one for what maintainer scripts
would have made, and one for the component's own files.  The image is as the OCI image specification says
(config.md), with LinuxKit's label org.mobyproject.config.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.lock import Pin
from linuxkit_rules.debian.machine import Machine, machine
from linuxkit_rules.debian.select import choose, declared, ordered
from linuxkit_rules.debian.tree import MERGED, Tree, canonical, with_parents
from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import LinuxKitError, SpecError
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.oci.image import save
from linuxkit_rules.oci.manifest import LAYER
from linuxkit_rules.spec.component import Component
from linuxkit_rules.stages.deb import package_tree
from linuxkit_rules.stages.generated import generated
from linuxkit_rules.stages.kernel_image import kernel_layer
from linuxkit_rules.stages.pack import FIXED_TIME, open_blobs
from linuxkit_rules.stages.stage import Engine, Inputs, Stage, as_json
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

GENERATED, LAID_OVER = "build.yml", "rootfs/"
OWN_LAYERS = frozenset((GENERATED, LAID_OVER))
"""Layers that are the component's own, by what the image's history says of them; the others are packages'."""

_CREATED = "2017-04-18T16:30:00Z"
_UNUSED = ("where", "config", "dockerfile", "modules")


@dataclass(frozen=True, slots=True)
class LaidOver:
    """A file below ``rootfs/``: its path, and its permission bits, or the target of a symbolic link."""

    path: str
    mode: int = 0o644
    link: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to be written; ``origin`` says in the image's history where it comes from."""

    origin: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class ComponentImage(Stage):
    """Makes the image of ``component`` for ``arch`` from the packages ``pins``.

    Input ``file``: the contents of those ``files`` that are no links, in their order.
    """

    name: ClassVar[str] = "component"
    version: ClassVar[int] = 2
    component: Component
    pins: tuple[Pin, ...]
    arch: str
    files: tuple[LaidOver, ...] = ()

    def label(self) -> str:
        """The component's name and the architecture."""
        return f"{self.component.image} {self.arch}"

    def parameters(self) -> dict[str, Any]:
        """Give the fields; of the component only what decides the image's bytes."""
        component = as_json(self.component)
        used = {name: value for name, value in component.items() if name not in _UNUSED}
        return {**super().parameters(), "component": {**used, "label": self.component.label}}

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch the packages and make the image; raise PackageError where a file or library is missing."""
        target = machine(self.arch)
        try:
            trees = self._trees(target, work)
            overlay = Layer(LAID_OVER, tuple(_laid_over(self.files, inputs.get("file", ()))))
            if self.component.kernel:
                layers = [kernel_layer_of(trees, self.pins, work.store), overlay]
            else:
                layers = [*self._layers(target, trees, work.store), overlay]
        except LinuxKitError as error:
            place = f"component {self.component.image}" + (f", {error.where}" if error.where else "")
            error.where = place
            raise
        written = [
            (layer.origin, write_layer(layer.entries, work.store)) for layer in layers if layer.entries
        ]
        return save(work.store, self._config(written), tuple(item for _, item in written))

    def _trees(self, target: Machine, work: Engine) -> dict[str, Tree]:
        pins = {pin.name: pin for pin in self.pins}
        return {name: package_tree(pins[name], work) for name in ordered(self.component, target, pins)}

    def _layers(self, target: Machine, trees: dict[str, Tree], store: Store) -> Iterator[Layer]:
        contents = Contents(store)
        versions = {pin.name: pin.version for pin in self.pins}
        named = declared(self.component, target, trees)
        given = {path: trees[name].entries[path] for name, paths in named.items() for path in paths}
        yield Layer("usr-merge", tuple(_merged_links()))
        there: set[str] = set()
        for name, paths in choose(self.component, target, trees, contents).items():
            there |= paths
            yield Layer(f"{name}={versions[name]}", tuple(with_parents(trees[name], paths)))
        yield Layer(GENERATED, tuple(generated(self.component, given, there, contents)))

    def _config(self, layers: Sequence[tuple[str, Descriptor]]) -> bytes:
        component = self.component
        config: dict[str, Any] = {
            "Entrypoint": list(component.entrypoint),
            "Cmd": list(component.cmd),
            "Env": list(component.env),
            "WorkingDir": component.workdir,
            "User": component.user,
            "Labels": {"org.mobyproject.config": component.label} if component.label else {},
        }
        value: dict[str, Any] = {
            "architecture": self.arch,
            "config": {name: item for name, item in config.items() if item},
            "created": _CREATED,
            "history": [{"created": _CREATED, "created_by": origin} for origin, _ in layers],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(item.digest) for _, item in layers]},
        }
        if self.arch == "arm64":
            value["variant"] = "v8"
        return canonical_json(value)


def overlay(folder: Path) -> tuple[tuple[LaidOver, ...], tuple[Path, ...]]:
    """List a component's ``rootfs/``: what is laid over, and the local files of those that are no links.

    ``folder`` is the component's.  Both are in the order of paths.  Raises SpecError for what is neither a
    file, a directory nor a link.
    """
    base = folder / "rootfs"
    found = sorted(_walk(base, base)) if base.is_dir() else []
    laid = tuple(item for _, item in found)
    return laid, tuple(base / path for path, item in found if not item.link)


def _walk(base: Path, folder: Path) -> Iterator[tuple[str, LaidOver]]:
    for item in folder.iterdir():
        path = item.relative_to(base).as_posix()
        mode = item.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield path, LaidOver(canonical(path), 0o777, os.readlink(item))  # noqa: PTH115 - keeps it as written
        elif stat.S_ISDIR(mode):
            yield from _walk(base, item)
        elif stat.S_ISREG(mode):
            yield path, LaidOver(canonical(path), 0o755 if mode & stat.S_IXUSR else 0o644)
        else:
            raise SpecError("is neither a file, a directory nor a symbolic link", where=str(item))


def write_layer(entries: Iterable[Entry], store: Store) -> Descriptor:
    """Store a layer of ``entries``, all with the fixed time, as plain tar."""
    with store.writer() as writer, open_blobs(store) as copy:
        archive = tar.Writer(writer)
        for entry in entries:
            archive.add(replace(entry, mtime=FIXED_TIME), copy)
        archive.close()
        return writer.commit(LAYER)


def kernel_layer_of(trees: dict[str, Tree], pins: tuple[Pin, ...], store: Store) -> Layer:
    """Give the layer of a kernel image: /kernel and /kernel.tar, as LinuxKit's kernel images have them."""
    ((name, tree),) = trees.items()
    return Layer(f"{name}={pins[0].version}", tuple(kernel_layer(tree, store)))


def _merged_links() -> Iterator[Entry]:
    usr = ("usr", *(f"usr/{name}" for name in MERGED))
    paths = sorted((*MERGED, *usr))
    for path in paths:
        if path in MERGED:
            yield Entry(path, Kind.SYMLINK, 0o777, link=f"usr/{path}")
        else:
            yield Entry(path, Kind.DIRECTORY, 0o755)


def _laid_over(files: Sequence[LaidOver], contents: Sequence[Descriptor]) -> Iterator[Entry]:
    """Give entries for the files laid over, with the directories above them, each before what it holds."""
    blobs = iter(contents)
    entries: dict[str, Entry] = {}
    for item in files:
        parts = item.path.split("/")
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            entries.setdefault(above, Entry(above, Kind.DIRECTORY, 0o755))
        if item.link:
            entries[item.path] = Entry(item.path, Kind.SYMLINK, 0o777, link=item.link)
        else:
            blob = next(blobs)
            content = Slice(blob.digest, 0, blob.size) if blob.size else b""
            entries[item.path] = Entry(item.path, Kind.FILE, item.mode, content=content)
    return (entries[path] for path in sorted(entries))
