"""FAT12, FAT16 and FAT32 volumes, written: every file in one piece, nothing left to chance.

Microsoft, "FAT: General Overview of On-Disk Format", version 1.03 (also ECMA-107); the names of the fields
are from there.  ``fat_read`` is the other direction.

A volume is laid out before it is written, so where each file's bytes lie is known and can be pointed at.
Data begin at a multiple of the cluster size or, where files are aligned to more, of that, counted from the
volume's beginning.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import fat_names
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.formats.fat_names import ARCHIVE, DIRECTORY, ENTRY_SIZE, VOLUME_ID
from linuxkit_rules.formats.streams import Copy, SupportsWrite

SECTOR = 512

# BS_jmpBoot BS_OEMName BPB_BytsPerSec BPB_SecPerClus BPB_RsvdSecCnt BPB_NumFATs BPB_RootEntCnt BPB_TotSec16
# BPB_Media BPB_FATSz16 BPB_SecPerTrk BPB_NumHeads BPB_HiddSec BPB_TotSec32
BPB = struct.Struct("<3s 8s H B H B H H B H H H I I")
# BPB_FATSz32 BPB_ExtFlags BPB_FSVer BPB_RootClus BPB_FSInfo BPB_BkBootSec BPB_Reserved
BPB32 = struct.Struct("<I H H I H H 12s")
# BS_DrvNum BS_Reserved1 BS_BootSig BS_VolID BS_VolLab BS_FilSysType
BOOT = struct.Struct("<B B B I 11s 8s")
# FSI_LeadSig FSI_Reserved1 FSI_StrucSig FSI_Free_Count FSI_Nxt_Free FSI_Reserved2 FSI_TrailSig
FSINFO = struct.Struct("<I 480s I I I 12s I")

SIGNATURE = b"\x55\xaa"
_JUMP = b"\xeb\x3c\x90"
_JUMP32 = b"\xeb\x58\x90"
_OEM = b"MSWIN4.1"  # what the specification advises for the sake of bad drivers
_MEDIA = 0xF8  # a fixed disk
_FATS = 2
_FSINFO_SECTOR, _BACKUP_SECTOR, _RESERVED32 = 1, 6, 32
_ROOT_ENTRIES = 64
_MARGIN = 16  # the specification: keep this far from the numbers of clusters where the type changes
_MAX_FILE = 2**32 - 1


class Kind(enum.IntEnum):
    """Type of a volume: bits in one entry of its FAT."""

    FAT12 = 12
    FAT16 = 16
    FAT32 = 32


MOST_CLUSTERS = {Kind.FAT12: 4084, Kind.FAT16: 65524, Kind.FAT32: 0x0FFFFFF5 - 2}
"""The number of clusters decides the type ("FAT Type Determination")."""


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
class Volume:
    """What a volume is besides its files.

    ``cluster`` is in bytes, a power of two from 512 to 32,768; ``serial`` is BS_VolID; ``mtime`` (seconds
    since 1970, shown in UTC) is the time of everything; ``hidden`` is the number of sectors before the
    volume on its disk; ``spare`` is the least number of bytes to leave free.  Files begin at multiples of
    ``alignment`` bytes, a multiple of ``cluster`` where it is not 0.
    """

    label: str
    serial: int = 0
    mtime: int = 0
    cluster: int = 2048
    hidden: int = 0
    spare: int = 0
    alignment: int = 0

    @property
    def step(self) -> int:
        """Clusters from one place where a file may begin to the next."""
        return max(self.alignment // self.cluster, 1)


@dataclass(frozen=True, slots=True)
class Extent:
    """``size`` bytes that begin at byte ``offset`` of the volume."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Geometry:
    """Sizes of the areas: sectors, but ``clusters`` and ``root_entries``."""

    kind: Kind
    clusters: int
    per_cluster: int
    reserved: int
    fat: int
    root_entries: int

    @property
    def root(self) -> int:
        return self.root_entries * ENTRY_SIZE // SECTOR

    @property
    def data(self) -> int:
        """Where the first cluster begins."""
        return self.reserved + _FATS * self.fat + self.root

    @property
    def total(self) -> int:
        return self.data + self.clusters * self.per_cluster


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
        for head in (self._reserved(), *(self._fat(),) * _FATS):
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

    def _lay_out(self) -> _Geometry:
        """Give the geometry, and note in ``_clusters`` the first cluster and number of clusters by path."""
        spare = -(-self._volume.spare // self._volume.cluster)
        kind, clusters = _choose(max(1, self._allocate(False) + spare))
        if kind is Kind.FAT32:
            clusters = max(self._allocate(True) + spare, clusters)
        step = self._volume.step * self._per_cluster
        return _geometry(kind, clusters, self._per_cluster, step, self._root.entries(root=True))

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
        boot = _boot_sector(self._volume, self._geometry, self._clusters.get("", (0, 0))[0])
        sectors = [boot]
        if self.kind is Kind.FAT32:
            used = sum(number for _, number in self._clusters.values())
            info = _fsinfo(self._geometry.clusters - used, self._last() + 1)
            tail = bytes(SECTOR - 2) + SIGNATURE
            sectors += [info, tail, *(bytes(SECTOR),) * (_BACKUP_SECTOR - 3), boot, info, tail]
        return b"".join(sectors).ljust(self._geometry.reserved * SECTOR, b"\0")

    def _last(self) -> int:
        """Give the number of the last cluster in use, 1 where none is."""
        return max((first + number - 1 for first, number in self._clusters.values() if number), default=1)

    def _fat(self) -> bytes:
        """Give one FAT: every chain counts up and ends."""
        end = (1 << self.kind) - 1 if self.kind is not Kind.FAT32 else 0x0FFFFFFF
        entries = [end & ~0xFF | _MEDIA, end]
        for first, number in self._clusters.values():
            if number:
                entries += [0] * (first - len(entries))
                entries += [*range(first + 1, first + number), end]
        return _pack_fat(self.kind, entries).ljust(self._geometry.fat * SECTOR, b"\0")

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


def _choose(needed: int) -> tuple[Kind, int]:
    """Give the type for ``needed`` clusters, and how many to have: not close to where the type changes."""
    for kind, following in ((Kind.FAT12, Kind.FAT16), (Kind.FAT16, Kind.FAT32)):
        if needed <= MOST_CLUSTERS[kind] - _MARGIN:
            return kind, needed
        if needed <= MOST_CLUSTERS[kind] + _MARGIN:
            return following, MOST_CLUSTERS[kind] + _MARGIN + 1
    if needed > MOST_CLUSTERS[Kind.FAT32]:
        raise FormatError(f"{needed} clusters are too many for FAT", hint="take larger clusters")
    return Kind.FAT32, needed


def _geometry(kind: Kind, clusters: int, per_cluster: int, step: int, entries: int) -> _Geometry:
    """Size the areas; reserved sectors fill up so that data begin at a multiple of ``step`` sectors."""
    fat = -(-(clusters + 2) * kind // (8 * SECTOR))
    per_sector = SECTOR // ENTRY_SIZE
    root_entries = 0 if kind is Kind.FAT32 else max(_ROOT_ENTRIES, -(-entries // per_sector) * per_sector)
    least = _RESERVED32 if kind is Kind.FAT32 else 1
    before = least + _FATS * fat + root_entries // per_sector
    geometry = _Geometry(kind, clusters, per_cluster, least + -before % step, fat, root_entries)
    if geometry.total >= 1 << 32 or root_entries >= 1 << 16:
        raise FormatError("the files do not fit into a FAT volume")
    return geometry


def _boot_sector(volume: Volume, geometry: _Geometry, root: int) -> bytes:
    wide = geometry.kind is Kind.FAT32
    small = geometry.total < 1 << 16 and not wide
    bpb = BPB.pack(
        _JUMP32 if wide else _JUMP,
        _OEM,
        SECTOR,
        geometry.per_cluster,
        geometry.reserved,
        _FATS,
        geometry.root_entries,
        geometry.total if small else 0,
        _MEDIA,
        0 if wide else geometry.fat,
        32,
        64,
        volume.hidden,
        0 if small else geometry.total,
    )
    bpb32 = BPB32.pack(geometry.fat, 0, 0, root, _FSINFO_SECTOR, _BACKUP_SECTOR, b"") if wide else b""
    label = fat_names.label_name(volume.label)
    boot = BOOT.pack(0x80, 0, 0x29, volume.serial, label, geometry.kind.name.ljust(8).encode())
    return (bpb + bpb32 + boot).ljust(SECTOR - 2, b"\0") + SIGNATURE


def _fsinfo(free: int, following: int) -> bytes:
    return FSINFO.pack(0x41615252, b"", 0x61417272, free, following, b"", 0xAA550000)


def _pack_fat(kind: Kind, entries: list[int]) -> bytes:
    if kind is not Kind.FAT12:
        return struct.pack(f"<{len(entries)}{'H' if kind is Kind.FAT16 else 'I'}", *entries)
    pairs = zip(entries[::2], [*entries[1::2], 0], strict=False)
    return b"".join((low | high << 12).to_bytes(3, "little") for low, high in pairs)


def _zeros(out: SupportsWrite, number: int, block: int = 1 << 20) -> None:
    for _ in range(number // block):
        out.write(bytes(block))
    out.write(bytes(number % block))
