"""Whiteouts: layer.md, "Whiteouts" and "Opaque Whiteout".  Names that begin with ``.wh.`` are reserved."""

from tests.hostile.cases import over, refused, tree
from tests.hostile.headers import block, member, pax
from tests.hostile.links import folder, hard, soft

NOTHING = "a whiteout that names nothing"
BELOW = "a path below a whiteout"
OPAQUE = b".wh..wh..opq"
LOWER = [folder(b"d"), member(b"d/x", b"1"), member(b"d/y", b"2")]
LINKED = [folder(b"real"), member(b"real/x", b"1"), soft(b"l", b"real")]

CASES = [
    refused("a whiteout of nothing", ".wh.", NOTHING, member(b".wh.")),
    refused("a whiteout of nothing in a directory", "d/.wh.", NOTHING, member(b"d/.wh.")),
    refused("a whiteout of the directory itself", ".wh..", NOTHING, member(b".wh..")),
    refused("a whiteout of the directory itself, below", "d/.wh..", NOTHING, member(b"d/.wh..")),
    refused("a whiteout of the parent", ".wh...", NOTHING, member(b".wh...")),
    refused("a whiteout of the parent, below", "d/.wh...", NOTHING, member(b"d/.wh...")),
    refused("a whiteout out of the image", "../.wh.etc", "leads out", member(b"../.wh.etc")),
    refused("a file below a whiteout", ".wh.d/x", BELOW, member(b".wh.d/x")),
    refused("a link below a whiteout", "a/.wh.d/x", BELOW, soft(b"a/.wh.d/x", b"/etc")),
    over("a whiteout behind a loop", "l", "without end", [soft(b"l", b"l")], [member(b"l/.wh.x")]),
    tree(
        "whiteouts in the lowest layer",
        {"a": "file 1"},
        [member(b".wh.a"), member(b"a", b"1"), member(OPAQUE)],
    ),
    tree(
        "a whiteout of what is not there",
        {"d": "directory", "d/x": "file 1", "d/y": "file 2"},
        LOWER,
        [member(b"no/.wh.x")],
    ),
    tree(
        "an opaque directory that is not there",
        {"d": "directory", "d/x": "file 1", "d/y": "file 2"},
        LOWER,
        [member(b"no/" + OPAQUE)],
    ),
    tree("a whiteout of a directory", {"z": "file 3"}, LOWER, [member(b".wh.d"), member(b"z", b"3")]),
    tree("an opaque root", {"z": "file 3"}, LOWER, [member(b"z", b"3"), member(OPAQUE)]),
    tree(
        "a whiteout before its own layer's file",
        {"d": "directory", "d/x": "file 3", "d/y": "file 2"},
        LOWER,
        [member(b"d/.wh.x"), member(b"d/x", b"3")],
    ),
    tree(
        "a whiteout after its own layer's file",
        {"d": "directory", "d/x": "file 3", "d/y": "file 2"},
        LOWER,
        [member(b"d/x", b"3"), member(b"d/.wh.x")],
    ),
    tree(
        "an opaque marker after its own layer's files",
        {"d": "directory", "d/z": "file 3"},
        LOWER,
        [member(b"d/z", b"3"), member(b"d/" + OPAQUE)],
    ),
    tree("a whiteout through a link", {"l": "-> real", "real": "directory"}, LINKED, [member(b"l/.wh.x")]),
    tree(
        "an opaque marker through a link",
        {"l": "-> real", "real": "directory"},
        LINKED,
        [member(b"l/" + OPAQUE)],
    ),
    tree(
        "a whiteout through a link that leads up",
        {"d": "directory", "d/y": "file 2", "up": "-> ../../.."},
        [*LOWER, soft(b"up", b"../../..")],
        [member(b"up/d/.wh.x")],
    ),
    tree(
        "an opaque marker through a link to the root",
        {"z": "file 3"},
        [*LOWER, soft(b"root", b"/")],
        [member(b"root/" + OPAQUE), member(b"z", b"3")],
    ),
    tree(
        "a whiteout of a link leaves its target",
        {"real": "directory", "real/x": "file 1"},
        LINKED,
        [member(b".wh.l")],
    ),
    tree(
        "a whiteout below a directory in a link's place",
        {"l": "directory", "real": "directory", "real/x": "file 1"},
        LINKED,
        [folder(b"l"), member(b"l/.wh.x")],
    ),
    tree(
        "an opaque marker below a directory in a link's place",
        {"l": "directory", "real": "directory", "real/x": "file 1"},
        LINKED,
        [folder(b"l"), member(b"l/" + OPAQUE)],
    ),
    tree(
        "a whiteout of one name of a file",
        {"b": "file 1"},
        [member(b"a", b"1"), hard(b"b", b"a")],
        [member(b".wh.a")],
    ),
    tree(
        "a whiteout with contents", {"d": "directory", "d/y": "file 2"}, LOWER, [member(b"d/.wh.x", b"boo")]
    ),
    tree("a whiteout that is a link", {"d": "directory", "d/y": "file 2"}, LOWER, [soft(b"d/.wh.x", b"y")]),
    tree("a whiteout that is a directory", {"d": "directory", "d/y": "file 2"}, LOWER, [folder(b"d/.wh.x/")]),
    tree(
        "a whiteout by a name with dots",
        {"d": "directory", "d/y": "file 2"},
        LOWER,
        [member(b"d/e/../.wh.x")],
    ),
    tree(
        "a driver's own names",
        {"a": "file 1"},
        [
            member(b"a", b"1"),
            member(b".wh..wh.aufs"),
            folder(b".wh..wh.plnk"),
            member(b".wh..wh.plnk/12.34", b"x"),
        ],
    ),
    tree(
        "a whiteout of a whiteout",
        {"d": "directory", "d/x": "file 1", "d/y": "file 2"},
        LOWER,
        [member(b"d/.wh..wh.x")],
    ),
    tree(
        "an opaque marker misspelt",
        {"d": "directory", "d/x": "file 1", "d/y": "file 2"},
        LOWER,
        [member(b"d/.wh..wh..opq2")],
    ),
    tree(
        "names that are nearly reserved",
        {".wh": "file 1", "a.wh.b": "file 2", "wh.a": "file 3"},
        [member(b".wh", b"1"), member(b"a.wh.b", b"2"), member(b"wh.a", b"3")],
    ),
    tree(
        "overlayfs's whiteout is a device like others",
        {"a": "file 1", "d": "char 0,0"},
        [member(b"a", b"1"), member(b"d", b"2")],
        [block(b"d", b"3")],
    ),
    tree(
        "overlayfs's opaque attribute is one like others",
        {"d": "directory", "d/x": "file 1", "d/y": "file 2"},
        LOWER,
        [pax(("SCHILY.xattr.trusted.overlay.opaque", "y")), folder(b"d")],
    ),
    tree(
        "what was removed does not come back",
        {"d": "directory", "d/z": "file 3"},
        LOWER,
        [member(b".wh.d")],
        [member(b"d/z", b"3")],
    ),
]
