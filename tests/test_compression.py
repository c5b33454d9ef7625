import contextlib
import gzip
import io
import itertools
import lzma
import zlib

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.compression import (
    LARGE,
    CompressedWriter,
    Compression,
    compressed,
    decompressed,
    open_reader,
    sniff,
)
from tests.bench.images import noise

TEXT = b"".join(b"line %d of a text\n" % number for number in range(100_000))
WRITTEN = [
    (Compression.NONE, 0),
    (Compression.GZIP, 0),
    (Compression.GZIP, 3),
    (Compression.GZIP, 9),
    (Compression.ZSTD, 0),
    (Compression.ZSTD, 6),
    (Compression.ZSTD, 19),
]
SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"


def pack(data: bytes, compression: Compression, level: int = 0, step: int = 1 << 30) -> bytes:
    out = io.BytesIO()
    with compressed(out, compression, level) as file:
        for start in range(0, len(data), step):
            file.write(data[start : start + step])
    return out.getvalue()


def unpack(data: bytes) -> bytes:
    return open_reader(io.BytesIO(data)).read()


@pytest.mark.parametrize(("compression", "level"), WRITTEN)
def test_round_trip_does_not_depend_on_how_it_is_written(compression: Compression, level: int) -> None:
    data = pack(TEXT, compression, level)
    assert sniff(data) is compression
    assert unpack(data) == TEXT
    assert pack(TEXT, compression, level, step=4097) == data


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=3000), st.sampled_from(WRITTEN))
def test_round_trip_of_anything(data: bytes, way: tuple[Compression, int]) -> None:
    packed = pack(data, *way)
    assert (packed if way[0] is Compression.NONE else unpack(packed)) == data


def test_others_read_what_is_written() -> None:
    assert gzip.decompress(pack(TEXT, Compression.GZIP)) == TEXT
    assert zstandard.ZstdDecompressor().decompressobj().decompress(pack(TEXT, Compression.ZSTD)) == TEXT


def test_gzip_has_neither_time_nor_name() -> None:
    head = pack(TEXT, Compression.GZIP)[:10]
    assert head[3:8] == bytes(5)


MEMBERS = {
    "gzip": (gzip.compress(TEXT), gzip.compress(b"more")),
    "gzip with a name": (gzip.compress(b""), pack(b"more", Compression.GZIP)),
    "zstd": (zstandard.compress(TEXT), zstandard.compress(b"more")),
    "zstd skippable": (
        SKIPPABLE + zstandard.compress(TEXT),
        SKIPPABLE + zstandard.compress(b"more") + SKIPPABLE,
    ),
    "xz": (lzma.compress(TEXT), lzma.compress(b"more")),
    "plain": (TEXT, b"more"),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_all_members_are_read(name: str) -> None:
    first, second = MEMBERS[name]
    expected = b"" if name == "nothing" else (b"" if name == "gzip with a name" else TEXT) + b"more"
    assert unpack(first + second) == expected
    assert b"".join(decompressed(io.BytesIO(first + second))) == expected
    if name in ("gzip", "zstd", "xz"):
        assert unpack(first + bytes(20_000) + second + bytes(50_000)) == expected


@pytest.mark.parametrize(
    "packed", [gzip.compress(TEXT), zstandard.compress(TEXT), lzma.compress(TEXT)], ids=["gzip", "zstd", "xz"]
)
@pytest.mark.parametrize("cut", [1, 4, 9, 1000])
def test_streams_that_end_early_are_refused(packed: bytes, cut: int) -> None:
    with pytest.raises(FormatError, match="ends too early"):
        unpack(packed[:-cut])


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD, Compression.XZ])
def test_damage_and_foreign_tails_are_refused(compression: Compression) -> None:
    packed = lzma.compress(TEXT) if compression is Compression.XZ else pack(TEXT, compression)
    with pytest.raises(FormatError):
        unpack(packed + b"something else")
    middle = len(packed) // 2
    with pytest.raises(FormatError):
        unpack(packed[:middle] + bytes(64) + packed[middle + 64 :])


def test_the_reader_gives_no_more_than_asked_for() -> None:
    file = open_reader(io.BytesIO(gzip.compress(TEXT)))
    assert file.read(10) == TEXT[:10]
    assert file.read(100_000) == TEXT[10:100_010]
    assert file.read() == TEXT[100_010:]
    assert file.read() == b""


@pytest.mark.parametrize("level", [1, 3])
def test_short_gzip_streams_are_written_by_zlib(level: int) -> None:
    short, long = bytes(range(256)) * 4095, bytes(range(256)) * 4096
    packer = zlib.compressobj(level, wbits=31)
    assert pack(short, Compression.GZIP, level) == packer.compress(short) + packer.flush()
    packer = isal_zlib.compressobj(level, wbits=31)
    assert pack(long, Compression.GZIP, level) == packer.compress(long) + packer.flush()


def test_a_bomb_comes_in_pieces() -> None:
    bomb = zlib.compress(bytes(1 << 28), 9, wbits=31)
    assert max(map(len, decompressed(io.BytesIO(bomb)))) <= 1 << 25


@pytest.mark.parametrize(
    ("compression", "level"),
    [(Compression.GZIP, 10), (Compression.ZSTD, 23), (Compression.ZSTD, -1), (Compression.XZ, 0)],
)
def test_what_cannot_be_written_is_refused(compression: Compression, level: int) -> None:
    with pytest.raises(FormatError), compressed(io.BytesIO(), compression, level):
        pass


def test_an_error_inside_leaves_no_whole_stream() -> None:
    out = io.BytesIO()
    with contextlib.suppress(RuntimeError), compressed(out, Compression.ZSTD) as file:
        file.write(TEXT)
        raise RuntimeError
    with pytest.raises(FormatError):
        unpack(out.getvalue() or b"\x28\xb5\x2f\xfd")


def test_names_suffixes_and_versions() -> None:
    assert [item.suffix for item in Compression] == ["", "+gzip", "+zstd", "+xz"]
    assert Compression.GZIP.version.startswith("isal ")
    assert Compression.ZSTD.version.startswith("zstd ")
    assert [item.default_level() for item in Compression] == [0, 1, 4, 0]
    assert [item.default_level(LARGE) for item in Compression] == [0, 1, 1, 0]


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
@pytest.mark.parametrize("sizes", [(3_000_000,), (1, 1 << 20, 5), (700_000, 700_000, 700_000), (9,)], ids=str)
def test_what_is_filled_in_is_packed_as_if_written(compression: Compression, sizes: tuple[int, ...]) -> None:
    data = noise("filled", sum(sizes))
    source, filled, written = io.BufferedReader(io.BytesIO(data)), io.BytesIO(), io.BytesIO()
    with compressed(filled, compression) as out:
        assert isinstance(out, CompressedWriter)
        for number, size in enumerate(sizes):
            out.write(b"head" * number)
            while size:
                size -= out.fill(source, size)
        assert out.fill(source, 9) == 0
    with compressed(written, compression) as out:
        for number, end in enumerate(itertools.accumulate(sizes)):
            out.write(b"head" * number + data[end - sizes[number] : end])
    assert filled.getvalue() == written.getvalue()
