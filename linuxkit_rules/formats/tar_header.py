"""Fields of tar headers: numbers, names, pax records; what ``tar`` reads and writes archives with.

ustar and pax: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html; GNU's base-256 numbers:
https://www.gnu.org/software/tar/manual/html_node/Extensions.html.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator, Mapping

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.entry import Kind

BLOCK = 512
ZEROS = bytes(BLOCK)
USTAR = b"ustar\x0000"
XATTR = b"SCHILY.xattr."

# name mode uid gid size mtime chksum typeflag linkname magic+version uname gname devmajor devminor prefix pad
HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
Fields = tuple[bytes, ...]
Pax = Mapping[bytes, bytes]

_GNU = b"ustar  \0"
_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize", b"SUN.holesdata")
_STAR_TRAILER = b"tar\0"
_KINDS = {kind.value.encode(): kind for kind in Kind} | {b"\0": Kind.FILE, b"7": Kind.FILE}
_SECONDS = re.compile(rb"(-?)([0-9]{1,15})(\.[0-9]*)?")
_DEVICE_KEYS = (b"SCHILY.devmajor", b"SCHILY.devminor")
_MAX_ID = 2**32 - 2


def normal(name: str) -> str:
    """Give ``name`` without outer slashes, empty and ``.`` parts; ``..`` takes a part back.

    FormatError where ``..`` leads out of the tree.
    """
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise FormatError("a name that leads out of the archive")
            parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/".join(parts)


def text(name: bytes) -> str:
    """Decode a name; bytes that are not UTF-8 become surrogate escapes."""
    return name.decode("utf-8", "surrogateescape")


def raw(name: str) -> bytes:
    """Encode a name: the inverse of ``text``."""
    return name.encode("utf-8", "surrogateescape")


def checksum_matches(block: bytes, field: bytes) -> bool:
    """Whether ``field`` is the sum of the header's bytes, unsigned or signed (as old programs write it)."""
    try:
        written = octal(field)
    except FormatError:
        return False
    total = sum(block) - sum(field) + 8 * ord(" ")
    return written == total or written == total - 256 * sum(byte > 127 for byte in block)


def name_of(fields: Fields) -> bytes:
    """Give the member's name, prefix and all; FormatError where readers differ on what the prefix is."""
    name = fields[0].split(b"\0", 1)[0]
    magic, prefix = fields[9], fields[14]
    if not prefix[0] or magic[:6] != USTAR[:6]:
        return name
    # star keeps access and change times in the last 24 bytes of the prefix
    if magic != USTAR or (fields[15][8:] == _STAR_TRAILER and b"\0" not in prefix[:131]):
        raise FormatError(
            "a ustar header whose prefix is a name to some readers only", where=f"entry {name!r}"
        )
    return prefix.split(b"\0", 1)[0] + b"/" + name


def kind_of(name: bytes, flag: bytes) -> Kind:
    """Give the type of a member; FormatError for those that Entry cannot say."""
    kind = _KINDS.get(flag)
    if kind is None:
        what = "a sparse file" if flag == b"S" else f"a member of type {flag!r}"
        raise FormatError(f"{what} is not supported", hint="write the archive again with another program")
    if kind is not Kind.FILE or not name.endswith(b"/"):
        return kind
    if flag == b"7" or not name.strip(b"/"):
        raise FormatError("a file whose name is a directory's")
    return Kind.DIRECTORY


@functools.lru_cache(4096)
def octal(field: bytes) -> int:
    """Read octal digits amid spaces, with spaces or NULs after them; none at all are 0."""
    digits, _, rest = field.strip(b" ").partition(b"\0")
    digits = digits.strip(b" ")
    if not digits and not rest.strip(b"\0 "):
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits or rest.strip(b"\0 "):
        raise FormatError(f"{field!r} is not an octal number")
    return int(digits, 8)


def number(field: bytes) -> int:
    """Read an octal or GNU base-256 number; the latter is a two's complement whose first bit is a mark."""
    if not field[0] & 0x80:
        return octal(field)
    value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    value -= 1 << (8 * len(field) - 1) if field[0] & 0x40 else 0
    if not -(2**63) <= value < 2**63:
        raise FormatError(f"{field!r} is too large a number")
    return value


def size_of(fields: Fields, pax: Pax) -> int:
    """Give the length of the contents in bytes."""
    size = _decimal(pax, b"size") if b"size" in pax else number(fields[4])
    if size < 0:
        raise FormatError(f"the size {size} is out of range")
    return size


def identity(field: bytes, pax: Pax, key: bytes) -> int:
    """Give a user's or group's number, 0 to 2**32 - 2."""
    value = _decimal(pax, key) if key in pax else number(field)
    if not 0 <= value <= _MAX_ID:
        raise FormatError(f"{key.decode()} {value} is out of range")
    return value


def mtime_of(fields: Fields, pax: Pax) -> int:
    """Give the modification time in whole seconds, rounded down."""
    if b"mtime" not in pax:
        return number(fields[5])
    match = _SECONDS.fullmatch(pax[b"mtime"])
    if match is None:
        raise FormatError(f"{pax[b'mtime'][:40]!r} is no modification time")
    seconds, fraction = int(match[2]), (match[3] or b"").strip(b".0")
    return -seconds - bool(fraction) if match[1] else seconds


def device_of(fields: Fields, pax: Pax) -> tuple[int, int]:
    """Give a device's numbers, 0 to 2**32 - 1; FormatError where pax records of star's say others."""
    found = number(fields[12]), number(fields[13])
    if any(found) and fields[9] not in (USTAR, _GNU):
        raise FormatError("a device's numbers in a header that has no place for them")
    for value, key in zip(found, _DEVICE_KEYS, strict=True):
        if not 0 <= value < 2**32:
            raise FormatError(f"the device number {value} is out of range")
        if key in pax and _decimal(pax, key) != value:
            raise FormatError(f"a device number that is {value}, and by {text(key)} another")
    return found


def xattrs_of(pax: Pax) -> tuple[tuple[str, bytes], ...]:
    """Give the extended attributes, sorted by name."""
    found = ((text(key[len(XATTR) :]), value) for key, value in pax.items() if key.startswith(XATTR))
    return tuple(sorted(found))


def records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    r"""Give the records ``"%d %s=%s\n"`` of a pax header; FormatError where they are damaged or sparse."""
    position = 0
    while position < len(data):
        digits = data[position : position + 20].split(b" ", 1)[0]
        length = int(digits) if digits.isdigit() else 0
        record = data[position + len(digits) + 1 : position + length]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or not key or len(digits) + 1 + len(record) != length or record[-1:] != b"\n":
            raise FormatError(f"a damaged pax record: {data[position : position + 40]!r}")
        if key.startswith(_SPARSE):
            raise FormatError("a sparse file is not supported", hint="write the archive without --sparse")
        yield key, value
        position += length


def record(key: bytes, value: bytes) -> bytes:
    """Encode one pax record; its length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while (total := len(rest) + len(str(length))) != length:
        length = total
    return b"%d%s" % (length, rest)


def padded(size: int) -> int:
    """Round up to whole blocks."""
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _decimal(pax: Pax, key: bytes) -> int:
    digits = pax[key]
    if not digits.isdigit() or len(digits) > 18:
        raise FormatError(f"{digits[:40]!r} is no value for {text(key)}")
    return int(digits)
