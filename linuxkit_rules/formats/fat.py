"""FAT12, FAT16 and FAT32 volumes, written: every file in one piece, nothing left to chance.

Microsoft, "FAT: General Overview of On-Disk Format", version 1.03 (also ECMA-107); the names of the fields
are from there.  ``fat_read`` is the other direction.

A volume is laid out before it is written, so where each file's bytes lie is known and can be pointed at.
Data begin at a multiple of the cluster size or, where files are aligned to more, of that, counted from the
volume's beginning.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from itertools import repeat

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import fat_names
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.formats.fat_names import ARCHIVE, DIRECTORY, ENTRY_SIZE, VOLUME_ID
from linuxkit_rules.formats.fat_sectors import (
    BACKUP_SECTOR,
    FATS,
    MEDIA,
    SECTOR,
    SIGNATURE,
    Geometry,
    Kind,
    Volume,
    boot_sector,
    choose,
    fsinfo,
    pack_fat,
    size_areas,
)
from linuxkit_rules.formats.streams import Copy, SupportsWrite
from linuxkit_rules.values import dataclass

_MAX_FILE = 2**32 - 1


@dataclass(frozen=True, slots=True)
class File:
    """A file to be written: its path (``EFI/BOOT/BOOTX64.EFI``) and its bytes, in one or more pieces."""

    path: str
    parts: tuple[bytes | Slice, ...] = ()

    @property
    def size(self) -> int:
        """Length in bytes."""
        return sum(len(part) if isinstance(part, bytes) else part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Extent:
    """``size`` bytes that begin at byte ``offset`` of the volume."""

    offset: int
    size: int


@dataclass(slots=True)
class _Directory:
    """A directory on its way: children by name, the short names given, its clusters."""

    children: dict[str, _Directory | File] = field(default_factory=dict)
    shorts: dict[str, bytes] = field(default_factory=dict)

    def entries(self, root: bool) -> int:
        """Give the number of directory entries: the names', and those of the label or of ``.`` and ``..``."""
        names = sum(fat_names.count(name, short) for name, short in self.shorts.items())
        return names + (1 if root else 2)


class Layout:
    """A volume laid out: ``size`` in bytes, ``kind``, and ``extents``: where each file lies, by path."""

    def __init__(self, volume: Volume, files: Iterable[File]) -> None:
        """Lay out ``files`` in their order; FormatError where they cannot all be stored."""
        self._volume = volume
        self._files = tuple(files)
        self._per_cluster = _sectors_per_cluster(volume.cluster)
        self._root = _tree(self._files)
        self._directories = dict(_walk(self._root))
        self._clusters: dict[str, tuple[int, int]] = {}
        self._geometry = self._lay_out()
        self.kind = self._geometry.kind
        self.size = self._geometry.total * SECTOR
        self.extents: Mapping[str, Extent] = {
            file.path: Extent(self._offset(self._clusters[file.path][0]) if file.size else 0, file.size)
            for file in self._files
        }

    def write(self, out: SupportsWrite, copy: Copy) -> int:
        """Write the volume to ``out``, contents by ``copy``; give its size."""
        geometry, cluster = self._geometry, self._volume.cluster
        for head in (self._reserved(), *(self._fat(),) * FATS):
            out.write(head)
        if geometry.root:
            out.write(self._directory("", geometry.root * SECTOR))
        for path in self._directories:
            if path in self._clusters:
                out.write(self._directory(path, self._clusters[path][1] * cluster))
        following = 2 + sum(self._clusters[path][1] for path in self._directories if path in self._clusters)
        for file in self._files:
            first, number = self._clusters[file.path]
            _zeros(out, max(first - following, 0) * cluster)
            following = max(first, following) + number
            for part in file.parts:
                copy(part, out)
            out.write(bytes(-file.size % cluster))
        _zeros(out, (geometry.clusters + 2 - following) * cluster)
        return self.size

    def _lay_out(self) -> Geometry:
        """Give the geometry, and note in ``_clusters`` the first cluster and number of clusters by path."""
        spare = -(-self._volume.spare // self._volume.cluster)
        kind, clusters = choose(max(1, self._allocate(False) + spare))
        if kind is Kind.FAT32:
            clusters = max(self._allocate(True) + spare, clusters)
        step = self._volume.step * self._per_cluster
        return size_areas(kind, clusters, self._per_cluster, step, self._root.entries(root=True))

    def _allocate(self, root: bool) -> int:
        """Give clusters to directories (``root``: to that too), then to files; give how many that takes."""
        sizes = {
            path: directory.entries(root=not path) * ENTRY_SIZE
            for path, directory in self._directories.items()
            if path or root
        }
        self._clusters.clear()
        following = 2
        for path, size, step in (
            *((path, size, 1) for path, size in sizes.items()),
            *((file.path, file.size, self._volume.step) for file in self._files),
        ):
            number = -(-size // self._volume.cluster)
            first = following + -(following - 2) % step
            self._clusters[path] = (first if number else 0, number)
            following = first + number if number else following
        return following - 2

    def _offset(self, cluster: int) -> int:
        return self._geometry.data * SECTOR + (cluster - 2) * self._volume.cluster

    def _reserved(self) -> bytes:
        boot = boot_sector(self._volume, self._geometry, self._clusters.get("", (0, 0))[0])
        sectors = [boot]
        if self.kind is Kind.FAT32:
            used = sum(number for _, number in self._clusters.values())
            info = fsinfo(self._geometry.clusters - used, self._last() + 1)
            tail = bytes(SECTOR - 2) + SIGNATURE
            sectors += [info, tail, *(bytes(SECTOR),) * (BACKUP_SECTOR - 3), boot, info, tail]
        return b"".join(sectors).ljust(self._geometry.reserved * SECTOR, b"\0")

    def _last(self) -> int:
        """Give the number of the last cluster in use, 1 where none is."""
        return max((first + number - 1 for first, number in self._clusters.values() if number), default=1)

    def _fat(self) -> bytes:
        """Give one FAT: every chain counts up and ends."""
        end = (1 << self.kind) - 1 if self.kind is not Kind.FAT32 else 0x0FFFFFFF
        entries = array("I", (end & ~0xFF | MEDIA, end))
        for first, number in self._clusters.values():
            if number:
                entries.extend(repeat(0, first - len(entries)))
                entries += array("I", range(first + 1, first + number))
                entries.append(end)
        return pack_fat(self.kind, entries).ljust(self._geometry.fat * SECTOR, b"\0")

    def _directory(self, path: str, size: int) -> bytes:
        """Give a directory's entries, padded to ``size`` bytes."""
        directory, when = self._directories[path], fat_names.dos_time(self._volume.mtime)
        if path:
            parent = path.rpartition("/")[0]
            above = self._clusters[parent][0] if parent else 0  # the root is 0 here even in FAT32
            dots = ((b".", self._clusters[path][0]), (b"..", above))
            pieces = [fat_names.short_entry(dot.ljust(11), DIRECTORY, to, 0, when) for dot, to in dots]
        else:
            label = fat_names.label_name(self._volume.label)
            pieces = [fat_names.short_entry(label, VOLUME_ID, 0, 0, when)]
        for name, child in directory.children.items():
            cluster = self._clusters[f"{path}/{name}" if path else name][0]
            kind, length = (ARCHIVE, child.size) if isinstance(child, File) else (DIRECTORY, 0)
            pieces.append(fat_names.entries(name, directory.shorts[name], kind, cluster, length, when))
        return b"".join(pieces).ljust(size, b"\0")


def _sectors_per_cluster(cluster: int) -> int:
    if cluster not in (SECTOR << shift for shift in range(7)):
        raise FormatError(f"a cluster of {cluster} bytes", hint="a power of two from 512 to 32768")
    return cluster // SECTOR


def _tree(files: Iterable[File]) -> _Directory:
    """Give the root directory of ``files``; names are the same to FAT where only their case differs."""
    root = _Directory()
    for file in files:
        if file.size > _MAX_FILE:
            raise FormatError("a file of 4 GiB or more does not fit into FAT", where=file.path)
        *parents, name = file.path.split("/")
        directory = root
        for parent in parents:
            found = _insert(directory, parent, _Directory(), file.path)
            if isinstance(found, File):
                raise FormatError("a path below something that is no directory", where=file.path)
            directory = found
        if _insert(directory, name, file, file.path) is not file:
            raise FormatError("a name that stands twice in one directory", where=file.path)
    return root


def _insert(directory: _Directory, name: str, child: _Directory | File, path: str) -> _Directory | File:
    """Put ``child`` there and give it, or give what is there already."""
    if name in directory.children:
        return directory.children[name]
    if any(name.upper() == other.upper() for other in directory.children):
        raise FormatError("a name that differs from another by its case only", where=path)
    directory.shorts[name] = fat_names.short_name(name, frozenset(directory.shorts.values()))
    directory.children[name] = child
    return child


def _walk(directory: _Directory, path: str = "") -> Iterator[tuple[str, _Directory]]:
    yield path, directory
    for name, child in directory.children.items():
        if isinstance(child, _Directory):
            yield from _walk(child, f"{path}/{name}" if path else name)


def _zeros(out: SupportsWrite, number: int, block: int = 1 << 20) -> None:
    for _ in range(number // block):
        out.write(bytes(block))
    out.write(bytes(number % block))
