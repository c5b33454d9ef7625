"""Host programs out of locked Debian packages: unpacked once below the store, and run in place.

A tool is a component like any other, in the library's folder ``tools``.  Its programs run by the dynamic
linker and the libraries of their own packages, so nothing has to be
installed and nothing of the host's is loaded.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path

from linuxkit_rules.debian.lock import Lock
from linuxkit_rules.debian.machine import machine
from linuxkit_rules.debian.tree import canonical
from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import PackageError
from linuxkit_rules.formats import elf
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.spec.component import load_component
from linuxkit_rules.stages.component import ComponentImage, overlay
from linuxkit_rules.stages.pack import open_blobs
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.usage import TOOLS, cannot_write
from linuxkit_rules.values import dataclass

LIBRARY = Path(__file__).resolve().parents[1] / "tools"
"""Where the folders of tools lie, each with its build.yml."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program ``path`` of the tool unpacked at ``root``."""

    root: Path
    path: str

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments that start it, before its own; raise PackageError where it is not there."""
        file = self.root / self.path
        if not file.is_file():
            raise PackageError(f"the tool has no program {self.path}", where=str(self.root))
        found = elf.read(file.read_bytes())
        if found.interpreter is None:
            return (str(file),)
        linker = self.root / canonical(found.interpreter)
        return (str(linker), "--library-path", ":".join(self._libraries(found.machine)), str(file))

    def _libraries(self, number: int) -> list[str]:
        known = (machine(arch) for arch in ("amd64", "arm64"))
        folders = [folder for item in known if item.elf == number for folder in item.libraries]
        return [str(self.root / folder) for folder in folders if (self.root / folder).is_dir()]


def install(engine: Engine, name: str, lock: Lock, arch: str = "amd64", library: Path = LIBRARY) -> Path:
    """Give the folder in which the tool ``name`` for machines ``arch`` lies unpacked.

    It is made where it is missing.  Raises PackageError where the tool is not locked, and what its packages'
    fetching raises.
    """
    folder = library / name
    component = load_component(folder / "build.yml")
    laid, paths = overlay(folder)
    files = [engine.store.put_file(path) for path in paths]
    stage = ComponentImage(component, lock.pins(component, arch), arch, laid)
    return unpack_image(engine, engine.run(stage, {"file": files}).output)


def unpack_image(engine: Engine, image: Descriptor) -> Path:
    """Give the folder ``<store>/tools/<digest>`` with an image's files; make it where it is missing.

    Files belong to whoever runs this; set-id bits and devices are left out; absolute links become relative.
    """
    store = engine.store
    target = store.root / TOOLS / image.digest.hex
    if store.keeps_folder(target):
        return target
    with store.exclusive(f"tool-{image.digest.hex}"):
        if store.keeps_folder(target):
            return target
        tree = image_tree(image, engine, f"tool {image.digest}")
        try:
            with store.scratch_folder() as folder:
                _write(tree, folder, engine)
                os.sync()  # once, where thousands of files would take as many fsyncs
                folder.chmod(0o755)
                target.parent.mkdir(exist_ok=True)
                folder.rename(target)
        except OSError as error:
            raise cannot_write(target, error, "unpack a tool") from error
    return target


def _write(tree: Mapping[str, Entry], folder: Path, engine: Engine) -> None:
    """Write ``tree``, whose parents come first and whose paths cross no link, below ``folder``."""
    with open_blobs(engine.store) as copy:
        for path, entry in tree.items():
            place = folder / path
            if entry.kind is Kind.DIRECTORY:
                place.mkdir(exist_ok=True)
            elif entry.kind is Kind.SYMLINK:
                place.symlink_to(_relative(entry))
            elif entry.kind is Kind.HARDLINK:
                os.link(folder / entry.link, place)
            elif entry.kind is Kind.FILE:
                with place.open("xb") as out:
                    copy(entry.content, out)
                place.chmod(0o755 if entry.mode & 0o111 else 0o644)


def _relative(link: Entry) -> str:
    if not link.link.startswith("/"):
        return link.link
    return posixpath.relpath(canonical(link.link), posixpath.dirname(link.path) or ".")
