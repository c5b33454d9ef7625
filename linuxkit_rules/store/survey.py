"""What is in a store: entries, blobs and folders, with their sizes and when they were last used."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from linuxkit_rules.errors import FormatError
from linuxkit_rules.store.memory import ENTRIES, Entry
from linuxkit_rules.store.promises import PROMISES
from linuxkit_rules.store.usage import TOOLS
from linuxkit_rules.values import dataclass

PLANS = "plans"
BUILDS = "builds"
PLACE = "place"
"""File in a folder of ``builds/`` that names the folder of the outputs."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A file or folder of the store: its ``size`` in bytes, ``used`` in seconds since 1970."""

    path: Path
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """An entry and its file; ``entry`` None is a damaged one."""

    file: Thing
    entry: Entry | None


@dataclass(frozen=True)
class Survey:
    """All that is in a store; ``blobs`` by their hex digits.  Temporary files and locks are not in it.

    ``promises`` are of blobs that a remote cache has.
    """

    entries: tuple[Remembered, ...]
    blobs: Mapping[str, Thing]
    tools: tuple[Thing, ...]
    plans: tuple[Thing, ...]
    builds: tuple[Thing, ...]
    promises: tuple[Thing, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        files = (item.file for item in self.entries)
        return sum(
            item.size
            for group in (
                files,
                self.blobs.values(),
                self.tools,
                self.plans,
                self.builds,
                self.promises,
            )
            for item in group
        )

    def is_whole(self, entry: Entry) -> bool:
        """Whether all blobs of ``entry`` are there, with their sizes, or promised."""
        return all(
            self.blobs[name].size == item.size if name in self.blobs else name in self.promised
            for item in entry.result.blobs
            for name in (item.digest.hex,)
        )

    @functools.cached_property
    def promised(self) -> frozenset[str]:
        """Names of the blobs that are promised."""
        return frozenset(item.path.name for item in self.promises)

    def last_use(self, item: Remembered) -> float:
        """Give when an entry or what it gave was used last: a build with nothing to do uses blobs alone."""
        output = self.blobs.get(item.entry.result.output.digest.hex) if item.entry else None
        return max(item.file.used, output.used if output else 0.0)


def survey(root: Path) -> Survey:
    """Look at the store at ``root``; what others remove meanwhile is not in it.  Raises OSError."""
    # Entries first: the blobs of one that a build writes meanwhile are there already.
    entries = tuple(Remembered(item, _entry(item.path)) for item in _files(root / ENTRIES))
    return Survey(
        entries=entries,
        blobs={item.path.name: item for item in _files(root / "blobs" / "sha256")},
        tools=tuple(_folders(root / TOOLS)),
        plans=tuple(item for item in _files(root / PLANS)),
        builds=tuple(_folders(root / BUILDS)),
        promises=tuple(item for folder in _scan(root / PROMISES) for item in _files(Path(folder.path))),
    )


def _entry(path: Path) -> Entry | None:
    try:
        return Entry.parse(path.read_bytes())
    except (OSError, FormatError):
        return None


def _files(folder: Path) -> Iterator[Thing]:
    for item in _scan(folder):
        with contextlib.suppress(FileNotFoundError):
            state = item.stat(follow_symlinks=False)
            if item.is_file(follow_symlinks=False):
                yield Thing(Path(item.path), state.st_size, state.st_mtime)


def _folders(folder: Path) -> Iterator[Thing]:
    for item in _scan(folder):
        with contextlib.suppress(FileNotFoundError):
            if item.is_dir(follow_symlinks=False):
                used = item.stat(follow_symlinks=False).st_mtime
                yield Thing(Path(item.path), _size(item.path), used)


def _size(folder: str) -> int:
    total = 0
    for item in _scan(Path(folder)):
        with contextlib.suppress(FileNotFoundError):
            if item.is_dir(follow_symlinks=False):
                total += _size(item.path)
            else:
                total += item.stat(follow_symlinks=False).st_size
    return total


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda item: item.name)
    except FileNotFoundError:
        return []
