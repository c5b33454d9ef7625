"""ISO 9660 volumes in memory: finding records, and changing what a master could not know.

ECMA-119 (4th edition) for records, descriptors and dates; "El Torito" Bootable CD-ROM Format Specification,
version 1.0, for the boot catalogue.  Only the primary volume descriptor's tree is looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime

from linuxkit_rules.errors import FormatError
from linuxkit_rules.values import dataclass

BLOCK = 2048
"""Size of a logical block, and of a sector."""

_FIRST_DESCRIPTOR = 16
_PRIMARY, _BOOT_RECORD, _TERMINATOR = 1, 0, 255
_IDENTIFIER = b"CD001"
_EL_TORITO = b"EL TORITO SPECIFICATION"

# Within the primary volume descriptor (8.4): Volume Space Size, Directory Record for Root Directory, and
# Volume Creation, Modification, Expiration and Effective Date and Time
_SPACE_SIZE = 80
_ROOT = 156
_DATES = 813
_BOTH = struct.Struct("<I")
_BOTH_BIG = struct.Struct(">I")

# Directory record (9.1): Length, Extended Attribute Record Length, Location of Extent (both orders), Data
# Length (both orders), Recording Date and Time, File Flags, File Unit Size, Interleave Gap Size, Volume
# Sequence Number (both orders), Length of File Identifier
_RECORD = struct.Struct("<B B I 4x I 4x 7s B B B H 2x B")
_LOCATION, _LENGTH, _DATE = 2, 10, 18
_DIRECTORY = 0x02
_DOTS = (b"\0", b"\1")

# El Torito: Boot Indicator, Boot Media Type, Load Segment, System Type, Sector Count, Load RBA
_ENTRY = struct.Struct("<B B H B x H I 20x")
# Header Indicator, Platform ID, Number of section entries, ID string
_HEADER = struct.Struct("<B B H 28s")
_BOOTABLE = 0x88
_MORE_HEADERS, _LAST_HEADER = 0x90, 0x91

X86 = 0
EFI = 0xEF


@dataclass(frozen=True, slots=True)
class Record:
    """A directory record: its place in the volume, and what it says.  ``path`` is without version numbers."""

    offset: int
    path: str
    block: int
    size: int
    directory: bool


@dataclass(frozen=True, slots=True)
class BootEntry:
    """An entry of the boot catalogue; ``sectors`` are of 512 bytes, ``block`` is of 2,048."""

    offset: int
    platform: int
    sectors: int
    block: int


def records(volume: bytes | bytearray) -> Iterator[Record]:
    """Give every record of the tree, those of ``.`` and ``..`` too (under their directory's path)."""
    todo = [_record(volume, _primary(volume) + _ROOT, "")]
    while todo:
        directory = todo.pop()
        yield directory
        for record in _children(volume, directory):
            yield record
            if record.directory and not record.path.endswith(("/.", "/..")):
                todo.append(record)


def find(volume: bytes | bytearray, path: str) -> Record:
    """Give the record of ``path`` (``/EFI/BOOT/BOOTX64.EFI``); raise FormatError where there is none."""
    for record in records(volume):
        if record.path == path:
            return record
    raise FormatError("no such file in the ISO 9660 volume", where=path)


def point(volume: bytearray, record: Record, block: int, size: int) -> None:
    """Make ``record`` name ``size`` bytes that begin at ``block``; raise FormatError for 4 GiB or more."""
    if size >= 1 << 32:
        raise FormatError("a file of 4 GiB or more does not fit into an ISO of one extent", where=record.path)
    _put_both(volume, record.offset + _LOCATION, block)
    _put_both(volume, record.offset + _LENGTH, size)


def set_blocks(volume: bytearray, blocks: int) -> None:
    """Say that the volume has so many blocks."""
    _put_both(volume, _primary(volume) + _SPACE_SIZE, blocks)


def get_blocks(volume: bytes | bytearray) -> int:
    """Give the number of blocks that the volume says to have."""
    return int(_BOTH.unpack_from(volume, _primary(volume) + _SPACE_SIZE)[0])


def set_time(volume: bytearray, mtime: int) -> None:
    """Give all records and the volume itself one time: seconds since 1970, written as UTC."""
    when = datetime.fromtimestamp(mtime, UTC)
    short = bytes([when.year - 1900, when.month, when.day, when.hour, when.minute, when.second, 0])
    for record in records(volume):
        volume[record.offset + _DATE : record.offset + _DATE + len(short)] = short
    long = when.strftime("%Y%m%d%H%M%S00").encode() + b"\0"
    never = b"0" * 16 + b"\0"
    dates = long + long + never + long
    begin = _primary(volume) + _DATES
    volume[begin : begin + len(dates)] = dates


def boot_entries(volume: bytes | bytearray) -> list[BootEntry]:
    """Give the bootable entries of the boot catalogue: the default one and those of sections."""
    at = _catalogue(volume)
    _, platform, _, _ = _HEADER.unpack_from(volume, at)
    found = [_boot_entry(volume, at + 32, platform)]
    at += 64
    while volume[at] in (_MORE_HEADERS, _LAST_HEADER):
        indicator, platform, number, _ = _HEADER.unpack_from(volume, at)
        found += [_boot_entry(volume, at + 32 * index, platform) for index in range(1, number + 1)]
        at += 32 * (number + 1)
        if indicator == _LAST_HEADER:
            break
    return [entry for entry in found if volume[entry.offset] == _BOOTABLE]


def point_boot(volume: bytearray, entry: BootEntry, block: int, size: int) -> None:
    """Make a boot entry name the image of ``size`` bytes at ``block``.

    The sector count has 16 bits.  What does not fit is given as 0: EFI then takes the image to reach to the
    end of the medium (UEFI specification, 13.3.2.1), so it must be the last thing there.
    """
    sectors = -(-size // 512)
    struct.pack_into("<HI", volume, entry.offset + 6, sectors if sectors < 1 << 16 else 0, block)


def _primary(volume: bytes | bytearray) -> int:
    return _descriptor(volume, _PRIMARY, b"")


def _catalogue(volume: bytes | bytearray) -> int:
    begin = _descriptor(volume, _BOOT_RECORD, _EL_TORITO)
    return int(_BOTH.unpack_from(volume, begin + 71)[0]) * BLOCK


def _descriptor(volume: bytes | bytearray, kind: int, system: bytes) -> int:
    """Give the offset of the first volume descriptor of a type (8.1) and Boot System Identifier."""
    at = _FIRST_DESCRIPTOR * BLOCK
    while volume[at + 1 : at + 6] == _IDENTIFIER and volume[at] != _TERMINATOR:
        if volume[at] == kind and volume[at + 7 : at + 39].startswith(system):
            return at
        at += BLOCK
    what = "El Torito boot record" if system else "primary volume descriptor"
    raise FormatError(
        f"not an ISO 9660 volume with an {what}" if system else f"no {what}: not an ISO 9660 volume"
    )


def _record(volume: bytes | bytearray, offset: int, parent: str) -> Record:
    _, _, block, size, _, flags, _, _, _, length = _RECORD.unpack_from(volume, offset)
    name = bytes(volume[offset + _RECORD.size : offset + _RECORD.size + length])
    if name in _DOTS:
        name = b".." if name == b"\1" else b"."
    text = name.decode("ascii", "replace").partition(";")[0]
    text = text.removesuffix(".") if text not in (".", "..") else text
    return Record(offset, f"{parent}/{text}", block, size, bool(flags & _DIRECTORY))


def _children(volume: bytes | bytearray, directory: Record) -> Iterator[Record]:
    at, end = directory.block * BLOCK, directory.block * BLOCK + directory.size
    parent = "" if directory.path == "/." else directory.path
    while at < end:
        if not volume[at]:  # a record does not cross sectors (6.8.1.1)
            at += BLOCK - at % BLOCK
            continue
        yield _record(volume, at, parent)
        at += volume[at]


def _boot_entry(volume: bytes | bytearray, at: int, platform: int) -> BootEntry:
    _, _, _, _, sectors, block = _ENTRY.unpack_from(volume, at)
    return BootEntry(at, platform, sectors, block)


def _put_both(volume: bytearray, offset: int, value: int) -> None:
    """Write a number in both byte orders (7.3.3)."""
    _BOTH.pack_into(volume, offset, value)
    _BOTH_BIG.pack_into(volume, offset + 4, value)
