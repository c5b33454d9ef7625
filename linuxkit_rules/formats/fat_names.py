"""Directory entries of FAT: short (8.3) names, and the long names laid before them.

Microsoft, "FAT: General Overview of On-Disk Format", version 1.03, "FAT Directory Structure" and "FAT Long
Directory Entries"; ECMA-107, section 11.  The names of the fields are from the former.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from datetime import UTC, datetime

from linuxkit_rules.errors import FormatError

# DIR_Name DIR_Attr DIR_NTRes DIR_CrtTimeTenth DIR_CrtTime DIR_CrtDate DIR_LstAccDate DIR_FstClusHI
# DIR_WrtTime DIR_WrtDate DIR_FstClusLO DIR_FileSize
SHORT = struct.Struct("<11s 3B 7H I")
# LDIR_Ord LDIR_Name1 LDIR_Attr LDIR_Type LDIR_Chksum LDIR_Name2 LDIR_FstClusLO LDIR_Name3
LONG = struct.Struct("<B 10s 3B 12s H 4s")
ENTRY_SIZE = 32

READ_ONLY = 0x01
VOLUME_ID = 0x08
DIRECTORY = 0x10
ARCHIVE = 0x20
LONG_NAME = 0x0F
LAST_LONG = 0x40
FREE = 0xE5

_LONGEST = 255
_PER_LONG = 13  # characters of UTF-16 in one entry
_LEGAL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789$%'-_@~`!(){}^#&")
_ILLEGAL_LONG = frozenset('"*/:<>?\\|') | {chr(code) for code in range(32)} | {"\x7f"}


def short_name(name: str, taken: Container[bytes]) -> bytes:
    """Give DIR_Name for ``name``: itself where it is a short name, else a numbered one not in ``taken``.

    Raises FormatError where ``name`` cannot be a name in FAT at all.
    """
    _check(name)
    base, dot, extension = name.upper().rpartition(".") if "." in name.lstrip(".") else (name.upper(), "", "")
    legal_base, legal_extension = (_legal(part) for part in (base, extension))
    exact = legal_base == base and legal_extension == extension and (extension or not dot)
    if exact and 1 <= len(base) <= 8 and len(extension) <= 3:
        plain = _padded(base, extension)
        if plain not in taken:
            return plain
    for number in range(1, 1_000_000):
        tail = f"~{number}"
        candidate = _padded(legal_base[: 8 - len(tail)] + tail, legal_extension[:3])
        if candidate not in taken:
            return candidate
    raise FormatError("too many files of like names in one directory", where=name)


def entries(
    name: str, short: bytes, attributes: int, cluster: int, size: int, when: tuple[int, int]
) -> bytes:
    """Give the directory entries of a file: those of the long name, if it needs one, and the short one."""
    return _long_entries(name, short) + short_entry(short, attributes, cluster, size, when)


def count(name: str, short: bytes) -> int:
    """Give how many directory entries ``name`` takes."""
    return 1 + (0 if displayed(short) == name else -(-len(_utf16(name)) // (2 * _PER_LONG)))


def short_entry(short: bytes, attributes: int, cluster: int, size: int, when: tuple[int, int]) -> bytes:
    """Give one short directory entry; ``when`` is time and date as ``dos_time`` gives them."""
    time, date = when
    return SHORT.pack(
        short, attributes, 0, 0, time, date, date, cluster >> 16, time, date, cluster & 0xFFFF, size
    )


def label_name(label: str) -> bytes:
    """Give the 11 bytes of a volume label: upper case, what is not legal as ``_``, cut, padded."""
    text = "".join(char if char in _LEGAL or char == " " else "_" for char in label.upper())
    return (text[:11].strip() or "NO NAME").ljust(11).encode("ascii")


def dos_time(mtime: int) -> tuple[int, int]:
    """Give time and date of ``mtime`` (seconds since 1970), in UTC, held within FAT's years 1980 to 2107."""
    when = datetime.fromtimestamp(min(max(mtime, 315532800), 4354819199), UTC)
    time = when.hour << 11 | when.minute << 5 | when.second // 2
    return time, (when.year - 1980) << 9 | when.month << 5 | when.day


def from_dos_time(time: int, date: int) -> int:
    """Give seconds since 1970 for a time and a date; raise FormatError where they are none."""
    try:
        day = datetime(1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, tzinfo=UTC)
    except ValueError:
        raise FormatError(f"no date: {date:#06x} {time:#06x}") from None
    return int(day.timestamp()) + 2 * (time & 31)


def checksum(short: bytes) -> int:
    """Give LDIR_Chksum of a short name ("ChkSum")."""
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total


def displayed(short: bytes) -> str:
    """Give the name that a short directory entry shows."""
    base, extension = (part.decode("cp437").rstrip(" ") for part in (short[:8], short[8:]))
    return f"{base}.{extension}" if extension else base


def _long_entries(name: str, short: bytes) -> bytes:
    if count(name, short) == 1:
        return b""
    units = _utf16(name)
    chunk = 2 * _PER_LONG
    if len(units) % chunk:
        units += b"\0\0"
    units += b"\xff" * (-len(units) % chunk)
    pieces = [units[at : at + chunk] for at in range(0, len(units), chunk)]
    packed = []
    for order, piece in enumerate(pieces, 1):
        last = LAST_LONG if order == len(pieces) else 0
        packed.append(
            LONG.pack(order | last, piece[:10], LONG_NAME, 0, checksum(short), piece[10:22], 0, piece[22:26])
        )
    return b"".join(reversed(packed))


def _check(name: str) -> None:
    reason = ""
    if not name.strip(". "):
        reason = "no name"
    elif name[-1] in ". " or name[0] == " ":
        reason = "a name that begins with a space or ends with a space or a dot"
    elif _ILLEGAL_LONG & set(name):
        reason = "a character that FAT does not allow in names"
    elif len(_utf16(name)) > 2 * _LONGEST:
        reason = f"a name of more than {_LONGEST} characters"
    if reason:
        raise FormatError(reason, where=repr(name))


def _utf16(name: str) -> bytes:
    try:
        return name.encode("utf-16-le")
    except UnicodeEncodeError:
        raise FormatError("a name that is not UTF-8 cannot be stored in FAT", where=repr(name)) from None


def _legal(part: str) -> str:
    kept = (char for char in part if char not in ". ")
    return "".join(char if char in _LEGAL else "_" for char in kept)


def _padded(base: str, extension: str) -> bytes:
    return (base.ljust(8) + extension.ljust(3)).encode("ascii")
