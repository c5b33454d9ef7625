"""FAT12, FAT16 and FAT32 volumes, read; ``fat`` says where the format is described.

Made for volumes of moderate size: the FAT is held in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.formats.fat_names import (
    DIRECTORY,
    ENTRY_SIZE,
    FREE,
    LAST_LONG,
    LONG,
    LONG_NAME,
    READ_ONLY,
    SHORT,
    VOLUME_ID,
    checksum,
    displayed,
    from_dos_time,
)
from linuxkit_rules.formats.fat_sectors import BOOT, BPB, BPB32, MOST_CLUSTERS, SIGNATURE
from linuxkit_rules.formats.fat_sectors import Kind as FatKind
from linuxkit_rules.values import dataclass

_DEEPEST = 64
_MOST_ENTRIES = 1 << 16  # in one directory ("FAT Directory Structure")
_LOWER_BASE, _LOWER_EXTENSION = 0x08, 0x10  # in DIR_NTRes, as Windows NT and Linux write it


@dataclass(frozen=True, slots=True)
class Contents:
    """A volume as read: type, BS_VolID, BS_VolLab, BPB_HiddSec, and its members, parents before children."""

    kind: FatKind
    serial: int
    label: str
    hidden: int
    entries: tuple[Entry, ...]


def read(file: BinaryIO) -> Contents:
    """Read the volume that begins where ``file`` stands; FormatError where it is none or is damaged.

    Contents are bytes; modes are what Linux shows by default: 0755, less write where read-only is set.
    """
    return _Reader(file).contents()


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = file.tell()
        boot = self._bytes(0, 512)
        if boot[510:512] != SIGNATURE:
            raise FormatError("not a FAT volume: no signature in its first sector")
        _, _, sector, per_cluster, reserved, fats, root, small, _, fat, _, _, self._hidden, large = (
            BPB.unpack_from(boot)
        )
        self._root_cluster = 0
        extra = 0
        if not fat:
            fat, _, _, self._root_cluster, *_ = BPB32.unpack_from(boot, BPB.size)
            extra = BPB32.size
        if sector not in (512, 1024, 2048, 4096) or not per_cluster or not reserved or not fats or not fat:
            raise FormatError("not a FAT volume: no sense in its BIOS parameter block")
        _, _, _, self._serial, self._label, _ = BOOT.unpack_from(boot, BPB.size + extra)
        self._cluster = sector * per_cluster
        self._root = ((reserved + fats * fat) * sector, root * ENTRY_SIZE)
        data = reserved + fats * fat + -(-root * ENTRY_SIZE // sector)
        self._data = data * sector
        self._clusters = ((small or large) - data) // per_cluster
        if not 0 < self._clusters <= MOST_CLUSTERS[FatKind.FAT32]:
            raise FormatError(f"a FAT volume of {self._clusters} clusters")
        self.kind = next(kind for kind in FatKind if self._clusters <= MOST_CLUSTERS[kind])
        self._table = _unpack_fat(self.kind, self._fats(reserved * sector, fats, fat * sector))
        if len(self._table) < self._clusters + 2:
            raise FormatError("the FAT is too short for its volume")
        self._seen: set[int] = set()

    def contents(self) -> Contents:
        """Read everything."""
        label = self._label.decode("cp437").rstrip()
        return Contents(self.kind, self._serial, label, self._hidden, tuple(self._members("", None, 0)))

    def _fats(self, offset: int, number: int, size: int) -> bytes:
        copies = {self._bytes(offset + index * size, size) for index in range(number)}
        if len(copies) > 1:
            raise FormatError("the copies of the FAT differ")
        return copies.pop()

    def _members(self, path: str, cluster: int | None, depth: int) -> Iterator[Entry]:
        if depth > _DEEPEST or (cluster is not None and cluster in self._seen):
            raise FormatError("directories without end", where=path)
        self._seen.add(cluster or self._root_cluster)
        for name, short in _named(self._raw_directory(cluster)):
            _, attributes, _, _, _, _, _, high, time, date, low, size = SHORT.unpack(short)
            if name in (".", ".."):
                continue
            below, first = f"{path}/{name}" if path else name, high << 16 | low
            mode = 0o555 if attributes & READ_ONLY else 0o755
            mtime = from_dos_time(time, date)
            if attributes & DIRECTORY:
                yield Entry(below, Kind.DIRECTORY, mode, mtime=mtime)
                yield from self._members(below, first, depth + 1)
            else:
                yield Entry(below, Kind.FILE, mode, mtime=mtime, content=self._file_bytes(below, first, size))

    def _raw_directory(self, cluster: int | None) -> bytes:
        if cluster is None and self.kind is not FatKind.FAT32:
            return self._bytes(*self._root)
        return b"".join(map(self._cluster_bytes, self._chain(cluster or self._root_cluster)))

    def _file_bytes(self, path: str, first: int, size: int) -> bytes:
        chain = list(self._chain(first)) if first else []
        if len(chain) != -(-size // self._cluster):
            raise FormatError(f"{size} bytes in {len(chain)} clusters", where=path)
        return b"".join(map(self._cluster_bytes, chain))[:size]

    def _chain(self, cluster: int) -> Iterator[int]:
        """Give the clusters from ``cluster`` to the end of its chain."""
        end = 0x0FFFFFF8 if self.kind is FatKind.FAT32 else (1 << self.kind) - 8
        for _ in range(self._clusters + 1):
            if cluster >= end:
                return
            if not 2 <= cluster < self._clusters + 2:
                break
            yield cluster
            cluster = self._table[cluster]
        raise FormatError(f"a chain of clusters leads to {cluster}")

    def _cluster_bytes(self, cluster: int) -> bytes:
        return self._bytes(self._data + (cluster - 2) * self._cluster, self._cluster)

    def _bytes(self, offset: int, size: int) -> bytes:
        self._file.seek(self._begin + offset)
        data = self._file.read(size)
        if len(data) < size:
            raise FormatError("the FAT volume ends too early", where=f"byte {offset}")
        return data


def _named(directory: bytes) -> Iterator[tuple[str, bytes]]:
    """Give the long (else short) name and the short entry of each member; volume labels are left out."""
    long: list[bytes] = []
    for at in range(0, min(len(directory), _MOST_ENTRIES * ENTRY_SIZE), ENTRY_SIZE):
        raw = directory[at : at + ENTRY_SIZE]
        if not raw[0]:
            return
        if raw[0] == FREE:
            long.clear()
        elif raw[11] & 0x3F == LONG_NAME:
            if raw[0] & LAST_LONG:
                long.clear()
            long.append(raw)
        else:
            if not raw[11] & VOLUME_ID:
                yield _long_name(long, raw) or _short_name(raw), raw
            long.clear()


def _long_name(entries: list[bytes], short: bytes) -> str:
    """Give the name that the long entries hold, or ``""`` where they do not belong to ``short``."""
    pieces = []
    for order, raw in zip(range(len(entries), 0, -1), entries, strict=True):
        number, first, _, _, chksum, second, _, third = LONG.unpack(raw)
        if number & 0x3F != order or chksum != checksum(short[:11]):
            return ""
        pieces.append(first + second + third)
    text = b"".join(reversed(pieces)).decode("utf-16-le", "replace")
    return text.partition("\0")[0]


def _short_name(raw: bytes) -> str:
    name = b"\xe5" + raw[1:11] if raw[0] == 0x05 else raw[:11]
    base, dot, extension = displayed(name).partition(".")
    base = base.lower() if raw[12] & _LOWER_BASE else base
    return base + dot + (extension.lower() if raw[12] & _LOWER_EXTENSION else extension)


def _unpack_fat(kind: FatKind, data: bytes) -> list[int]:
    if kind is FatKind.FAT16:
        return list(struct.unpack(f"<{len(data) // 2}H", data))
    if kind is FatKind.FAT32:
        return [value & 0x0FFFFFFF for value in struct.unpack(f"<{len(data) // 4}I", data)]
    entries = []
    data += bytes(-len(data) % 3)
    for at in range(0, len(data), 3):
        triple = int.from_bytes(data[at : at + 3], "little")
        entries += [triple & 0xFFF, triple >> 12]
    return entries
