"""Types of members: devices, those that no image has, and those that one path has one after the other."""

from tests.hostile.cases import refused, tree
from tests.hostile.fields import attributes
from tests.hostile.headers import GNU, V7, block, member, pax
from tests.hostile.links import folder, hard, soft

UNKNOWN = "is not supported"

CASES = [
    *(
        refused(f"a member of the type {what}", "name", UNKNOWN, block(flag=flag, magic=GNU))
        for flag, what in (
            (b"M", "of a further volume"),
            (b"V", "of a volume's label"),
            (b"D", "of a dump's directory"),
            (b"N", "of an old long name"),
            (b"A", "of Solaris's lists"),
            (b"X", "of Solaris's headers"),
            (b"I", "of an inode"),
            (b"8", "that is reserved"),
            (b"Z", "of a vendor"),
            (b" ", "blank"),
            (b"\xff", "255"),
        )
    ),
    refused(
        "an old sparse file", "name", "a sparse file is not supported", block(flag=b"S", size=512, magic=GNU)
    ),
    refused("a directory with contents", "d", "with contents", block(b"d", b"5", size=512), member(b"evil")),
    refused("a device with contents", "n", "with contents", block(b"n", b"3", size=512), member(b"evil")),
    refused("a disk with contents", "n", "with contents", block(b"n", b"4", size=512), member(b"evil")),
    refused("a pipe with contents", "n", "with contents", block(b"n", b"6", size=512), member(b"evil")),
    refused("a contiguous directory", "d/", "a file whose name is", block(b"d/", b"7")),
    tree(
        "devices stay what they are",
        {"disk": "block 8,0", "mem": "char 1,1", "pipe": "fifo"},
        [block(b"mem", b"3", major=1, minor=1), block(b"disk", b"4", major=8), block(b"pipe", b"6")],
    ),
    tree(
        "the largest device",
        {"n": "char 2097151,2097151"},
        [block(b"n", b"3", major=b"7777777", minor=b"7777777")],
    ),
    tree("a device's numbers for a file", {"name": "file 1"}, [member(data=b"1", major=8, minor=1)]),
    tree("a contiguous file", {"name": "file 1"}, [member(data=b"1", flag=b"7")]),
    tree("a file of 1979", {"name": "file 1"}, [member(data=b"1", flag=b"\0", magic=V7)]),
    tree("a directory of 1979", {"d": "directory"}, [block(b"d/", b"\0", magic=V7)]),
    tree(
        "a file, then a directory",
        {"x": "directory", "x/y": "file 1"},
        [member(b"x", b"0"), folder(b"x"), member(b"x/y", b"1")],
    ),
    tree(
        "a directory, then a file", {"x": "file 1"}, [folder(b"x"), member(b"x/y", b"0"), member(b"x", b"1")]
    ),
    tree(
        "there and back",
        {"x": "directory", "x/z": "file 2"},
        [folder(b"x"), member(b"x/y", b"0"), member(b"x", b"1"), folder(b"x"), member(b"x/z", b"2")],
    ),
    tree("one file twice", {"x": "file 2"}, [member(b"x", b"1"), member(b"x", b"2")]),
    tree("one file by two names of one path", {"x": "file 2"}, [member(b"x", b"1"), member(b"./x", b"2")]),
    tree(
        "a file, then a link",
        {"x": "-> y", "y": "file 1"},
        [member(b"y", b"1"), member(b"x", b"0"), soft(b"x", b"y")],
    ),
    tree(
        "a link, then a file: its target stays",
        {"x": "file 2", "y": "file 1"},
        [member(b"y", b"1"), soft(b"x", b"y"), member(b"x", b"2")],
    ),
    tree(
        "a hard link, then a file: its twin stays",
        {"x": "file 2", "y": "file 1"},
        [member(b"y", b"1"), hard(b"x", b"y"), member(b"x", b"2")],
    ),
    tree("a device, then a file", {"n": "file 1"}, [block(b"n", b"3", major=1, minor=3), member(b"n", b"1")]),
    tree(
        "a directory again keeps what is in it",
        {"d": "directory", "d/x": "file 1"},
        [folder(b"d"), member(b"d/x", b"1"), folder(b"d")],
    ),
    attributes(
        "a set-id file's attributes are its own",
        pax(("SCHILY.xattr.security.capability", b"\x01\0\0\2")),
        block(mode=0o4755),
        mode=0o4755,
    ),
]
