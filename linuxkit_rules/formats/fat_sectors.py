"""The areas of FAT volumes besides files and directories: boot sector, FSInfo, FATs, and how large they are.

Microsoft, "FAT: General Overview of On-Disk Format", version 1.03; the names of the fields are from there.
"""

from __future__ import annotations

import enum
import struct
import sys
from array import array

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import fat_names
from linuxkit_rules.formats.fat_names import ENTRY_SIZE
from linuxkit_rules.values import dataclass

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
MEDIA = 0xF8  # a fixed disk
FATS = 2
_FSINFO_SECTOR, BACKUP_SECTOR, _RESERVED32 = 1, 6, 32
_ROOT_ENTRIES = 64
_MARGIN = 16  # the specification: keep this far from the numbers of clusters where the type changes


class Kind(enum.IntEnum):
    """Type of a volume: bits in one entry of its FAT."""

    FAT12 = 12
    FAT16 = 16
    FAT32 = 32


MOST_CLUSTERS = {Kind.FAT12: 4084, Kind.FAT16: 65524, Kind.FAT32: 0x0FFFFFF5 - 2}
"""The number of clusters decides the type ("FAT Type Determination")."""


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
class Geometry:
    """Sizes of the areas: sectors, but ``clusters`` and ``root_entries``."""

    kind: Kind
    clusters: int
    per_cluster: int
    reserved: int
    fat: int
    root_entries: int

    @property
    def root(self) -> int:
        """Sectors of the root directory; none in FAT32, where it lies among the files."""
        return self.root_entries * ENTRY_SIZE // SECTOR

    @property
    def data(self) -> int:
        """Where the first cluster begins."""
        return self.reserved + FATS * self.fat + self.root

    @property
    def total(self) -> int:
        """Sectors of the volume."""
        return self.data + self.clusters * self.per_cluster


def choose(needed: int) -> tuple[Kind, int]:
    """Give the type for ``needed`` clusters, and how many to have: not close to where the type changes."""
    for kind, following in ((Kind.FAT12, Kind.FAT16), (Kind.FAT16, Kind.FAT32)):
        if needed <= MOST_CLUSTERS[kind] - _MARGIN:
            return kind, needed
        if needed <= MOST_CLUSTERS[kind] + _MARGIN:
            return following, MOST_CLUSTERS[kind] + _MARGIN + 1
    if needed > MOST_CLUSTERS[Kind.FAT32]:
        raise FormatError(f"{needed} clusters are too many for FAT", hint="take larger clusters")
    return Kind.FAT32, needed


def size_areas(kind: Kind, clusters: int, per_cluster: int, step: int, entries: int) -> Geometry:
    """Size the areas; reserved sectors fill up so that data begin at a multiple of ``step`` sectors."""
    fat = -(-(clusters + 2) * kind // (8 * SECTOR))
    per_sector = SECTOR // ENTRY_SIZE
    root_entries = 0 if kind is Kind.FAT32 else max(_ROOT_ENTRIES, -(-entries // per_sector) * per_sector)
    least = _RESERVED32 if kind is Kind.FAT32 else 1
    before = least + FATS * fat + root_entries // per_sector
    geometry = Geometry(kind, clusters, per_cluster, least + -before % step, fat, root_entries)
    if geometry.total >= 1 << 32 or root_entries >= 1 << 16:
        raise FormatError("the files do not fit into a FAT volume")
    return geometry


def boot_sector(volume: Volume, geometry: Geometry, root: int) -> bytes:
    """Give the first sector; ``root`` is the root directory's first cluster, for FAT32."""
    wide = geometry.kind is Kind.FAT32
    small = geometry.total < 1 << 16 and not wide
    bpb = BPB.pack(
        _JUMP32 if wide else _JUMP,
        _OEM,
        SECTOR,
        geometry.per_cluster,
        geometry.reserved,
        FATS,
        geometry.root_entries,
        geometry.total if small else 0,
        MEDIA,
        0 if wide else geometry.fat,
        32,
        64,
        volume.hidden,
        0 if small else geometry.total,
    )
    bpb32 = BPB32.pack(geometry.fat, 0, 0, root, _FSINFO_SECTOR, BACKUP_SECTOR, b"") if wide else b""
    label = fat_names.label_name(volume.label)
    boot = BOOT.pack(0x80, 0, 0x29, volume.serial, label, geometry.kind.name.ljust(8).encode())
    return (bpb + bpb32 + boot).ljust(SECTOR - 2, b"\0") + SIGNATURE


def fsinfo(free: int, following: int) -> bytes:
    """Give the FSInfo sector: how many clusters are free, and where to look for one."""
    return FSINFO.pack(0x41615252, b"", 0x61417272, free, following, b"", 0xAA550000)


def pack_fat(kind: Kind, entries: array[int]) -> bytes:
    """Give the bytes of a FAT."""
    if kind is Kind.FAT12:
        pairs = zip(entries[::2], [*entries[1::2], 0], strict=False)
        return b"".join((low | high << 12).to_bytes(3, "little") for low, high in pairs)
    packed = array("H" if kind is Kind.FAT16 else "I", entries)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
