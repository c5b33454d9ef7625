import dataclasses
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.formats.tar_header import normal, record, records

BLOB = Digest.of(b"")


def entries(data: bytes, limits: tar.Limits = tar.DEFAULT_LIMITS) -> list[Entry]:
    return list(tar.read(io.BytesIO(data), BLOB, limits))


def content(entry: Entry, data: bytes) -> bytes:
    if isinstance(entry.content, bytes):
        return entry.content
    return data[entry.content.offset : entry.content.offset + entry.content.size]


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def written(items: list[Entry], source: bytes = b"") -> bytes:
    out = io.BytesIO()
    writer = tar.Writer(out)

    def copy(item: bytes | Slice, target: SupportsWrite) -> None:
        target.write(item if isinstance(item, bytes) else source[item.offset : item.offset + item.size])

    for item in items:
        writer.add(item, copy)
    writer.close()
    return out.getvalue()


def header(**fields: bytes) -> bytes:
    """One handmade header block; its checksum is right unless given."""
    info, _ = member("name")
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    places = {"name": 0, "mode": 100, "uid": 108, "size": 124, "mtime": 136, "flag": 156, "link": 157}
    for key, value in fields.items():
        if key != "checksum":
            block[places[key] : places[key] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = fields.get("checksum", b"%06o\0 " % sum(block))
    return bytes(block)


LONG = "d" * 90 + "/" + "e" * 120 + "/" + "f" * 60


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_pythons_tarfile_writes(form: int) -> None:
    members = [
        member("./", type=tarfile.DIRTYPE, mode=0o1751, uid=12, gid=13, mtime=1111111111),
        member("./a/", type=tarfile.DIRTYPE, mode=0o755),
        member("a/file", b"hello", mode=0o4755, uid=7, gid=8, mtime=99),
        member("a/ünï\nx", b""),
        member("d" * 90 + "/" + "e" * 90, b"x" * 513),
        member("/abs/olute", b"1"),
        member("hard", type=tarfile.LNKTYPE, linkname="./a/file"),
        member("soft", type=tarfile.SYMTYPE, linkname="../out/../there"),
        member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("disk", type=tarfile.BLKTYPE, devmajor=259, devminor=70000),
        member("pipe", type=tarfile.FIFOTYPE),
    ]
    data = archive(*members, form=form)
    found = entries(data)
    assert [(item.path, item.kind) for item in found] == [
        ("", Kind.DIRECTORY),
        ("a", Kind.DIRECTORY),
        ("a/file", Kind.FILE),
        ("a/ünï\nx", Kind.FILE),
        ("d" * 90 + "/" + "e" * 90, Kind.FILE),
        ("abs/olute", Kind.FILE),
        ("hard", Kind.HARDLINK),
        ("soft", Kind.SYMLINK),
        ("null", Kind.CHAR),
        ("disk", Kind.BLOCK),
        ("pipe", Kind.FIFO),
    ]
    root, file, hard, soft, disk = (found[index] for index in (0, 2, 6, 7, 9))
    assert (root.mode, root.uid, root.gid, root.mtime) == (0o1751, 12, 13, 1111111111)
    assert (file.mode, file.uid, file.gid, file.mtime) == (0o4755, 7, 8, 99)
    assert (hard.link, soft.link) == ("a/file", "../out/../there")
    assert (disk.major, disk.minor) == (259, 70000)
    assert [content(item, data) for item in found[2:6]] == [b"hello", b"", b"x" * 513, b"1"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_ustar_cannot_say(form: int) -> None:
    data = archive(
        member(LONG, b"long", uid=2**32 - 2, gid=3_000_000, mtime=8589934600),
        member("s", type=tarfile.SYMTYPE, linkname="t" * 200),
        member("h", type=tarfile.LNKTYPE, linkname=LONG),
        member("old", b"", mtime=-86400),
        member("after", b"plain"),
        form=form,
    )
    long, soft, hard, old, after = entries(data)
    assert (long.path, long.uid, long.gid, long.mtime) == (LONG, 2**32 - 2, 3_000_000, 8589934600)
    assert (soft.link, hard.link, old.mtime) == ("t" * 200, LONG, -86400)
    assert (after.path, after.uid, content(after, data)) == ("after", 0, b"plain")


def test_reads_pax_times_and_attributes() -> None:
    headers = {"mtime": "-1.5", "SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1=\n"}
    (entry,) = entries(archive(member("x", b"", pax_headers=headers)))
    assert (entry.mtime, entry.xattrs) == (-2, (("user.a", b"1=\n"), ("user.b", b"2")))


def test_a_global_header_holds_until_a_member_says_otherwise() -> None:
    shared = record(b"uid", b"7") + record(b"mtime", b"5.25")
    own = record(b"uid", b"") + record(b"mtime", b"9")
    data = header(flag=b"g", size=b"%011o" % len(shared)) + shared.ljust(512, b"\0") + header(uid=b"0000003")
    data += header(flag=b"x", size=b"%011o" % len(own)) + own.ljust(512, b"\0") + header(uid=b"0000003")
    assert [(item.uid, item.mtime) for item in entries(data)] == [(7, 5), (3, 9)]


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_reads_what_gnu_tar_writes(form: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_bytes(b"x" * 5000)
    (tree / "sub" / "file").chmod(0o640)
    (tree / "hard").hardlink_to(tree / "sub" / "file")
    (tree / "soft").symlink_to("sub/file")
    if form in ("oldgnu", "gnu", "posix"):
        (tree / ("n" * 130)).write_bytes(b"y")
    command = [
        "tar",
        "--sort=name",
        f"--format={form}",
        "--mtime=@1500000000",
        "-cf",
        "-",
        "-C",
        str(tree),
        ".",
    ]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    found = {item.path: item for item in entries(data)}
    assert set(found) - {"n" * 130} == {"", "hard", "soft", "sub", "sub/file"}
    first, second = found["hard"], found["sub/file"]
    assert (first.kind, second.kind, second.link) == (Kind.FILE, Kind.HARDLINK, "hard")
    assert (first.mode, first.mtime, content(first, data)) == (0o640, 1500000000, b"x" * 5000)
    assert found["soft"].link == "sub/file"
    assert ("n" * 130 in found) == (form in ("oldgnu", "gnu", "posix"))


def test_gnu_tar_and_tarfile_read_what_is_written(tmp_path: Path) -> None:
    items = [
        Entry("dir", Kind.DIRECTORY, 0o1777),
        Entry("dir/file", Kind.FILE, 0o600, mtime=1492533000, content=b"hello"),
        Entry("dir/hard", Kind.HARDLINK, link="dir/file"),
        Entry("dir/soft", Kind.SYMLINK, 0o777, link="a" * 150),
        Entry(LONG, Kind.FILE, content=b"z" * 512, mtime=2**33 + 8, uid=2**31, xattrs=(("user.a", b"\0\n"),)),
        Entry("dir/" + "p" * 120, Kind.FILE),
        Entry("null", Kind.CHAR, 0o666, major=1, minor=3),
    ]
    data = written(items)
    listing = subprocess.run(["tar", "-tf", "-"], input=data, check=True, capture_output=True).stdout.decode()
    assert [line.rstrip("/") for line in listing.splitlines()] == [item.path for item in items]
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        members = file.getmembers()
        assert [info.name for info in members] == [item.path for item in items]
        assert [info.linkname for info in members[2:4]] == ["dir/file", "a" * 150]
        assert (members[4].uid, members[4].mtime) == (2**31, 2**33 + 8)
        stream = file.extractfile(members[4])
        assert stream is not None
        assert stream.read() == b"z" * 512
    assert data.count(b"PaxHeader") == 3


names = st.lists(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=80
    ).filter(lambda name: name not in (".", "..")),
    min_size=1,
    max_size=5,
).map("/".join)


@st.composite
def some_entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(Kind))
    entry = Entry(
        draw(names),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(-(2**40), 2**40)),
    )
    xattrs = draw(
        st.dictionaries(names.filter(lambda name: "=" not in name), st.binary(max_size=30), max_size=2)
    )
    entry = dataclasses.replace(entry, xattrs=tuple(sorted(xattrs.items())))
    if kind in (Kind.CHAR, Kind.BLOCK):
        device = st.integers(0, 0o7777777)
        return dataclasses.replace(entry, major=draw(device), minor=draw(device))
    if kind in (Kind.SYMLINK, Kind.HARDLINK):
        return dataclasses.replace(entry, link=draw(names))
    return dataclasses.replace(entry, content=draw(st.binary(max_size=1200))) if kind is Kind.FILE else entry


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(some_entries(), max_size=5))
def test_what_is_written_is_read_back(items: list[Entry]) -> None:
    data = written(items)
    back = [dataclasses.replace(item, content=content(item, data)) for item in entries(data)]
    assert back == items
    assert written(entries(data), data) == data


def test_names_that_are_not_utf8_survive() -> None:
    data = written([Entry(b"a\xff\xfe".decode("utf-8", "surrogateescape") + "b" * 300, Kind.FILE)])
    assert entries(data)[0].path.encode("utf-8", "surrogateescape").startswith(b"a\xff\xfebbb")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("./a", "a"),
        ("/a/b", "a/b"),
        ("a//b/", "a/b"),
        ("a/./b", "a/b"),
        ("a/x/../b", "a/b"),
        ("./", ""),
        ("...", "..."),
    ],
)
def test_paths_become_normal(name: str, path: str) -> None:
    assert normal(name) == path


HOSTILE = {
    "leads out": header(name=b"../x\0"),
    "out of the archive": header(name=b"a/../../x\0"),
    "empty name": header(name=b"\0\0\0\0\0"),
    "root of an archive must": header(name=b"./.\0\0"),
    "checksum": header(checksum=b"0000001\0"),
    "octal": header(mode=b"00+9x1\0\0"),
    "ends inside its contents": header(size=b"00000001000\0"),
    "out of range": header(size=b"\xff" * 12),
    "uid": header(uid=b"\x80\0\0\2\0\0\0\0"),
    "type": header(flag=b"Z"),
    "sparse": header(flag=b"S"),
    "an empty name": header(flag=b"1"),
    "leads out of": header(flag=b"1", link=b"../../etc/passwd\0"),
    "inside a header": header()[:300],
    "extension header of": header(flag=b"x", size=b"77777777777\0"),
    "after an extension": header(flag=b"L", size=b"00000000002\0") + b"ab".ljust(512, b"\0"),
    "inside an extension": header(flag=b"L", size=b"00000002000\0") + b"ab",
    "damaged pax record": header(flag=b"x", size=b"00000000010\0") + b"99 path=".ljust(512, b"\0") + header(),
    "block of zeros": bytes(512) + header(),
}


@pytest.mark.parametrize("message", HOSTILE)
def test_hostile_archives_are_refused(message: str) -> None:
    with pytest.raises(FormatError, match=message):
        entries(HOSTILE[message])


def test_the_error_names_the_entry() -> None:
    with pytest.raises(FormatError) as caught:
        entries(header(name=b"x/../../evil\0"))
    assert caught.value.where == "entry 'x/../../evil'"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"4 =\n",
        b"0 a=b\n",
        b"6 a=b",
        b"7 a=b\nX",
        b"x a=b\n",
        b"-6 a=b\n",
        b"6 a b\n",
        b"99999999999999999999 ",
    ],
)
def test_damaged_pax_records_are_refused(text: bytes) -> None:
    if not text:
        assert list(records(text)) == []
        return
    with pytest.raises(FormatError):
        list(records(text))


@pytest.mark.parametrize("key", [b"path", b"linkpath"])
def test_a_nul_in_a_pax_name_is_refused(key: bytes) -> None:
    pax = record(key, b"a\0b")
    data = header(flag=b"x", size=b"%011o" % len(pax)) + pax.ljust(512, b"\0") + header(flag=b"2", link=b"x")
    with pytest.raises(FormatError, match="a NUL in a name"):
        entries(data)


@pytest.mark.parametrize(
    "pax",
    [
        record(b"size", b"-1"),
        record(b"size", b"9" * 19),
        record(b"uid", b"4294967295"),
        record(b"mtime", b"now"),
        record(b"GNU.sparse.major", b"1"),
    ],
)
def test_pax_values_out_of_range_are_refused(pax: bytes) -> None:
    data = header(flag=b"x", size=b"%011o" % len(pax)) + pax.ljust(512, b"\0") + header()
    with pytest.raises(FormatError):
        entries(data)


@pytest.mark.parametrize(
    "limits", [tar.Limits(entries=2), tar.Limits(name=3), tar.Limits(total=1024), tar.Limits(extension=100)]
)
def test_limits_hold(limits: tar.Limits) -> None:
    data = archive(member("a"), member("long"), member(LONG))
    assert len(entries(data)) == 3
    with pytest.raises(FormatError):
        entries(data, limits)


def test_many_extension_headers_for_one_member_are_refused() -> None:
    pax = record(b"comment", b"x" * 400)
    one = header(flag=b"x", size=b"%011o" % len(pax)) + pax.ljust(512, b"\0")
    with pytest.raises(FormatError, match="extension header"):
        entries(one * 5000 + header())


@pytest.mark.parametrize("tail", [b"", bytes(512), bytes(700), bytes(1024), bytes(1024) + b"whatever"])
def test_any_ending_between_members_will_do(tail: bytes) -> None:
    assert [item.path for item in entries(header() + tail)] == ["name"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=512), st.integers(0, 511))
def test_any_damage_is_either_read_or_a_format_error(noise: bytes, place: int) -> None:
    data = bytearray(archive(member("a", b"1"), member(LONG, b"2")))
    data[place : place + len(noise)] = noise
    block = data[:512]
    block[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(block)
    try:
        found = entries(bytes(data))
    except FormatError:
        return
    assert all(".." not in item.path.split("/") and not item.path.startswith("/") for item in found)
