"""Tar archives put together byte by byte, so that they can say what no writer would."""

from linuxkit_rules.formats.tar_header import record

END = bytes(1024)
USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)

Number = int | bytes
"""A number for the field, or the field's bytes."""


def block(
    name: bytes = b"name",
    flag: bytes = b"0",
    *,
    size: Number = 0,
    mode: Number = 0o644,
    uid: Number = 0,
    gid: Number = 0,
    mtime: Number = 0,
    link: bytes = b"",
    magic: bytes = USTAR,
    major: Number = 0,
    minor: Number = 0,
    prefix: bytes = b"",
    checksum: bytes = b"",
) -> bytes:
    """One header block; its checksum is right unless given."""
    fields = (
        name.ljust(100, b"\0"),
        *(_number(value, 8) for value in (mode, uid, gid)),
        *(_number(value, 12) for value in (size, mtime)),
        b" " * 8,
        flag,
        link.ljust(100, b"\0"),
        magic,
        bytes(64),
        *(_number(value, 8) for value in (major, minor)),
        prefix.ljust(167, b"\0"),
    )
    data = b"".join(fields)
    assert len(data) == 512
    return data[:148] + (checksum or b"%06o\0 " % sum(data)).ljust(8, b"\0") + data[156:]


def member(name: bytes = b"name", data: bytes = b"", flag: bytes = b"0", **fields: Number) -> bytes:
    """A member with its contents; the size is right unless given."""
    return block(name, flag, **{"size": len(data), **fields}) + padded(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def extended(flag: bytes, data: bytes, **fields: Number) -> bytes:
    """An extension header: ``x``, ``g``, ``L`` or ``K``."""
    return member(b"././@LongLink", data, flag, **fields)


def pax(*pairs: tuple[str, bytes | str], flag: bytes = b"x") -> bytes:
    """A pax header with these records, in this order."""
    texts = ((key.encode(), value.encode() if isinstance(value, str) else value) for key, value in pairs)
    return extended(flag, b"".join(record(key, value) for key, value in texts))


def base256(value: int, width: int) -> bytes:
    """A number as GNU writes those that octal digits cannot say."""
    data = bytearray(value.to_bytes(width, "big", signed=True))
    data[0] |= 0x80
    return bytes(data)


def archive(*members: bytes) -> bytes:
    return b"".join(members) + END


def _number(value: Number, width: int) -> bytes:
    return value.ljust(width, b"\0") if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)
