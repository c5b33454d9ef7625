"""Stage ``files``: the segment of the YAML's ``files:``.

As LinuxKit has it (src/cmd/linuxkit/moby/build/build.go, filesystem): a mode defaults to 0600, a directory's
to 0700; the directories above a file, where this section has not made them, get the file's owner and its mode
plus x wherever r, w or x is set.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.spec.linuxkit import File, Spec, normal
from linuxkit_rules.spec.metadata import metadata
from linuxkit_rules.stages.join import whole
from linuxkit_rules.stages.pack import FIXED_TIME, PackingStage
from linuxkit_rules.stages.stage import Engine, Inputs
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of ``files:``: ``text`` or the input ``source:<index>`` is a file's content."""

    path: str
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    link: str = ""
    text: str | None = None


@dataclass(frozen=True)
class Files(PackingStage):
    """Packs ``items``; an input ``source:<index>`` for each file without text."""

    name: ClassVar[str] = "files"
    version: ClassVar[int] = 1
    items: tuple[Item, ...] = ()

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Pack them; of two records of one path the later counts."""
        sources = {role: descriptors[0] for role, descriptors in inputs.items()}
        tree = layout(self.items, lambda index: sources[f"source:{index}"])
        return Result(self.packed(tree.values(), inputs, work.store))


def layout(items: tuple[Item, ...], source: Callable[[int], Descriptor]) -> dict[str, Entry]:
    """Give the tree of the items, every directory before what is in it."""
    tree: dict[str, Entry] = {}
    made: set[str] = set()
    for index, item in enumerate(items):
        written = item.path.removeprefix("/")
        above = posixpath.dirname(written)
        parts = [part for part in above.split("/") if part not in ("", ".")]
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            if path not in made:
                made.add(path)
                tree[path] = _entry(path, Kind.DIRECTORY, _searchable(item.mode), item)
        made.add(written)
        tree[normal(written)] = _member(item, index, source)
    return dict(sorted(tree.items(), key=lambda pair: pair[0].split("/")))


def _member(item: Item, index: int, source: Callable[[int], Descriptor]) -> Entry:
    path = normal(item.path)
    if item.kind is Kind.SYMLINK:
        return _entry(path, item.kind, 0o777, item, link=item.link)
    if item.kind is Kind.DIRECTORY:
        return _entry(path, item.kind, item.mode, item)
    content = whole(source(index)) if item.text is None else item.text.encode("utf-8", "surrogateescape")
    return _entry(path, item.kind, item.mode, item, content=content)


def _entry(path: str, kind: Kind, mode: int, item: Item, **more: object) -> Entry:
    return Entry(path, kind, mode, item.uid, item.gid, FIXED_TIME, **more)  # type: ignore[arg-type]


def _searchable(mode: int) -> int:
    """Add x for those who have any permission."""
    for bits, search in ((0o700, 0o100), (0o070, 0o010), (0o007, 0o001)):
        mode |= search if mode & bits else 0
    return mode


def items(spec: Spec, find: Callable[[File], Path | None]) -> tuple[tuple[Item, ...], dict[str, Path]]:
    """Give the stage's items, and the local file for each role ``source:<index>``.

    ``find`` gives the path of a file's ``source``, or None to leave the file out (optional, and not there).
    """
    found: list[Item] = []
    sources: dict[str, Path] = {}
    ids = {"": 0, "root": 0, **spec.ids()}
    for file in spec.files:
        text = metadata(spec, file.metadata) if file.metadata else file.contents
        if file.source:
            path = find(file)
            if path is None:
                continue
            sources[f"source:{len(found)}"] = path
        kind = Kind.DIRECTORY if file.directory else Kind.SYMLINK if file.symlink else Kind.FILE
        mode = int(file.mode or ("0700" if file.directory else "0600"), 8)
        uid, gid = (ids[value] if isinstance(value, str) else value or 0 for value in (file.uid, file.gid))
        found.append(Item(file.path, kind, mode, uid, gid, file.symlink, text))
    return tuple(found), sources
