"""Compressed streams: gzip (RFC 1952), zstd (RFC 8878) and, reading only, xz.

Writing is deterministic: no name, no time, and what a library's version changes is said by ``version``.
gzip is written by isal at the levels 1 to 3, which are fast, and by zlib at 4 to 9; a stream of less than a
MiB, where speed does not matter, by zlib alone.
Reading knows the format by its first bytes and goes on through all members or frames of a stream.
"""

from __future__ import annotations

import contextlib
import enum
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import Any, BinaryIO, Protocol, cast

import zstandard
from isal import __version__ as isal_version
from isal import igzip_lib, isal_zlib

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.buffers import page_buffer
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.formats.source import Source
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.formats.zstd import Frames

_GZIP = 31  # zlib's window bits for a gzip wrapper with the largest window
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_FLAGS = b"\x1f"  # the five of RFC 1952, 2.3.1; a set reserved bit "must" be an error
_PIECE = 1 << 18  # a larger buffer is slower, as it is made anew for each piece
_WRITE = 1 << 20
LARGE = 32 << 20
"""Bytes of a stream from which on it is packed fast rather than small, unless somebody says how."""

_XZ_MEMORY = 1 << 28
_ISAL = range(1, 4)
_THREADED = range(5, 16)
_THREADS = 2  # zstd gives the same bytes for any number but 0, so the machine's must not decide
_ZSTD_WINDOW = 1 << 27
_ERRORS: tuple[type[Exception], ...] = (cast(type[Exception], igzip_lib.error), lzma.LZMAError)


class Compression(enum.Enum):
    """How a stream is compressed; the values are the names that settings and media types use."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"

    @property
    def suffix(self) -> str:
        """What a media type ends with: ``+zstd`` and so on, nothing for none."""
        return "" if self is Compression.NONE else f"+{self.value}"

    @property
    def default_levels(self) -> tuple[int, int]:
        """The level that level 0 stands for, and that for streams of ``LARGE`` bytes and more.

        zstd 4 is the fastest that keeps redisos.iso below 26 MiB; a large stream is where the time goes.
        Measured on 146 MB of programs, one core: zstd 1 packs 277 MB/s to 55.5 MB; 2 171 to 52.8; 3 147 to
        49.0; 6 43 to 45.8; isal 1 361 to 58.4; gzip -6 19 to 51.3.
        """
        return {Compression.GZIP: (1, 1), Compression.ZSTD: (4, 1)}.get(self, (0, 0))

    def default_level(self, size: int = 0) -> int:
        """The level that level 0 stands for, for a stream of ``size`` bytes."""
        return self.default_levels[size >= LARGE]

    @property
    def release_level(self) -> int:
        """The level that takes time for size: of gzip 3 times as much as -6, of zstd 15 times.

        The window of zstd's levels up to 19 is 8 MiB, which a kernel has to spare while it boots.
        """
        return {Compression.GZIP: 9, Compression.ZSTD: 19}.get(self, 0)

    @property
    def version(self) -> str:
        """The libraries and versions that decide what bytes come out, and the threads: a part of keys."""
        zstd = ".".join(map(str, zstandard.ZSTD_VERSION))
        threads = f"{_THREADS} threads at {_THREADED.start} to {_THREADED.stop - 1}"
        gzip = f"isal {isal_version} from {_WRITE}, zlib {zlib.ZLIB_RUNTIME_VERSION}"
        return {Compression.GZIP: gzip, Compression.ZSTD: f"zstd {zstd}, {threads}"}.get(self, "")


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class CompressedWriter:
    """Compresses what is written to it, in pieces of one size, as isal's output depends on that.

    Made by ``compressed``.  The end of the stream is written by ``finish``.  Streams of more than one piece
    are compressed with all threads that the format may use.
    """

    def __init__(self, out: SupportsWrite, compression: Compression, level: int) -> None:
        self._out = out
        self._recipe = (compression, level)
        self._compressor: _Compressor | None = None
        self._piece = page_buffer(_WRITE)
        self._filled = 0
        self._size = 0

    def write(self, data: bytes | memoryview, /) -> int:
        """Append ``data``; give its length."""
        rest = memoryview(data)
        while len(rest) >= (room := _WRITE - self._filled):
            self._piece[self._filled :] = rest[:room]
            self._flush()
            rest = rest[room:]
        self._piece[self._filled : self._filled + len(rest)] = rest
        self._filled += len(rest)
        self._size += len(data)
        return len(data)

    def fill(self, file: BufferedReader, size: int) -> int:
        """Append what ``file`` gives at once, ``size`` bytes at most, and give their number: 0 at its end.

        What is large is read to where it is compressed, and not copied once more.
        """
        taken = file.readinto(self._piece[self._filled : self._filled + size])
        self._filled += taken
        self._size += taken
        if self._filled == _WRITE:
            self._flush()
        return taken

    def finish(self) -> None:
        """End the stream."""
        last = self._compressor or _compressor(*self._recipe, large=False)
        self._out.write(last.compress(self._piece[: self._filled]) + last.flush())
        note(compressed=self._size)

    def _flush(self) -> None:
        if self._compressor is None:
            self._compressor = _compressor(*self._recipe, large=True)
        self._out.write(self._compressor.compress(self._piece))
        self._filled = 0


@contextlib.contextmanager
def compressed(out: SupportsWrite, compression: Compression, level: int = 0) -> Iterator[SupportsWrite]:
    """Give a file that compresses to ``out``; the stream is ended when the block is left without an error.

    Level 0 is the format's default for a small stream; FormatError for a format or level that none can write.
    """
    if compression is Compression.NONE:
        yield out
        return
    writer = CompressedWriter(out, compression, checked_level(compression, level))
    yield writer
    writer.finish()


def open_reader(file: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> BinaryIO:
    """Give the uncompressed bytes of ``file`` from where it stands, read in order.

    Reading raises FormatError where the stream is damaged, ends too early, or goes beyond ``limits``.
    """
    return cast(BinaryIO, io.BufferedReader(_Reader(decompressed(file, limits)), 1 << 18))


def decompressed(file: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Iterator[bytes]:
    """Give the same as ``open_reader`` in pieces of half a MiB at most, none of them empty.

    All members are read.  Zeros may follow the last one, as tapes and archives padded to blocks have them;
    anything else there is refused, as Go's readers and so the registries' clients do.
    """
    source = Source(file, limits)
    compression = sniff(source.peek(6))
    if compression is Compression.NONE:
        pieces: Iterator[bytes] = iter(source.piece, b"")
    else:
        pieces = _members(source, compression)
    yield from _counted(pieces, source)


def sniff(head: bytes) -> Compression:
    """Tell a stream's format by its first six bytes."""
    if head.startswith(_GZIP_MAGIC):
        return Compression.GZIP
    if head.startswith(b"\xfd7zXZ\0"):
        return Compression.XZ
    # a zstd frame, or a skippable one (RFC 8878, 3.1.2)
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return Compression.ZSTD
    return Compression.NONE


def first_member(file: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Iterator[bytes]:
    """Give the uncompressed bytes of the first member or frame in ``file``, whatever follows it, in pieces.

    Raises FormatError where ``file`` begins with none, or with a damaged one.
    """
    source = Source(file, limits)
    compression = sniff(source.peek(6))
    if compression is Compression.NONE:
        raise FormatError("not a compressed stream")
    yield from _counted(_MEMBERS[compression]()(source), source)


def _counted(pieces: Iterator[bytes], source: Source) -> Iterator[bytes]:
    """Hold what comes of ``source`` to its limits."""
    try:
        for piece in pieces:
            source.give(len(piece))
            yield piece
    finally:
        note(read=source.taken)


def _members(source: Source, compression: Compression) -> Iterator[bytes]:
    """Read member after member."""
    member = _MEMBERS[compression]()
    while source.more():
        source.begin()
        yield from member(source)


def _gzip_member(source: Source) -> Iterator[bytes]:
    head = source.peek(4)
    if not head.startswith(_GZIP_MAGIC[: len(head)]):
        raise FormatError("the gzip stream is damaged: no member where one should begin")
    if head[3:] > _GZIP_FLAGS:
        raise FormatError("a gzip member with a flag that has no meaning")
    return _inflated(
        source, cast(_Decompressor, igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)), "gzip"
    )


def _xz_stream(source: Source) -> Iterator[bytes]:
    return _inflated(source, lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), "xz")


def _inflated(source: Source, member: _Decompressor, name: str) -> Iterator[bytes]:
    """Give what comes of one member, in pieces; what is read beyond it goes back to ``source``."""
    while not member.eof:
        data = source.piece() if member.needs_input else b""
        if not data and member.needs_input:
            raise FormatError(f"the {name} stream ends too early")
        try:
            plain = member.decompress(data, _PIECE)
        except _ERRORS as error:
            raise FormatError(f"the {name} stream is damaged: {error}") from None
        if plain:
            yield plain
    source.push(member.unused_data)


class _Reader(io.RawIOBase):
    """A file over pieces of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def checked_level(compression: Compression, level: int) -> int:
    """Give the level at which a stream is written, for 0 that of a small one; raise FormatError for none."""
    level = level or compression.default_level()
    if compression is not Compression.NONE and level not in _LEVELS.get(compression, ()):
        raise FormatError(
            f"{compression.value} cannot be written at level {level}",
            hint="take zstd 1 to 22, gzip 1 to 9, or none",
        )
    return level


def _threads(compression: Compression, level: int) -> int:
    """Give how many threads compress a large stream: one, or as many as _THREADED says of zstd's level.

    Below these levels a second thread costs a fifth more time; above them, each takes 100 MB.
    """
    return _THREADS if compression is Compression.ZSTD and level in _THREADED else 0


def _compressor(compression: Compression, level: int, *, large: bool) -> _Compressor:
    """Give what packs a stream, ``large`` where that has more than one piece.

    Short ones do not go to isal: it has once given other bytes for two of 9 and 4 KB, in one process of
    thousands.
    """
    if compression is Compression.GZIP:
        library = isal_zlib if large and level in _ISAL else zlib
        return cast(_Compressor, library.compressobj(level, wbits=_GZIP))
    threads = _threads(compression, level) if large else 0
    zstd = zstandard.ZstdCompressor(level=level, write_checksum=True, threads=threads)
    return cast(_Compressor, zstd.compressobj())


_LEVELS = {Compression.GZIP: range(1, 10), Compression.ZSTD: range(1, 23)}
_MEMBERS: dict[Compression, Callable[[], Callable[[Source], Iterator[bytes]]]] = {
    Compression.GZIP: lambda: _gzip_member,
    Compression.ZSTD: lambda: Frames(_ZSTD_WINDOW).read,
    Compression.XZ: lambda: _xz_stream,
}
