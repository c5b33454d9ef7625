"""Master boot records: boot code and four partitions.

UEFI specification 2.10, 5.2.1 "Legacy Master Boot Record (MBR)"; the names of the fields are from there.
"""

from __future__ import annotations

import struct

from linuxkit_rules.errors import FormatError
from linuxkit_rules.values import dataclass

SECTOR = 512
CODE = 440
"""Bytes for boot code, at the beginning."""

# BootCode UniqueMBRDiskSignature Unknown
HEAD = struct.Struct(f"<{CODE}s I H")
# BootIndicator Start{Head,Sector,Track} OSType End{Head,Sector,Track} StartingLBA SizeInLBA
PARTITION = struct.Struct("<B 3s B 3s I I")
SIGNATURE = b"\x55\xaa"

EFI_SYSTEM = 0xEF
HIDDEN_IFS = 0x17
"""What isohybrid gives to a partition that holds the whole ISO: no system tries to mount or to repair it."""

_HEADS, _SECTORS = 64, 32
_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition: OSType, and first sector and number of sectors of 512 bytes."""

    kind: int
    start: int
    sectors: int
    active: bool = False


@dataclass(frozen=True, slots=True)
class Mbr:
    """A master boot record: up to 440 bytes of code, the disk's signature, the partitions that are used."""

    code: bytes
    signature: int
    partitions: tuple[Partition, ...]

    def to_bytes(self) -> bytes:
        """Give the 512 bytes; raise FormatError where something does not fit."""
        if len(self.code) > CODE or len(self.partitions) > _PARTITIONS:
            raise FormatError(f"too much for a master boot record: {CODE} bytes of code and 4 partitions")
        table = b"".join(map(_pack, self.partitions)).ljust(PARTITION.size * _PARTITIONS, b"\0")
        return HEAD.pack(self.code, self.signature, 0) + table + SIGNATURE


def read(sector: bytes) -> Mbr:
    """Read the first 512 bytes of ``sector``; raise FormatError where they are no master boot record."""
    if sector[510:512] != SIGNATURE:
        raise FormatError("no master boot record: no signature in the first sector")
    code, signature, _ = HEAD.unpack_from(sector)
    table = (
        PARTITION.unpack_from(sector, HEAD.size + PARTITION.size * index) for index in range(_PARTITIONS)
    )
    found = (
        Partition(kind, start, size, bool(flag & 0x80)) for flag, _, kind, _, start, size in table if kind
    )
    return Mbr(code, signature, tuple(found))


def isohybrid_code(code: bytes, loader: int) -> bytes:
    """Give syslinux's isohdpfx.bin, told that isolinux.bin begins at the ISO's block ``loader``.

    Its layout is that of syslinux's utils/isohybrid.c: at 432 stands the first sector (of 512 bytes) in 64
    bits.
    """
    return code[:432].ljust(432, b"\0") + struct.pack("<Q", loader * 4)


def _pack(item: Partition) -> bytes:
    last = item.start + item.sectors - 1
    flag = 0x80 if item.active else 0
    return PARTITION.pack(flag, _chs(item.start), item.kind, _chs(last), item.start, item.sectors)


def _chs(sector: int) -> bytes:
    """Give a cylinder, head and sector for 64 heads and 32 sectors, isohybrid's geometry."""
    cylinder, rest = divmod(sector, _HEADS * _SECTORS)
    if cylinder > 1023:
        return b"\xfe\xff\xff"
    head, number = divmod(rest, _SECTORS)
    return bytes([head, (number + 1) | (cylinder >> 2 & 0xC0), cylinder & 0xFF])
