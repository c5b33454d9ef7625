"""Stage ``component``: the image of a component, made of Debian packages and of files laid over.

Planning needs the stage and not what it runs, which is in ``component_image.py``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from linuxkit_rules.debian.lock import Pin
from linuxkit_rules.debian.tree import canonical
from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec.component import Component
from linuxkit_rules.stages.stage import Engine, Inputs, Stage, as_json
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

GENERATED, LAID_OVER = "build.yml", "rootfs/"
OWN_LAYERS = frozenset((GENERATED, LAID_OVER))
"""Layers that are the component's own, by what the image's history says of them; the others are packages'."""

_UNUSED = ("where", "config", "dockerfile", "modules")


@dataclass(frozen=True, slots=True)
class LaidOver:
    """A file below ``rootfs/``: its path, and its permission bits, or the target of a symbolic link."""

    path: str
    mode: int = 0o644
    link: str = ""


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
        from linuxkit_rules.stages.component_image import make

        return make(self, inputs, work)


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
