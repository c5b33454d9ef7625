import contextlib
import dataclasses
import io
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import fat_names, fat_read
from linuxkit_rules.formats.entry import Entry, Slice
from linuxkit_rules.formats.entry import Kind as EntryKind
from linuxkit_rules.formats.fat import File, Layout
from linuxkit_rules.formats.fat_sectors import Kind, Volume
from linuxkit_rules.formats.streams import SupportsWrite
from tests.tools import tool

VOLUME = Volume("redis os!", 0x1234ABCD, 1492533000, hidden=440)
FILES = (
    File("EFI/BOOT/BOOTX64.EFI", (b"MZ" * 2500,)),
    File("loader/entries/linuxkit.conf", (b"linux /kernel\n", b"initrd /initrd.img\n")),
    File("kernel", (b"k" * 5000,)),
    File("a long name.with many.dots.text", (b"x" * 2048,)),
    File("Straße — 長い.txt", (b"1",)),
    File("EMPTY.TXT"),
)


def copy(content: bytes | Slice, out: SupportsWrite) -> None:
    assert isinstance(content, bytes)
    out.write(content)


def written(volume: Volume, files: tuple[File, ...]) -> bytes:
    out, layout = io.BytesIO(), Layout(volume, files)
    assert layout.write(out, copy) == layout.size == len(out.getvalue())
    return out.getvalue()


def read(data: bytes) -> fat_read.Contents:
    return fat_read.read(io.BytesIO(data))


def contents(entries: tuple[Entry, ...]) -> dict[str, bytes | Slice]:
    return {entry.path: entry.content for entry in entries if entry.kind is EntryKind.FILE}


def test_what_is_written_is_read_back() -> None:
    found = read(written(VOLUME, FILES))
    assert contents(found.entries) == {file.path: b"".join(file.parts) for file in FILES}
    assert (found.serial, found.label, found.hidden) == (0x1234ABCD, "REDIS OS!", 440)
    assert {entry.mtime for entry in found.entries} == {1492533000}
    directories = [entry.path for entry in found.entries if entry.kind is EntryKind.DIRECTORY]
    assert directories == ["EFI", "EFI/BOOT", "loader", "loader/entries"]


@pytest.mark.parametrize(
    ("cluster", "alignment"), [(512, 0), (2048, 0), (32768, 0), (512, 512), (512, 4096), (2048, 32768)]
)
def test_every_file_lies_in_one_piece_where_the_layout_says(cluster: int, alignment: int) -> None:
    volume = dataclasses.replace(VOLUME, cluster=cluster, alignment=alignment)
    data, layout = written(volume, FILES), Layout(volume, FILES)
    assert list(layout.extents) == [file.path for file in FILES]
    for file in FILES:
        extent = layout.extents[file.path]
        assert data[extent.offset : extent.offset + extent.size] == b"".join(file.parts)
        assert extent.offset % max(cluster, alignment) == 0


@pytest.mark.parametrize(
    ("clusters", "kind"),
    [(50, 12), (4068, 12), (4069, 16), (4100, 16), (5000, 16), (65508, 16), (65509, 32), (70000, 32)],
)
def test_the_number_of_clusters_decides_the_type_and_keeps_away_from_where_it_changes(
    clusters: int, kind: int
) -> None:
    data = written(Volume("x", cluster=512), (File("a", (bytes(512) * clusters,)),))
    assert read(data).kind is Kind(kind)
    small, large = struct.unpack_from("<H", data, 19)[0], struct.unpack_from("<I", data, 32)[0]
    assert (small or large) * 512 == len(data)
    for limit in (4085, 65525):
        assert abs(_clusters(data) - limit) >= 16


def _clusters(data: bytes) -> int:
    """The specification's own sum ("FAT Type Determination")."""
    sector, per_cluster, reserved, fats, root = struct.unpack_from("<HBHBH", data, 11)
    size = struct.unpack_from("<H", data, 22)[0] or struct.unpack_from("<I", data, 36)[0]
    total = struct.unpack_from("<H", data, 19)[0] or struct.unpack_from("<I", data, 32)[0]
    taken: int = reserved + fats * size + (root * 32 + sector - 1) // sector
    return int((total - taken) // per_cluster)


@pytest.mark.parametrize("alignment", [0, 4096])
@pytest.mark.parametrize("size", [100, 2_500_000, 40_000_000], ids=["FAT12", "FAT16", "FAT32"])
def test_a_checker_finds_no_fault(size: int, alignment: int, tmp_path: Path) -> None:
    checker = tool("dosfstools", "usr/sbin/fsck.fat")
    many = tuple(File(f"many/file number {index}.text", (b"%d" % index,)) for index in range(200))
    image = tmp_path / "image"
    files = (*FILES, *many, File("z", (bytes(size),)))
    image.write_bytes(written(dataclasses.replace(VOLUME, cluster=512, alignment=alignment), files))
    result = subprocess.run([*checker, "-v", "-n", str(image)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_spare_room_is_left_and_is_free() -> None:
    full, roomy = (Layout(dataclasses.replace(VOLUME, spare=spare), FILES) for spare in (0, 1_000_000))
    assert 1_000_000 <= roomy.size - full.size < 1_010_000
    assert contents(read(written(dataclasses.replace(VOLUME, spare=1_000_000), FILES)).entries)


def test_long_names_are_as_the_specification_shows() -> None:
    """Its example, "The quick brown.fox": two long entries before THEQUI~1.FOX, checksum and order too."""
    short = fat_names.short_name("The quick brown.fox", ())
    assert short == b"THEQUI~1FOX"
    raw = fat_names.entries("The quick brown.fox", short, 0x20, 5, 7, (0, 0x21))
    assert len(raw) == 3 * 32
    assert raw[0] == 0x42
    assert raw[32] == 0x01
    assert raw[33:43] == "The q".encode("utf-16-le")
    assert raw[11] == raw[43] == 0x0F
    assert raw[1:11] == "wn.fo".encode("utf-16-le")
    assert raw[14:26] == "x\0".encode("utf-16-le") + b"\xff" * 8
    total = 0
    for byte in short:
        total = ((total >> 1) + ((total & 1) << 7) + byte) % 256
    assert raw[13] == raw[45] == total
    assert raw[64:75] == short


def test_short_names_are_numbered_where_they_would_be_the_same() -> None:
    names = ["linuxkit.conf", "linuxkit.config", "LINUXK~1.CON", "KERNEL", "README.TXT"]
    taken: list[bytes] = []
    for name in names:
        taken.append(fat_names.short_name(name, taken))
    assert taken == [b"LINUXK~1CON", b"LINUXK~2CON", b"LINUXK~3CON", b"KERNEL     ", b"README  TXT"]


@given(
    st.dictionaries(
        st.text(
            st.characters(
                codec="utf-8", exclude_characters='"*/:<>?\\|\x7f', exclude_categories=["Cc", "Cs"]
            ),
            min_size=1,
            max_size=60,
        ).filter(lambda name: name[0] != " " and name[-1] not in " ."),
        st.binary(max_size=3000),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_names_come_back(tree: dict[str, bytes]) -> None:
    if len({name.upper() for name in tree}) < len(tree):
        return
    files = tuple(File(f"d/{name}", (data,)) for name, data in tree.items())
    assert contents(read(written(VOLUME, files)).entries) == {f"d/{name}": tree[name] for name in tree}


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a", "A"], "case only"),
        (["a", "a"], "twice"),
        (["a", "a/b"], "no directory"),
        (["a/b", "a"], "twice"),
        (["a:b"], "character"),
        (["a."], "dot"),
        (["a/../b"], "no name"),
        (["a//b"], "no name"),
        (["x" * 256], "255"),
        (["\udcff"], "UTF-8"),
    ],
)
def test_what_cannot_be_stored_is_refused(paths: list[str], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Layout(VOLUME, [File(path) for path in paths])


def test_a_file_of_4_gib_and_an_odd_cluster_are_refused() -> None:
    huge = File("a", (b"x" * (1 << 20),) * 4096)
    with pytest.raises(FormatError, match="4 GiB"):
        Layout(VOLUME, [huge])
    with pytest.raises(FormatError, match="power of two"):
        Layout(dataclasses.replace(VOLUME, cluster=3000), FILES)


@pytest.mark.parametrize(("mtime", "shown"), [(0, 315532800), (1492533001, 1492533000), (2**40, 4354819198)])
def test_times_are_held_within_what_fat_can_say(mtime: int, shown: int) -> None:
    assert fat_names.from_dos_time(*fat_names.dos_time(mtime)) == shown


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damage_is_an_error_of_format_or_other_contents_and_ends(data: st.DataObject) -> None:
    raw = bytearray(written(VOLUME, FILES))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, 8191))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        assert read(bytes(raw)).kind in Kind


def test_a_directory_within_itself_is_refused() -> None:
    raw = bytearray(written(VOLUME, (File("d/e/f", (b"1",)),)))
    at = raw.index(b"E          \x10")
    inner = raw.index(b".          \x10")
    raw[at + 26 : at + 28] = raw[inner + 26 : inner + 28]
    with pytest.raises(FormatError, match="without end"):
        read(bytes(raw))
