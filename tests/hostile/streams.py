"""Compressed streams: damaged, cut, in other formats than said, or with something before, between and after.

RFC 1952 (gzip), RFC 8878 (zstd).
"""

import gzip
import lzma
import zlib

import zstandard

from tests.hostile.cases import Case, gzipped, packed
from tests.hostile.headers import archive, member
from tests.images import pack

PLAIN = archive(member(b"a", b"1"))
GZIP = gzipped(PLAIN)
ZSTD = zstandard.compress(PLAIN)
TREE = {"a": "file 1"}
EARLY, DAMAGED = "ends too early", "stream is damaged"
TAR = "its checksum does not match"
DICTIONARY_FRAME = bytes.fromhex("28b52ffd23") + (7).to_bytes(4, "little") + b"\0" + b"\1\0\0"
SKIPPABLE = b"\x50\x2a\x4d\x18"


def bad(name: str, layer: bytes, why: str) -> Case:
    return Case(name, packed(layer, PLAIN), why)


def good(name: str, layer: bytes) -> Case:
    return Case(name, packed(layer, PLAIN), tree=TREE)


def frame(descriptor: int, rest: bytes) -> bytes:
    """A handmade zstd frame."""
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + rest


def changed(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + bytes([value]) + data[place + 1 :]


CASES = [
    bad("gzip: cut in its header", GZIP[:5], EARLY),
    bad("gzip: cut in its contents", GZIP[: len(GZIP) // 2], EARLY),
    bad("gzip: cut before its checksum", GZIP[:-8], EARLY),
    bad("gzip: cut before its length", GZIP[:-4], EARLY),
    bad("gzip: cut before its last byte", GZIP[:-1], EARLY),
    bad("gzip: a wrong checksum", changed(GZIP, len(GZIP) - 8, GZIP[-8] ^ 1), DAMAGED),
    bad("gzip: a wrong length", changed(GZIP, len(GZIP) - 4, GZIP[-4] ^ 1), DAMAGED),
    bad("gzip: another method", changed(GZIP, 2, 7), DAMAGED),
    bad("gzip: a reserved flag", changed(GZIP, 3, 0x20), "a flag that has no meaning"),
    bad("gzip: another reserved flag", changed(GZIP, 3, 0x80), "a flag that has no meaning"),
    bad("gzip: a wrong header checksum", GZIP[:3] + b"\2" + GZIP[4:10] + b"\0\0" + GZIP[10:], DAMAGED),
    bad("gzip: a name without an end", GZIP[:3] + b"\x08" + GZIP[4:10] + b"n" * 99_999, EARLY),
    bad("gzip: an unknown block", changed(GZIP, 10, 7), DAMAGED),
    bad("gzip: text after it", GZIP + b"something else", DAMAGED),
    bad("gzip: text after zeros after it", GZIP + bytes(99) + b"something else", DAMAGED),
    bad("gzip: a zstd frame after it", GZIP + ZSTD, DAMAGED),
    bad("gzip: a cut member after it", GZIP + GZIP[:9], EARLY),
    bad("gzip: more members than are meant", GZIP + gzipped(b"more"), "was expected"),
    bad("gzip within gzip", gzipped(GZIP), "was expected"),
    bad("zlib instead of gzip", zlib.compress(PLAIN), "was expected"),
    bad("deflate instead of gzip", zlib.compress(PLAIN, wbits=-15), "was expected"),
    bad("nothing at all", b"", "was expected"),
    bad("zeros", bytes(1024), "was expected"),
    bad("another archive than meant", gzipped(archive(member(b"a", b"2"))), "was expected"),
    bad("zstd: cut in its header", ZSTD[:5], EARLY),
    bad("zstd: cut in a block", ZSTD[:-5], EARLY),
    bad("zstd: a reserved bit", changed(ZSTD, 4, ZSTD[4] | 8), "a reserved bit"),
    bad("zstd: a reserved block", frame(0x20, b"\0" + b"\7\0\0"), "no known kind or size"),
    bad(
        "zstd: a block that is too large",
        frame(0, b"\x50" + (1 << 21 | 1).to_bytes(3, "little")),
        "kind or size",
    ),
    bad("zstd: a window of 2 TiB", frame(0, b"\xf8" + b"\1\0\0"), "too much memory"),
    bad("zstd: contents of 16 EiB", frame(0xE0, b"\xff" * 8 + b"\1\0\0"), "too much memory"),
    bad("zstd: contents that are not there", frame(0x20, b"\x09" + b"\1\0\0"), DAMAGED),
    bad("zstd: a wrong checksum", frame(0x24, b"\0" + b"\1\0\0" + b"\0\0\0\0"), DAMAGED),
    bad("zstd: a dictionary", DICTIONARY_FRAME, "needs the dictionary 7"),
    bad("zstd: text after it", ZSTD + b"something else", DAMAGED),
    bad("zstd: a gzip member after it", ZSTD + GZIP, DAMAGED),
    bad("zstd: a skippable frame that is cut", ZSTD + SKIPPABLE + b"\xff\xff\xff\xff", EARLY),
    bad("xz: cut", lzma.compress(PLAIN)[:-9], EARLY),
    bad("xz: damaged", changed(lzma.compress(PLAIN), 30, 0xFF), DAMAGED),
    Case("no archive", packed(gzipped(b"x" * 2000), b"x" * 2000), TAR),
    Case("an archive of another kind", packed(gzipped(b"070701" + b"0" * 900), b"070701" + b"0" * 900), TAR),
    Case("an archive cut in a header", packed(gzipped(PLAIN[:100]), PLAIN[:100]), "ends inside a header"),
    Case("an archive cut in contents", packed(gzipped(PLAIN[:512]), PLAIN[:512]), "ends inside its", "a"),
    Case("an archive packed twice", packed(gzipped(GZIP), GZIP), tree=TREE),
    good("gzip: members", b"".join(gzipped(PLAIN[at : at + 100]) for at in range(0, len(PLAIN), 100))),
    good("gzip: empty members amid others", gzipped(b"") * 9 + GZIP + gzipped(b"") * 9),
    good("gzip: zeros after it", GZIP + bytes(9999)),
    good(
        "gzip: a name, a comment and more",
        b"\x1f\x8b\x08\x1c" + GZIP[4:10] + b"\2\0xx" + b"../n\0c\0" + GZIP[10:],
    ),
    good("zstd, though said to be gzip", ZSTD),
    good("nothing packed, though said to be gzip", PLAIN),
    good("xz, though no layer may be", lzma.compress(PLAIN)),
    good(
        "zstd: frames, skippable ones among them",
        SKIPPABLE
        + b"\3\0\0\0abc"
        + pack(PLAIN[:700], "zstd")
        + SKIPPABLE
        + b"\0\0\0\0"
        + pack(PLAIN[700:], "zstd"),
    ),
    good("zstd: zeros after it", ZSTD + bytes(9999)),
    good("gzip: stored, not packed", gzip.compress(PLAIN, 0, mtime=0)),
]
