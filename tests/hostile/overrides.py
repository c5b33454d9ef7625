"""Extension headers: pax and GNU records that disagree with the header, with each other, or with sense.

The classes of CVE-2025-62518 (tokio-tar) and GHSA-3pv8-6f4r-ffg2 (tar-rs): a size that one reader takes from
pax and another from ustar; of CVE-2019-20907 (Python's tarfile) and CVE-2019-9923 (GNU tar): damaged records;
and of CVE-2022-2879 (Go): headers without a bound.
"""

from tests.hostile.cases import broken, refused, tree
from tests.hostile.headers import base256, block, extended, member, padded, pax

MANY = "an extension header too many"
TWICE = "a name given twice, by pax and by GNU"
GLOBAL = "a global header that says"
DAMAGED = "a damaged pax record"
SPARSE = "a sparse file is not supported"
VALUE = "is no value for size"
INNER = member(b"smuggled", b"evil")


def records(text: bytes) -> bytes:
    """A pax header of bytes that may be no records."""
    return extended(b"x", text)


CASES = [
    refused("a negative size by pax", "name", VALUE, pax(("size", "-1")), block()),
    refused("a size by pax of many digits", "name", VALUE, pax(("size", "9" * 19)), block()),
    refused("a size by pax in other letters", "name", VALUE, pax(("size", "0x10")), block()),
    refused("a size by pax with a fraction", "name", VALUE, pax(("size", "1.0")), block()),
    refused("a size by pax in other digits", "name", VALUE, pax(("size", "\u0661".encode())), block()),
    refused("a size by pax beyond the archive", "name", "ends inside", pax(("size", "9" * 18)), block()),
    refused(
        "a directory's size by pax", "d", "with contents", pax(("size", "1024")), block(b"d", b"5"), INNER
    ),
    refused("a link's size by pax", "l", "with contents", pax(("size", "9")), block(b"l", b"2", link=b"x")),
    refused(
        "a device's numbers by star",
        "n",
        "by SCHILY.devmajor",
        pax(("SCHILY.devmajor", "9")),
        block(b"n", b"3"),
    ),
    refused("an attribute without a name", "name", "attribute", pax(("SCHILY.xattr.", "1")), block()),
    refused(
        "an attribute's name with a NUL", "name", "attribute", pax(("SCHILY.xattr.user.a\0b", "1")), block()
    ),
    broken("two pax headers", MANY, pax(("path", "a")), pax(("path", "b")), block()),
    broken("two long names", MANY, extended(b"L", b"a\0"), extended(b"L", b"b\0"), block()),
    broken("two long links", MANY, extended(b"K", b"a\0"), extended(b"K", b"b\0"), block(flag=b"2")),
    broken("a name by pax, then by GNU", TWICE, pax(("path", "a")), extended(b"L", b"b\0"), block()),
    broken("a name by GNU, then by pax", TWICE, extended(b"L", b"b\0"), pax(("path", "a")), block()),
    broken(
        "a link by pax and by GNU", TWICE, pax(("linkpath", "a")), extended(b"K", b"b\0"), block(flag=b"2")
    ),
    broken("a global header inside", MANY, pax(("path", "a")), pax(("uid", "1"), flag=b"g"), block()),
    broken("a global name", f"{GLOBAL} path", pax(("path", "a"), flag=b"g"), block()),
    broken("a global link", f"{GLOBAL} linkpath", pax(("linkpath", "a"), flag=b"g"), block()),
    broken("a global size", f"{GLOBAL} size", pax(("size", "0"), flag=b"g"), member(data=b"1")),
    broken("a global attribute", f"{GLOBAL} SCHILY", pax(("SCHILY.xattr.user.a", "1"), flag=b"g"), block()),
    broken("an empty long name", "an empty long name", extended(b"L", b"\0"), block()),
    broken("a long name of no bytes", "an empty long name", extended(b"L", b""), block()),
    broken("an empty long link", "an empty long name", extended(b"K", b"\0"), block(flag=b"2")),
    *(
        broken(f"an empty {key} by pax", "an empty name or size", pax((key, "")), member(data=b"1"))
        for key in ("path", "linkpath", "size")
    ),
    broken("a pax header for nothing", "ends after an extension header", pax(("path", "a"))),
    broken("an empty pax header for nothing", "ends after an extension header", records(b"")),
    broken("a long name for nothing", "ends after an extension header", extended(b"L", b"a\0")),
    broken("a negative extension header", "of -1 bytes", block(flag=b"x", size=base256(-1, 12)), block()),
    broken(
        "an extension header of 8 GiB",
        "more than the 1048576",
        block(flag=b"x", size=b"77777777777"),
        block(),
    ),
    broken(
        "a long name of 8 EiB",
        "more than the 1048576",
        block(flag=b"L", size=base256(2**63 - 1, 12)),
        block(),
    ),
    broken("a global header of 8 GiB", "more than the 1048576", block(flag=b"g", size=b"77777777777")),
    broken("an extension header without its data", "inside an extension", block(flag=b"x", size=4000)),
    broken("a record of length 0", DAMAGED, records(b"0 path=a\n"), block()),
    broken("a record of negative length", DAMAGED, records(b"-9 path=a\n"), block()),
    broken("a record that is too short", DAMAGED, records(b"8 path=a\n"), block()),
    broken("a record that is too long", DAMAGED, records(b"99 path=a\n"), block()),
    broken("a record of huge length", DAMAGED, records(b"9" * 40 + b" path=a\n"), block()),
    broken("a record without an equals sign", DAMAGED, records(b"9 path/a\n"), block()),
    broken("a record without a key", DAMAGED, records(b"6 =ab\n"), block()),
    broken("a record without its newline", DAMAGED, records(b"10 path=ab"), block()),
    broken("a record of NULs", DAMAGED, records(bytes(512)), block()),
    broken("a record's length in other digits", DAMAGED, records("\u0661\u0662 path=a\n".encode()), block()),
    broken(
        "a sparse file by pax 0.0",
        SPARSE,
        pax(("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", "1")),
        block(),
    ),
    broken(
        "a sparse file by pax 1.0",
        SPARSE,
        pax(("GNU.sparse.major", "1"), ("GNU.sparse.name", "../x")),
        block(),
    ),
    broken("a sparse file of star's", SPARSE, pax(("SCHILY.realsize", "9")), block()),
    broken("a sparse file of Solaris's", SPARSE, pax(("SUN.holesdata", " 0 9")), block()),
    broken("all sparse files by a global header", SPARSE, pax(("GNU.sparse.map", "0,1"), flag=b"g"), block()),
    tree(
        "contents that only pax tells of",
        {"after": "file 1", "name": f"file {INNER.decode()}".rstrip()},
        [pax(("size", str(len(INNER)))), block(size=0), INNER, member(b"after", b"1")],
    ),
    tree(
        "contents that pax takes back",
        {"after": "file 1", "name": "file", "smuggled": "file evil"},
        [pax(("size", "0")), block(size=1024), INNER, member(b"after", b"1")],
    ),
    tree(
        "a size by pax and a long name",
        {"after": "file 1", "long": f"file {INNER.decode()}".rstrip()},
        [
            pax(("size", str(len(INNER)))),
            extended(b"L", b"long\0"),
            block(size=9),
            INNER,
            member(b"after", b"1"),
        ],
    ),
    tree("the last of two records counts", {"b": "file"}, [pax(("path", "a"), ("path", "b")), block()]),
    tree("a long name without its NUL", {"long": "file"}, [extended(b"L", b"long"), block()]),
    tree(
        "a long name that ends at its NUL", {"long": "file"}, [extended(b"L", b"long\0/../../x\0"), block()]
    ),
    tree(
        "a long link for what is no link", {"name": "file 1"}, [extended(b"K", b"../x\0"), member(data=b"1")]
    ),
    tree(
        "a link by pax for what is no link",
        {"name": "file 1"},
        [pax(("linkpath", "../x")), member(data=b"1")],
    ),
    tree("a comment for all", {"name": "file"}, [pax(("comment", "x" * 9000), flag=b"g"), block()]),
    tree(
        "records of other makers",
        {"name": "file"},
        [pax(("SCHILY.ino", "9"), ("LIBARCHIVE.xattr.a", "eA"), ("RHT.security.selinux", "x")), block()],
    ),
    tree(
        "names in a character set of its own",
        {"\udcff": "file"},
        [pax(("hdrcharset", "BINARY"), ("path", b"\xff")), block()],
    ),
    tree(
        "a pax header that says nothing",
        {"long": "file 1"},
        [extended(b"x", b""), extended(b"L", b"long\0"), member(data=b"1")],
    ),
    tree(
        "padding that is not zero",
        {"a": "file 1", "b": "file 2"},
        [block(b"a", size=1), b"1".ljust(512, b"x"), block(b"b", size=1), padded(b"2")],
    ),
]
