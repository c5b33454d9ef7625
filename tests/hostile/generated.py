"""Archives made at random, the same for one seed: sound ones, and such with something changed."""

from random import Random

from tests.hostile.headers import GNU, USTAR, V7, archive, base256, block, extended, member, padded, pax

_FLAGS = b"0000\0257123456gxLKSDMVZ"
_KEYS = (
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "comment",
    "SCHILY.xattr.user.a",
    "uname",
    "atime",
)
_VALUES = ("", "0", "1", "512", "007", "-1", "+1", "1.5", "1e3", "a/b", "d/", "x" * 120, "9" * 19, "ä", "\n")
_PLACES = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "flag": (156, 1),
    "link": (157, 100),
    "magic": (257, 8),
    "major": (329, 8),
    "prefix": (345, 155),
}
_BYTES = (b"\0", b" ", b"/", b"7", b"8", b"-", b"\x80", b"\xff", b"a", b".")


def sound(random: Random) -> bytes:
    """An archive of a few members of all kinds, with pax and GNU headers where the format has them."""
    form = random.choice((USTAR, GNU))
    return archive(*(_member(random, form, number) for number in range(random.randint(1, 6))))


def changed(random: Random) -> bytes:
    """An archive like that, with a field, a record or a header in it that is out of order."""
    pieces = [
        _member(random, random.choice((USTAR, GNU, V7)), number) for number in range(random.randint(1, 4))
    ]
    place = random.randrange(len(pieces) + 1)
    change = random.choice((_extension, _extension, _damaged, _odd))
    pieces.insert(place, change(random))
    return archive(*pieces)


def _name(random: Random, number: int) -> bytes:
    length = random.choice((1, 5, 30, 90))
    return (
        b"%d/" % random.randint(0, 2)
        + b"%d" % number
        + bytes(random.choices(b"abcXYZ .-_\xc3\xa4", k=length))
    )


def _member(random: Random, form: bytes, number: int) -> bytes:
    """A member, and before it the headers that its name or its numbers need."""
    name, kind = _name(random, number), random.choice(b"00001223456")
    fields = {"mode": random.randint(0, 0o7777), "uid": _id(random, form), "gid": _id(random, form)}
    fields["mtime"] = random.choice((0, 1492533000, 2**33 - 1, base256(-86400, 12) if form == GNU else 7))
    head = b""
    if form == GNU and random.random() < 0.3:
        head = extended(b"L", name * 3 + b"\0", magic=GNU)
    elif form == USTAR and random.random() < 0.3:
        head = pax(("path", name * 3), ("mtime", f"{random.randint(0, 2**31)}.{random.randint(0, 99)}"))
    data = random.randbytes(random.choice((0, 1, 511, 512, 513, 1500))) if kind == ord("0") else b""
    if kind in b"34":
        fields |= {"major": random.randint(0, 4095), "minor": random.randint(0, 0o777777)}
    link = random.choice((b"a/b", b"../x", b"/abs", b"l" * 100)) if kind == ord("2") else b""
    link = b"0/first" if kind == ord("1") else link
    return head + member(name, data, bytes([kind]), magic=form, link=link, **fields)


def _id(random: Random, form: bytes) -> int | bytes:
    return random.choice((0, 1000, 0o7777777, base256(2**31, 8) if form == GNU else 3))


def _extension(random: Random) -> bytes:
    """An extension header of some kind, with records that may mean nothing.

    Those on which readers are known to differ are left out: test_others.py has them.
    """
    flag = random.choice(b"xxxgLK")
    if flag in b"LK":
        return extended(
            bytes([flag]), random.choice((b"", b"\0", b"n/m\0", b"n", b"n\0m\0", b"d/\0", b"l" * 300))
        )
    keys = _KEYS if flag == ord("x") else _KEYS[:3] + _KEYS[6:]
    pairs = ((random.choice(keys), random.choice(_VALUES)) for _ in range(random.randint(0, 3)))
    known = [(key, value) for key, value in pairs if value or key not in ("uid", "gid", "mtime")]
    return pax(*known, flag=bytes([flag]))


def _damaged(random: Random) -> bytes:
    """A member with one byte of one field changed, and the checksum put right."""
    data = bytearray(_member(random, random.choice((USTAR, GNU)), 9)[-512 * random.choice((1, 2)) :])
    start, length = random.choice(list(_PLACES.values()))
    data[start + random.randrange(length)] = random.choice(_BYTES)[0]
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 256 + sum(data[156:512]))
    return bytes(data)


def _odd(random: Random) -> bytes:
    """A header of any type, with a size that may be another's."""
    flag = bytes([random.choice(_FLAGS)])
    size = random.choice((0, 0, 1, 512, 1024))
    name = random.choice((b"odd", b"odd/", b"./odd", b"odd//x", b"x" * 100, b"", b"/"))
    return block(name, flag, size=size, link=random.choice((b"", b"0/first", b"../y"))) + padded(bytes(size))
