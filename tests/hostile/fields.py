"""Numbers and checksums in headers: too large, negative, no numbers at all, or read by some as others.

The classes of CVE-2022-48303 (GNU tar: a field of blanks), and CVE-2026-59874 (node-tar: a negative size).
"""

from dataclasses import replace

from tests.hostile.cases import Case, broken, refused, tree
from tests.hostile.headers import END, USTAR, V7, base256, block, member, pax

RANGE = "is out of range"
OCTAL = "is not an octal number"
SIGNED = block(b"\xff\xfe", mode=0o644)
HIGH = sum(byte > 127 for byte in SIGNED)
WHOLE = sum(SIGNED[:148]) + sum(SIGNED[156:]) + 8 * 32


def attributes(
    name: str, *members: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0, mtime: int = 0
) -> Case:
    """One empty file ``name`` that has these attributes."""
    case = tree(name, {"name": "file"}, members)
    return replace(case, attributes={"name": (mode, uid, gid, mtime)})


CASES = [
    refused("a negative size", "name", RANGE, block(size=base256(-512, 12))),
    refused("the most negative size", "name", RANGE, block(size=base256(-(2**63), 12))),
    refused("a size beyond 64 bits", "name", "too large a number", block(size=base256(2**63, 12))),
    refused("a size beyond the archive", "name", "ends inside its contents", block(size=1 << 32)),
    refused("the largest octal size", "name", "ends inside its contents", block(size=b"777777777777")),
    refused("a size of 2**63-1", "name", "ends inside its contents", block(size=base256(2**63 - 1, 12))),
    refused("a size in other letters", "name", OCTAL, block(size=b"0x200")),
    refused("a size with a sign", "name", OCTAL, block(size=b"-0000000512")),
    refused("a size in decimal digits", "name", OCTAL, block(size=b"00000000089")),
    refused("a size with a gap", "name", OCTAL, block(size=b"0001 0000")),
    refused("a mode in other letters", "name", OCTAL, block(mode=b"rw-r--")),
    refused("a mode in other digits", "name", OCTAL, block(mode="\u0660\u0660\u0666".encode())),
    refused("a negative owner", "name", "uid -1 " + RANGE, block(uid=base256(-1, 8))),
    refused("a negative group", "name", "gid -1 " + RANGE, block(gid=base256(-1, 8))),
    refused("the owner that is none", "name", f"uid {2**32 - 1} {RANGE}", block(uid=base256(2**32 - 1, 8))),
    refused("an owner that becomes root in 32 bits", "name", RANGE, block(uid=base256(2**32, 8))),
    refused("a group that becomes root in 32 bits", "name", RANGE, block(gid=base256(2**32, 8))),
    refused("an owner by pax that becomes root", "name", RANGE, pax(("uid", str(2**32))), block()),
    refused("a negative owner by pax", "name", "no value for uid", pax(("uid", "-1")), block()),
    refused("an owner by pax with a sign", "name", "no value for uid", pax(("uid", "+5")), block()),
    refused("an owner by pax of many digits", "name", "no value for uid", pax(("uid", "9" * 400)), block()),
    refused("a time that is none", "name", "no modification time", pax(("mtime", "now")), block()),
    refused("a time of many digits", "name", "no modification time", pax(("mtime", "9" * 400)), block()),
    refused("a time that is infinite", "name", "no modification time", pax(("mtime", "inf")), block()),
    refused("a device beyond 32 bits", "n", RANGE, block(b"n", b"3", major=base256(2**32, 8))),
    refused("a negative device", "n", RANGE, block(b"n", b"4", minor=base256(-1, 8))),
    refused("a device of 1979", "n", "no place for them", block(b"n", b"3", major=1, magic=V7)),
    refused("digits after a NUL", "name", OCTAL, block(uid=b"\x000000\0007")),
    refused("digits before a NUL and others after it", "name", OCTAL, block(size=b"2\x00 9")),
    broken("a wrong checksum", "its checksum does not match", block(checksum=b"000001\0 ")),
    broken("no checksum", "its checksum does not match", block(checksum=b"\0\0\0\0\0\0\0\0")),
    broken("a checksum of blanks", "its checksum does not match", block(checksum=b"        ")),
    broken("a checksum in other letters", "its checksum does not match", block(checksum=b"checksum")),
    broken("a checksum that counts itself", "does not match", block(checksum=b"%06o\0 " % (WHOLE - 256))),
    broken("no header at all", "its checksum does not match", b"x" * 512),
    broken("a lone block of zeros inside", "goes on after a block of zeros", member(), bytes(512), member()),
    broken("a prefix for some readers", "whose prefix", member(magic=USTAR[:6] + b"  ", prefix=b"p")),
    broken("a prefix for others", "whose prefix", member(magic=USTAR[:6] + b"\0\0", prefix=b"p")),
    broken("a prefix with star's times", "whose prefix", member(prefix=b"p" * 155 + b"\0" * 8 + b"tar\0")),
    attributes("numbers without an end", block(uid=b"00000007", gid=b"00000010"), uid=7, gid=8),
    attributes("numbers amid blanks", block(uid=b"  7 \0", size=b"         0 "), uid=7),
    attributes("numbers of blanks", block(uid=b" " * 8, mtime=b" " * 12, magic=V7)),
    attributes("a time before 1970", block(mtime=base256(-5, 12)), mtime=-5),
    attributes("a time before 1970 with a fraction", pax(("mtime", "-1.5")), block(), mtime=-2),
    attributes("a time far away", block(mtime=base256(2**40, 12)), mtime=2**40),
    attributes(
        "the largest owner", block(uid=base256(2**32 - 2, 8), gid=b"7777777"), uid=2**32 - 2, gid=0o7777777
    ),
    attributes("a mode with a file type in it", block(mode=0o100644)),
    attributes("a mode with more bits than there are", block(mode=b"7777755"), mode=0o7755),
    attributes("set-id bits and the sticky bit", block(mode=0o7755), mode=0o7755),
    tree(
        "a checksum of signed bytes",
        {"\udcff\udcfe": "file"},
        [block(b"\xff\xfe", checksum=b"%06o\0 " % (WHOLE - 256 * HIGH))],
    ),
    tree("a prefix that is none", {"name": "file 1"}, [member(data=b"1", magic=V7, prefix=b"../../p")]),
    tree("what follows the end", {"name": "file 1"}, [member(data=b"1"), END, member(b"evil", b"2")]),
]
