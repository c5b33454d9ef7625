import dataclasses
import io
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.streams import SupportsWrite


def copy(content: bytes | Slice, out: SupportsWrite) -> None:
    assert isinstance(content, bytes)
    out.write(content)


def written(*items: Entry) -> bytes:
    out = io.BytesIO()
    assert cpio.write(items, out, copy) == len(out.getvalue())
    return out.getvalue()


def entries(data: bytes) -> list[Entry]:
    return list(cpio.read(io.BytesIO(data)))


def newc(name: bytes, mode: int, content: bytes = b"", ino: int = 1, nlink: int = 1) -> bytes:
    """A member written by hand, from the table in buffer-format.rst."""
    fields = (ino, mode, 0, 0, nlink, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    head += bytes(-len(head) % 4)
    return head + content + bytes(-len(content) % 4)


TRAILER = newc(b"TRAILER!!!", 0, ino=0)

TREE = (
    Entry("", Kind.DIRECTORY, 0o1751, 12, 13, 1111111111),
    Entry("d", Kind.DIRECTORY, 0o755),
    Entry("d/a", Kind.FILE, 0o4750, 3, 4, 1492533000, content=b"hello"),
    Entry("d/empty", Kind.FILE, 0o600, 2**32 - 2, 2**32 - 2),
    Entry("d/l", Kind.SYMLINK, 0o777, link="../else where"),
    Entry("n", Kind.CHAR, 0o666, major=1, minor=3),
    Entry("o", Kind.BLOCK, 0o660, major=259, minor=70000),
    Entry("p", Kind.FIFO, 0o622),
    Entry(b"\xff\n".decode("utf-8", "surrogateescape"), Kind.FILE, content=b"1"),
)


def test_what_is_written_is_read_back() -> None:
    assert entries(written(*TREE)) == list(TREE)


def test_the_layout_is_that_of_the_kernels_document() -> None:
    data = written(Entry("d", Kind.DIRECTORY, 0o755), Entry("d/file", Kind.FILE, 0o644, content=b"hello"))
    expected = (
        newc(b"d", 0o040755) + newc(b"d/file", 0o100644, b"hello", ino=2) + newc(b"TRAILER!!!", 0, ino=0)
    )
    assert data.lower() == expected.lower()
    assert len(data) % 4 == 0


def test_hard_links_share_a_number_and_only_the_first_has_contents() -> None:
    file = Entry("a", Kind.FILE, 0o640, 3, 4, 5, content=b"hello")
    data = written(
        file, Entry("x", Kind.FILE), Entry("b", Kind.HARDLINK, link="a"), Entry("c", Kind.HARDLINK, link="a")
    )
    assert data.count(b"hello") == 1
    heads = []
    position = 0
    for _ in range(4):
        fields = [
            int(field, 16) for field in struct.unpack("6s" + 13 * "8s", data[position : position + 110])
        ]
        heads.append((fields[1], fields[2], fields[5], fields[7]))
        position += 110 + fields[12] + -(110 + fields[12]) % 4 + fields[7] + -fields[7] % 4
    assert heads == [(1, 0o100640, 3, 5), (2, 0o100644, 1, 0), (1, 0o100640, 3, 0), (1, 0o100640, 3, 0)]
    twins = [dataclasses.replace(file, path=name, kind=Kind.HARDLINK, link="a", content=b"") for name in "bc"]
    assert entries(data) == [file, Entry("x", Kind.FILE), *twins]


def test_a_hard_link_to_a_symbolic_link_becomes_a_copy() -> None:
    data = written(Entry("s", Kind.SYMLINK, 0o777, link="there"), Entry("t", Kind.HARDLINK, link="s"))
    assert entries(data)[1] == Entry("t", Kind.SYMLINK, 0o777, link="there")


def test_an_indirect_hard_link_becomes_a_symbolic_link() -> None:
    first = Entry("d/a", Kind.FILE, content=b"x")
    direct = Entry("d/b", Kind.HARDLINK, link="d/a")
    indirect = Entry("e/c", Kind.HARDLINK, 0o640, 3, link="d/a", via="d/b")
    symbolic = [Entry("h", Kind.SYMLINK, link="x", via="s"), Entry("s", Kind.HARDLINK, link="h")]
    found = {item.path: item for item in entries(written(first, direct, indirect, *symbolic))}
    assert (found["e/c"].kind, found["e/c"].link, found["e/c"].uid) == (Kind.SYMLINK, "../d/b", 0)
    assert found["d/b"].kind is Kind.HARDLINK
    made = [(found[name].kind, found[name].link) for name in "hs"]
    assert made == [(Kind.SYMLINK, "s"), (Kind.SYMLINK, "x")]


def test_contents_are_kept_where_the_first_name_is_an_indirect_hard_link() -> None:
    first = Entry("a", Kind.FILE, 0o640, content=b"hello", via="y")
    links = [Entry(name, Kind.HARDLINK, 0o640, link="a") for name in "yz"]
    linked = Entry("a", Kind.SYMLINK, 0o777, link="y")
    file = Entry("y", Kind.FILE, 0o640, content=b"hello")
    assert entries(written(first, *links)) == [linked, file, dataclasses.replace(links[1], link="y")]


def test_an_archive_holds_what_it_is_said_to_hold() -> None:
    times = [Entry("old", Kind.FILE, mtime=-1), Entry("new", Kind.FILE, mtime=1 << 40)]
    tree = [*TREE, *times, Entry("x", Kind.FILE, xattrs=(("user.a", b"1"),))]
    held = cpio.held(tree)
    assert entries(written(*tree)) == held
    assert [entry.mtime for entry in held[-3:-1]] == [0, 2**32 - 1]
    assert held[-1].xattrs == ()


@pytest.mark.parametrize("order", [(b"", b"hello"), (b"hello", b""), (b"hello", b"hello")])
def test_contents_of_linked_files_may_stand_with_any_of_them(order: tuple[bytes, bytes]) -> None:
    data = newc(b"a", 0o100644, order[0], 7, 2) + newc(b"b", 0o100644, order[1], 7, 2) + TRAILER
    first, second = entries(data)
    assert (first.content, second.kind, second.link) == (b"hello", Kind.HARDLINK, "a")


def test_inode_numbers_end_with_their_archive() -> None:
    one = newc(b"a", 0o100644, b"1", 7, 2) + TRAILER
    two = newc(b"b", 0o100644, b"2", 7, 2) + TRAILER
    assert [(item.path, item.content) for item in entries(one + bytes(512) + two + bytes(6))] == [
        ("a", b"1"),
        ("b", b"2"),
    ]


def test_contents_can_be_slices() -> None:
    data = bytes(8) + written(*TREE)
    blob = Digest.of(data)
    found = {item.path: item for item in cpio.read(io.BytesIO(data), blob)}
    place = found["d/a"].content
    assert isinstance(place, Slice)
    assert (place.digest, data[place.offset : place.offset + place.size]) == (blob, b"hello")
    assert found["d/l"].link == "../else where"


@pytest.mark.parametrize(("mtime", "kept"), [(-86400, 0), (2**32 + 5, 2**32 - 1), (7, 7)])
def test_times_are_held_within_32_bits(mtime: int, kept: int) -> None:
    assert entries(written(Entry("f", Kind.FILE, mtime=mtime)))[0].mtime == kept


@pytest.mark.parametrize(
    "items",
    [
        (Entry("b", Kind.HARDLINK, link="a"),),
        (Entry("b", Kind.HARDLINK, link="a"), Entry("a", Kind.FILE)),
        (Entry("big", Kind.FILE, content=Slice(Digest.of(b""), 0, 2**32)),),
        (Entry("x" * 4096, Kind.FILE),),
        (Entry("TRAILER!!!", Kind.FILE),),
        (Entry("f", Kind.FILE, uid=2**32),),
    ],
)
def test_what_newc_cannot_say_is_refused(items: tuple[Entry, ...]) -> None:
    with pytest.raises(FormatError):
        cpio.write(items, io.BytesIO(), copy)


@pytest.mark.parametrize(
    "data",
    [
        b"070707" + bytes(200),
        newc(b"a", 0o100644)[:60],
        newc(b"a", 0o100644, b"hello")[:-6],
        newc(b"a", 0o100644),
        newc(b"a", 0o100644).replace(b"000081A4", b"0x0081A4") + TRAILER,
        newc(b"a", 0o170000) + TRAILER,
        newc(b"a" * 5000, 0o100644) + TRAILER,
        TRAILER + b"more",
        newc(b"../a", 0o100644) + TRAILER,
    ],
)
def test_damaged_archives_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        entries(data)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=40), st.integers(0, 200))
def test_any_damage_is_either_read_or_a_format_error(noise: bytes, place: int) -> None:
    data = bytearray(written(*TREE))
    data[place : place + len(noise)] = noise
    try:
        entries(bytes(data))
    except FormatError:
        return
