"""Names of members: paths that lead out, that are none, or that another program would take for others.

The classes of CVE-2007-4559 (Python's tarfile), CVE-2001-1267 (GNU tar) and CVE-2021-29136 (umoci: a link in
the root's place).
"""

from linuxkit_rules.formats.limits import Limits
from tests.hostile.cases import refused, tree
from tests.hostile.headers import block, extended, member, pax

OUT = "leads out of the archive"
ROOT = "the root of an archive must be a directory"

CASES = [
    refused("one level up", "../x", OUT, member(b"../x", b"evil")),
    refused("up behind a directory", "a/../../x", OUT, member(b"a/../../x")),
    refused("up from an absolute path", "/../x", OUT, member(b"/../x")),
    refused("up behind a dot", "./../x", OUT, member(b"./../x")),
    refused("up as a directory", "..", OUT, block(b"..", b"5")),
    refused("up as a directory with a slash", "../", OUT, block(b"../", b"5")),
    refused("up as a symbolic link", "../l", OUT, block(b"../l", b"2", link=b"/etc")),
    refused("up as a device", "../null", OUT, block(b"../null", b"3", major=1, minor=3)),
    refused("up in the prefix", "../x", OUT, member(b"x", prefix=b"..")),
    refused("up made of prefix and name", "a/../../x", OUT, member(b"../../x", prefix=b"a")),
    refused("up in a pax record", "../x", OUT, pax(("path", "../x")), member()),
    refused("up in a long name of GNU's", "../x", OUT, extended(b"L", b"../x\0"), member()),
    refused("up after many levels", "a/b/c/../../../../x", OUT, member(b"a/b/c/../../../../x")),
    refused("a file in the root's place", ".", ROOT, member(b".", b"evil")),
    refused("a link in the root's place", ".", ROOT, block(b".", b"2", link=b"/etc")),
    refused("a link in the place of a slash", "/", ROOT, block(b"/", b"2", link=b"/etc")),
    refused("a link in the place of what becomes the root", "a/..", ROOT, block(b"a/..", b"2", link=b"/etc")),
    refused("a device in the root's place", "./", ROOT, block(b"./", b"3")),
    refused("a file named as the root", "/", "a file whose name", member(b"/")),
    refused("no name", "", "an empty name", member(b"")),
    refused("no name, but a prefix", "p/", "directory with contents", member(b"", b"x", prefix=b"p")),
    refused("a NUL in a pax name", "a\0b", "a NUL in a name", pax(("path", b"a\0b")), member()),
    refused("escape codes", "../\x1b[2J\n\x07", OUT, member(b"../\x1b[2J\n\x07")),
    refused("text that runs backwards", "../\u202egnp", OUT, member("../\u202egnp".encode())),
    refused("bytes that are no text", "../\udcff\udcfe", OUT, member(b"../\xff\xfe")),
    refused("a file named as a directory", "d/", "a directory with contents", member(b"d/", b"inner")),
    refused("one level too deep", "a/b/c/d", "4 parts", member(b"a/b/c/d"), limits=Limits(depth=3)),
    refused("too long a name", "a" * 33, "33 bytes", member(b"a" * 33), limits=Limits(name=32)),
    refused(
        "too long a pax name", "a" * 99, "99 bytes", pax(("path", "a" * 99)), member(), limits=Limits(name=32)
    ),
    tree("absolute", {"etc": "directory", "etc/x": "file 1"}, [member(b"/etc/x", b"1")]),
    tree("absolute, twice over", {"etc": "directory", "etc/x": "file 1"}, [member(b"//etc///x", b"1")]),
    tree("dots on the way", {"a": "directory", "a/b": "file 1"}, [member(b"./a/././b", b"1")]),
    tree("up, but not out", {"a": "directory", "a/b": "file 1"}, [member(b"a/x/../b", b"1")]),
    tree("the root, listed in three ways", {"": "directory"}, [block(n, b"5") for n in (b".", b"./", b"/")]),
    tree("a name of three dots", {"...": "file 1"}, [member(b"...", b"1")]),
    tree("dots and a space", {".. ": "directory", ".. /x": "file 1"}, [member(b".. /x", b"1")]),
    tree("another system's way up", {"..\\..\\x": "file 1"}, [member(b"..\\..\\x", b"1")]),
    tree("another system's drive", {"C:": "directory", "C:/x": "file 1"}, [member(b"C:/x", b"1")]),
    tree(
        "dots of another script",
        {"\uff0e\uff0e": "directory", "\uff0e\uff0e/x": "file 1"},
        [member("\uff0e\uff0e/x".encode(), b"1")],
    ),
    tree(
        "dots in overlong UTF-8",
        {"\udcc0\udcae\udcc0\udcae": "directory", "\udcc0\udcae\udcc0\udcae/x": "file 1"},
        [member(b"\xc0\xae\xc0\xae/x", b"1")],
    ),
    tree("a name that ends at its NUL", {"a": "file 1"}, [member(b"a\0/../../x", b"1")]),
    tree("a newline", {"a\nb": "file 1"}, [member(b"a\nb", b"1")]),
    tree("the deepest that is allowed", {"a": "directory", "a/b": "file 1"}, [member(b"a/b", b"1")]),
]
