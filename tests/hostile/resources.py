"""Bombs: little that becomes much, in bytes, members, frames, entries, links and layers.

The classes of CVE-2017-14992 (Docker: a gzip bomb), CVE-2022-2879 (Go: headers without a bound) and
CVE-2026-59873 (node-tar: no bounds at all).
"""

import zlib
from dataclasses import replace

import zstandard

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.oci.manifest import CONFIG, LAYER, MANIFEST, Manifest
from tests.hostile.cases import Build, Case, gzipped, layers, packed
from tests.hostile.headers import archive, block, member, pax
from tests.hostile.links import folder, soft
from tests.images import Blobs

ZEROS = archive(member(b"zeros", bytes(8 << 20)))
SMALL = archive(member(b"a", b"1"))
TREE = {"a": "file 1"}
FEW = Limits(entries=100)
ATTRIBUTES = pax(*((f"SCHILY.xattr.user.{n}", bytes(65_000)) for n in range(15)))


def zstd_zeros(size: int) -> bytes:
    """A frame of ``size`` zeros, 32768 bytes for each of its own."""
    blocks, last = size >> 17, (size >> 17) - 1
    runs = (
        ((1 << 17) << 3 | 1 << 1 | (number == last)).to_bytes(3, "little") + b"\0" for number in range(blocks)
    )
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(runs)


def bomb(name: str, layer: bytes, why: str, limits: Limits = DEFAULT_LIMITS) -> Case:
    return Case(name, packed(layer, SMALL), why, limits=limits)


def held(name: str, plain: bytes, why: str, entry: str | None = None, *, limits: Limits) -> Case:
    return Case(name, layers(plain), why, entry, limits=limits)


def stack(count: int) -> Build:
    return layers(*(archive(member(b"a", b"%d" % number)) for number in range(count)))


def same(count: int) -> Build:
    """One layer, many times."""
    return lambda blobs: blobs.image([SMALL] * count)


def huge(blobs: Blobs) -> Descriptor:
    """A layer that is said to be longer than any."""
    layer = replace(blobs.add(gzipped(SMALL), LAYER), size=2**63 - 1)
    manifest = Manifest(blobs.add(blobs.config([SMALL]), CONFIG), (layer,))
    return blobs.add(manifest.to_bytes(), MANIFEST)


CASES = [
    bomb(
        "gzip: a thousandfold",
        zlib.compress(ZEROS, 9, wbits=31),
        "of each compressed one",
        Limits(floor=1 << 20),
    ),
    bomb(
        "zstd: thirty thousandfold",
        zstandard.compress(ZEROS),
        "of each compressed one",
        Limits(floor=1 << 20),
    ),
    bomb("zstd: more than a GiB by default", zstd_zeros(9 << 30), "more than the 500 allowed"),
    bomb("gzip: more bytes than allowed", gzipped(ZEROS), "bytes uncompressed", Limits(total=1 << 20)),
    bomb(
        "zstd: more bytes than allowed",
        zstandard.compress(ZEROS),
        "bytes uncompressed",
        Limits(total=1 << 20),
    ),
    bomb("nothing packed, more bytes than allowed", ZEROS, "bytes uncompressed", Limits(total=1 << 20)),
    bomb("gzip: very many members", gzipped(b"") * 1001, "members or frames", Limits(members=1000)),
    bomb("gzip: more members than allowed", gzipped(b"x") * 9, "members or frames", Limits(members=8)),
    bomb("zstd: very many frames", zstandard.compress(b"") * 1001, "members or frames", Limits(members=1000)),
    bomb(
        "zstd: very many skippable frames",
        b"\x50\x2a\x4d\x18\0\0\0\0" * 1001,
        "or frames",
        Limits(members=1000),
    ),
    held("an archive larger than allowed", ZEROS, "bytes uncompressed", limits=Limits(total=8 << 20)),
    held("more members than allowed", archive(*[block()] * 101), "101 members", limits=FEW),
    held(
        "directories that none lists",
        archive(member(b"d/" * 49 + b"x"), member(b"e/" * 49 + b"x"), member(b"f/" * 9 + b"x")),
        "entries in all layers",
        limits=FEW,
    ),
    held(
        "attributes, more than allowed",
        archive(pax(*((f"SCHILY.xattr.user.{n}", "1") for n in range(9))), block(b"a")),
        "9 extended attributes",
        "a",
        limits=Limits(xattrs=8),
    ),
    held(
        "an attribute longer than allowed",
        archive(pax(("SCHILY.xattr.user.a", "1" * 99)), block(b"a")),
        "of 99 bytes",
        "a",
        limits=Limits(xattr=98),
    ),
    held(
        "attributes that are few and long, of many members",
        archive(*[ATTRIBUTES, block(b"a")] * 20, *[ATTRIBUTES, block(b"b")] * 20),
        "names and attributes of .* bytes, more than the 20000000 allowed",
        "b",
        limits=Limits(metadata=20_000_000),
    ),
    held(
        "attributes that are many and short, of many members",
        archive(*[pax(*((f"SCHILY.xattr.{n}", "") for n in range(99))), block(b"a")] * 20),
        "names and attributes of",
        "a",
        limits=Limits(metadata=300_000),
    ),
    held(
        "long names, of many members",
        archive(*(pax(("path", f"{n}/" * 99)) + member() for n in range(10, 40))),
        "names and attributes of 5032 bytes",
        "26/" * 98 + "26",
        limits=Limits(metadata=5000),
    ),
    held(
        "long targets of links, of many members",
        archive(*(pax(("linkpath", "x" * 999)) + soft(b"l%d" % n, b"") for n in range(9))),
        "names and attributes of",
        "l4",
        limits=Limits(metadata=5000),
    ),
    held(
        "names that take four bytes a character",
        archive(member("é".encode() * 20 + b"1"), member("é".encode() * 20 + b"2")),
        "names and attributes of 168 bytes",
        "é" * 20 + "2",
        limits=Limits(metadata=150),
    ),
    held(
        "directories that none lists, with long names",
        archive(pax(("path", "d" * 90 + "/d" * 49)) + member()),
        "names and attributes of .* bytes in all layers",
        limits=Limits(metadata=5000),
    ),
    held(
        "links that make names long",
        archive(soft(b"l", b"d" * 99), folder(b"d" * 99), *(member(b"l/%d" % n) for n in range(99))),
        "names and attributes of .* bytes in all layers",
        "l",
        limits=Limits(metadata=5000),
    ),
    Case(
        "more names than allowed together",
        layers(*(archive(member(b"%d" % n * 99)) for n in range(9))),
        "names and attributes of 594 bytes in all layers",
        limits=Limits(metadata=500),
    ),
    held(
        "an extension header longer than allowed",
        archive(pax(("comment", "1" * 99)), block(b"a")),
        "extension header of",
        limits=Limits(extension=99),
    ),
    held(
        "links that lead deep",
        archive(soft(b"l", b"/".join([b"d"] * 9)), member(b"l/e/f/x")),
        "a path of 11 parts",
        "l/e/f",
        limits=Limits(depth=10),
    ),
    held(
        "links that are walked over and over",
        archive(soft(b"l", b"a/../" * 19 + b"a"), folder(b"a"), *[member(b"l/x")] * 50),
        "parts of symbolic links",
        "l",
        limits=FEW,
    ),
    Case(
        "more layers than allowed",
        stack(9),
        "9 layers, more than the 8",
        layer=False,
        limits=Limits(layers=8),
    ),
    Case(
        "layers larger than allowed together",
        same(9),
        "layers of .* bytes",
        layer=False,
        limits=Limits(image=9000),
    ),
    Case("more entries than allowed together", stack(9), "entries in all layers", limits=Limits(entries=8)),
    Case("a layer said to be of 8 EiB", huge, "layers of many bytes", layer=False),
    Case(
        "a manifest longer than allowed",
        stack(9),
        "longer than the 900",
        layer=False,
        limits=Limits(document=900),
    ),
    Case(
        "zeros, a thousandfold, but few",
        packed(gzipped(SMALL + bytes(1 << 20)), SMALL + bytes(1 << 20)),
        tree=TREE,
    ),
    Case(
        "as many bytes of names and attributes as allowed",
        layers(archive(pax(("SCHILY.xattr.user.a", "1" * 98)), member(b"a", b"1"))),
        tree=TREE,
        limits=Limits(metadata=1 + 192 + 6 + 98),
    ),
    Case("as many layers as allowed", stack(8), tree={"a": "file 7"}, limits=Limits(layers=8)),
    Case("as many members as allowed", layers(archive(*[member(b"a", b"1")] * 100)), tree=TREE, limits=FEW),
    Case(
        "a frame for each byte",
        packed(b"".join(zstandard.compress(SMALL[n : n + 1]) for n in range(len(SMALL))), SMALL),
        tree=TREE,
    ),
    Case(
        "as long an attribute as allowed",
        layers(archive(pax(("SCHILY.xattr.user.a", "1" * 98)), member(b"a", b"1"))),
        tree=TREE,
        limits=Limits(xattr=98),
    ),
]
