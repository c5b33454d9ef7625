"""Archives that are cut at every byte, and changed in every bit of their headers."""

import contextlib
import gzip
import io
import itertools
from collections.abc import Callable

import pytest
import zstandard

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import FormatError, LinuxKitError
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.compression import decompressed
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.layers import flatten
from tests.hostile.headers import GNU, archive, base256, block, extended, member, pax
from tests.hostile.links import folder, hard, soft

BLOB = Digest.of(b"")
LONG = "d" * 90 + "/" + "e" * 120
MEMBERS = [
    folder(b"d/"),
    member(b"d/file", b"x" * 700, uid=7, mtime=5),
    pax(("path", LONG), ("mtime", "9.5"), ("SCHILY.xattr.user.a", b"\0\n=")) + member(b"short", b"y" * 513),
    extended(b"L", LONG.encode() + b"2\0", magic=GNU)
    + member(b"short", b"z", magic=GNU, uid=base256(2**31, 8)),
    extended(b"K", b"t" * 150 + b"\0", magic=GNU) + block(b"soft", b"2", link=b"t" * 100, magic=GNU),
    hard(b"hard", b"d/file"),
    soft(b"link", b"d"),
    block(b"null", b"3", major=1, minor=3),
    member(b"link/through", b"1"),
]
WHOLE = archive(*MEMBERS)
SMALL = archive(pax(("path", "long")), member(b"a", b"1"))
SIZES = (0, 700, 513, 1, 0, 0, 0, 0, 1)
ENDS = [sum(map(len, MEMBERS[:count])) for count in range(len(MEMBERS) + 1)]


def entries(data: bytes) -> list[Entry]:
    return list(tar.read(io.BytesIO(data), BLOB))


def sound(data: bytes) -> bool:
    """Read and flatten; whether it was accepted.  Nothing but our own errors gets out, and no path either."""
    try:
        tree = flatten([entries(data)])
        failure = ""
    except LinuxKitError as error:
        tree, failure = {}, str(error)
    assert failure.isprintable()
    for path, entry in tree.items():
        assert path == "" or not {"", ".", ".."} & set(path.split("/"))
        parent = path.rpartition("/")[0]
        assert not parent or tree[parent].kind is Kind.DIRECTORY
        assert entry.size <= len(data)
    return not failure


def test_the_archive_is_whole() -> None:
    assert len(entries(WHOLE)) == len(MEMBERS)
    assert sound(WHOLE)


def test_an_archive_cut_at_any_byte(count: Callable[..., None]) -> None:
    """A cut between members is no fault, as archives without an end are common; nor is one in the zeros that
    pad a member.
    """
    members = list(zip(ENDS[1:], SIZES, strict=True))
    for cut in range(len(WHOLE)):
        count("archives cut or damaged")
        complete = sum(end - -size % 512 <= cut for end, size in members)
        if cut == 0 or any(end - -size % 512 <= cut <= end for end, size in members) or cut >= ENDS[-1] + 512:
            assert len(entries(WHOLE[:cut])) == complete
        else:
            with pytest.raises(FormatError, match="ends inside|ends after an extension header"):
                entries(WHOLE[:cut])


@pytest.mark.parametrize("how", ["gzip", "gzip members", "zstd", "zstd with a checksum", "zstd blocks"])
def test_a_stream_cut_at_any_byte(how: str, count: Callable[..., None]) -> None:
    """Fewer than six bytes tell of no compression."""
    packed = {
        "gzip": gzip.compress(SMALL, mtime=0),
        "gzip members": gzip.compress(SMALL[:700], mtime=0) + gzip.compress(SMALL[700:], mtime=0),
        "zstd": zstandard.compress(SMALL),
        "zstd with a checksum": zstandard.ZstdCompressor(write_checksum=True).compress(SMALL),
        "zstd blocks": _blocks(SMALL),
    }[how]
    assert b"".join(decompressed(io.BytesIO(packed))) == SMALL
    between = len(gzip.compress(SMALL[:700], mtime=0)) if how == "gzip members" else 0
    for cut in range(6, len(packed)):
        count("archives cut or damaged")
        if cut == between:
            assert b"".join(decompressed(io.BytesIO(packed[:cut]))) == SMALL[:700]
        else:
            with pytest.raises(FormatError, match="ends too early"):
                list(decompressed(io.BytesIO(packed[:cut])))


def _blocks(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    pieces = [
        packer.compress(data[at : at + 99]) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for at in range(0, len(data), 99)
    ]
    return b"".join(pieces) + packer.flush()


@pytest.mark.parametrize("number", range(len(MEMBERS)))
def test_any_bit_of_a_header_may_be_wrong(number: int, count: Callable[..., None]) -> None:
    """Once with the checksum as it was, which tells, and once with the right one, which does not."""
    data = MEMBERS[number]
    for at in (at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"):
        for place, bit in itertools.product(range(512), range(8)):
            block = bytearray(data[at : at + 512])
            block[place] ^= 1 << bit
            accepted = sound(archive(data[:at], block, data[at + 512 :]))
            assert 148 <= place < 156 or not accepted
            block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
            sound(archive(data[:at], block, data[at + 512 :]))
            count("archives cut or damaged", 2)


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_any_bit_of_a_stream_may_be_wrong(how: str, count: Callable[..., None]) -> None:
    """Checksums tell of damage to the contents; other bits (times, names) decide nothing."""
    packer = zstandard.ZstdCompressor(write_checksum=True)
    packed = gzip.compress(SMALL, mtime=0) if how == "gzip" else packer.compress(SMALL)
    for place in range(4, len(packed)):
        for bit in range(8):
            damaged = packed[:place] + bytes([packed[place] ^ 1 << bit]) + packed[place + 1 :]
            with contextlib.suppress(FormatError):
                assert b"".join(decompressed(io.BytesIO(damaged))) == SMALL
            count("archives cut or damaged")
