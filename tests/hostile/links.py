"""Links: hard links out of the image, and writes through symbolic ones.

The classes of CVE-2018-15664 (a link among the parents) and CVE-2025-4517 (Python's tarfile: links that lead
out step by step).  What a link means is what it would mean inside the image's own root; nothing leads out.
"""

from linuxkit_rules.formats.limits import Limits
from tests.hostile.cases import over, refused, tree
from tests.hostile.headers import block, extended, member, pax

OUT = "leads out of the archive"
NOTHING = "which is nothing"
ENDLESS = "symbolic links without end"


def soft(name: bytes, target: bytes) -> bytes:
    return block(name, b"2", link=target, mode=0o777)


def hard(name: bytes, target: bytes) -> bytes:
    return block(name, b"1", link=target)


def folder(name: bytes) -> bytes:
    return block(name, b"5", mode=0o755)


CHAIN = [soft(b"l%d" % number, b"l%d" % (number + 1)) for number in range(40)]
STEPS = [soft(b"a", b"."), soft(b"b", b"a/.."), soft(b"c", b"b/../.."), member(b"c/etc/x", b"1")]

CASES = [
    refused("a hard link out", "h", OUT, hard(b"h", b"../../etc/shadow")),
    refused("a hard link out by a pax record", "h", OUT, pax(("linkpath", "../x")), hard(b"h", b"x")),
    refused("a hard link out by GNU's long name", "h", OUT, extended(b"K", b"../x\0"), hard(b"h", b"x")),
    refused("a hard link out behind a directory", "h", OUT, hard(b"h", b"a/../../x")),
    refused("a hard link to nothing", "h", NOTHING, hard(b"h", b"none")),
    refused("a hard link to the host's file", "h", NOTHING, hard(b"h", b"/etc/shadow")),
    refused("a hard link to itself", "h", NOTHING, hard(b"h", b"h")),
    refused("a hard link to a later member", "h", NOTHING, hard(b"h", b"a"), member(b"a")),
    refused("a hard link to a directory", "h", "a directory", folder(b"d"), hard(b"h", b"d")),
    refused("a hard link to the root", "h", "nothing", hard(b"h", b".")),
    refused("a hard link to no name", "h", "an empty name", hard(b"h", b"")),
    refused(
        "a hard link with contents", "h", "hardlink with contents", member(b"a"), block(b"h", b"1", size=1)
    ),
    refused("a hard link behind a loop", "h", NOTHING, soft(b"l", b"l"), hard(b"h", b"m/x")),
    refused("a hard link below a file", "h", NOTHING, member(b"f"), hard(b"h", b"f/x")),
    refused("a symbolic link to no name", "s", "an empty name", soft(b"s", b"")),
    refused("a symbolic link with a NUL", "s", "a NUL", pax(("linkpath", b"a\0b")), soft(b"s", b"x")),
    refused(
        "a symbolic link with contents", "s", "symlink with contents", block(b"s", b"2", size=9, link=b"x")
    ),
    refused(
        "a symbolic link to a long name",
        "s",
        "99 bytes",
        soft(b"s", b"t" * 99),
        limits=Limits(name=32),
    ),
    refused("a link to itself among the parents", "l", ENDLESS, soft(b"l", b"l"), member(b"l/x")),
    refused("a loop among the parents", "a", ENDLESS, soft(b"a", b"b"), soft(b"b", b"/a"), member(b"a/x")),
    refused("a loop that grows", "a", ENDLESS, soft(b"a", b"a/b"), member(b"a/x")),
    refused("more links than the kernel follows", "l0", ENDLESS, *CHAIN, soft(b"l40", b"d"), member(b"l0/x")),
    refused("a file below a file", "f/x", "no directory", member(b"f"), member(b"f/x")),
    refused("a file below a device", "n/x", "no directory", block(b"n", b"3"), member(b"n/x")),
    refused(
        "a file below a hard link", "h/x", "no directory", member(b"f"), hard(b"h", b"f"), member(b"h/x")
    ),
    over(
        "a hard link to what this layer removes",
        "h",
        NOTHING,
        [member(b"a")],
        [member(b".wh.a"), hard(b"h", b"a")],
    ),
    over("a loop laid in two layers", "a", ENDLESS, [soft(b"a", b"b")], [soft(b"b", b"a"), member(b"a/x")]),
    tree(
        "a symbolic link keeps its target, wherever that is",
        {"s": "-> ../../../etc/shadow", "t": "-> /proc/self/root"},
        [soft(b"s", b"../../../etc/shadow"), soft(b"t", b"/proc/self/root")],
    ),
    tree(
        "a hard link to a link is that link",
        {"s": "-> /etc/shadow", "t": "= s"},
        [soft(b"s", b"/etc/shadow"), hard(b"t", b"s")],
    ),
    tree(
        "a write through an absolute link",
        {"l": "-> /tmp", "tmp": "directory", "tmp/x": "file 1"},
        [soft(b"l", b"/tmp"), member(b"l/x", b"1")],
    ),
    tree(
        "a write through a link that leads up",
        {"etc": "directory", "etc/x": "file 1", "l": "-> ../../../.."},
        [soft(b"l", b"../../../.."), member(b"l/etc/x", b"1")],
    ),
    tree(
        "a write through links that lead up step by step",
        {"a": "-> .", "b": "-> a/..", "c": "-> b/../..", "etc": "directory", "etc/x": "file 1"},
        STEPS,
    ),
    tree(
        "a write through a link of a lower layer",
        {"etc": "directory", "etc/x": "file 2", "l": "-> /etc"},
        [folder(b"etc"), member(b"etc/x", b"1"), soft(b"l", b"/etc")],
        [member(b"l/x", b"2")],
    ),
    tree(
        "a hard link through a link among its parents",
        {"d": "-> /etc", "etc": "directory", "etc/x": "file 1", "h": "= etc/x"},
        [member(b"etc/x", b"1"), soft(b"d", b"/etc"), hard(b"h", b"d/x")],
    ),
    tree(
        "a directory in the place of a link",
        {"etc": "directory", "etc/x": "file 1", "l": "directory", "l/x": "file 2"},
        [member(b"etc/x", b"1"), soft(b"l", b"/etc"), folder(b"l"), member(b"l/x", b"2")],
    ),
    tree(
        "a link in the place of a directory, and a write through it",
        {"etc": "directory", "etc/x": "file 2", "l": "-> /etc"},
        [member(b"etc/x", b"1"), folder(b"l"), soft(b"l", b"/etc"), member(b"l/x", b"2")],
    ),
    tree(
        "a link in the place of a lower layer's directory",
        {"etc": "directory", "etc/x": "file 1", "l": "-> /etc"},
        [member(b"l/old", b"0")],
        [soft(b"l", b"/etc"), member(b"l/x", b"1")],
    ),
    tree(
        "a link that dangles among the parents",
        {"data": "directory", "data/x": "file 1", "l": "-> data"},
        [soft(b"l", b"data"), member(b"l/x", b"1")],
    ),
    tree(
        "a chain of hard links",
        {"a": "file 1", "b": "= a", "c": "= a"},
        [member(b"a", b"1"), hard(b"b", b"a"), hard(b"c", b"b")],
    ),
    tree(
        "a hard link keeps what its file was",
        {"a": "file new", "b": "file old"},
        [member(b"a", b"old")],
        [hard(b"b", b"a"), member(b"a", b"new")],
    ),
    tree(
        "a hard link over its file's directory", {"d": "file 1"}, [member(b"d/x", b"1"), hard(b"d", b"d/x")]
    ),
]
