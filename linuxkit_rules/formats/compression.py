"""Compressed streams: gzip (RFC 1952), zstd (RFC 8878) and, reading only, xz.

Writing is deterministic: no name, no time, and what a library's version changes is said by ``version``.
Reading knows the format by its first bytes and goes on through all members or frames of a stream.
"""

from __future__ import annotations

import contextlib
import enum
import io
import lzma
from collections.abc import Callable, Generator, Iterator
from typing import Any, BinaryIO, Protocol, cast

import zstandard
from isal import __version__ as isal_version
from isal import isal_zlib

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.streams import SupportsWrite

_GZIP = 31  # zlib's window bits for a gzip wrapper with the largest window
_READ = 1 << 14  # small, so that a bomb cannot fill the memory in one step
_WRITE = 1 << 20
_XZ_MEMORY = 1 << 28
_THREADS = 2  # zstd gives the same bytes for any number but 0, so the machine's must not decide
_ZSTD_WINDOW = 1 << 27
_ERRORS: tuple[type[Exception], ...] = (
    cast(type[Exception], isal_zlib.error),  # its stub says an instance
    zstandard.ZstdError,
    lzma.LZMAError,
)


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
    def default_level(self) -> int:
        """The level that level 0 stands for."""
        return {Compression.GZIP: 1, Compression.ZSTD: 3}.get(self, 0)

    @property
    def version(self) -> str:
        """The library and version that decide what bytes come out: a part of keys."""
        zstd = ".".join(map(str, zstandard.ZSTD_VERSION))
        return {Compression.GZIP: f"isal {isal_version}", Compression.ZSTD: f"zstd {zstd}"}.get(self, "")


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Decompressor(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


class _Writer:
    """Compresses what is written to it, in large pieces; the end of the stream is written by ``finish``.

    Streams of more than one piece are compressed with all threads that the format may use.
    """

    def __init__(self, out: SupportsWrite, compression: Compression, level: int) -> None:
        self._out = out
        self._recipe = (compression, level)
        self._compressor: _Compressor | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._flushed = 0

    def write(self, data: bytes, /) -> int:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _WRITE:
            self._flush()
        return len(data)

    def finish(self) -> None:
        last = self._compressor or _compressor(*self._recipe, threads=0)
        self._out.write(last.compress(b"".join(self._pieces)) + last.flush())
        note(compressed=self._flushed + self._size)

    def _flush(self) -> None:
        """Compress pieces of one size, whatever the sizes written: isal's output depends on them."""
        if self._compressor is None:
            self._compressor = _compressor(*self._recipe, _THREADS)
        data = memoryview(b"".join(self._pieces))
        whole = len(data) // _WRITE * _WRITE
        for start in range(0, whole, _WRITE):
            self._out.write(self._compressor.compress(data[start : start + _WRITE]))
        self._flushed += whole
        self._pieces, self._size = [bytes(data[whole:])], len(data) - whole


@contextlib.contextmanager
def compressed(out: SupportsWrite, compression: Compression, level: int = 0) -> Iterator[SupportsWrite]:
    """Give a file that compresses to ``out``; the stream is ended when the block is left without an error.

    Level 0 is the format's default; FormatError where the format or level cannot be written.
    """
    if compression is Compression.NONE:
        yield out
        return
    writer = _Writer(out, compression, checked_level(compression, level))
    yield writer
    writer.finish()


def open_reader(file: BinaryIO) -> BinaryIO:
    """Give the uncompressed bytes of ``file`` from where it stands, read in order.

    Reading raises FormatError where the stream is damaged or ends too early.
    """
    return cast(BinaryIO, io.BufferedReader(_Reader(decompressed(file)), 1 << 18))


def decompressed(file: BinaryIO) -> Iterator[bytes]:
    """Give the same as ``open_reader`` in pieces, none of them empty."""
    head = file.read(_READ)
    compression = sniff(head)
    if compression is Compression.NONE:
        while head:
            yield head
            head = file.read(_WRITE)
        return
    yield from _members(file, head, compression)


def sniff(head: bytes) -> Compression:
    """Tell a stream's format by its first six bytes."""
    if head.startswith(b"\x1f\x8b"):
        return Compression.GZIP
    if head.startswith(b"\xfd7zXZ\0"):
        return Compression.XZ
    # a zstd frame, or a skippable one (RFC 8878, 3.1.2)
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return Compression.ZSTD
    return Compression.NONE


def first_member(file: BinaryIO) -> Iterator[bytes]:
    """Give the uncompressed bytes of the first member or frame in ``file``, whatever follows it, in pieces.

    Raises FormatError where ``file`` begins with none, or with a damaged one.
    """
    head = file.read(_READ)
    compression = sniff(head)
    if compression is Compression.NONE:
        raise FormatError("not a compressed stream")
    yield from _member(file, head, compression)


def _members(file: BinaryIO, data: bytes, compression: Compression) -> Iterator[bytes]:
    """Read member after member; zeros may follow the last one."""
    while data:
        data = yield from _member(file, data, compression)
        while not (data := data.lstrip(b"\0")):
            if not (data := file.read(_READ)):
                return


def _member(file: BinaryIO, data: bytes, compression: Compression) -> Generator[bytes, None, bytes]:
    """Read one member of which ``data`` is the beginning; return what was read beyond it."""
    member = _DECOMPRESSORS[compression]()
    while not member.eof:
        if not data:
            raise FormatError(f"the {compression.value} stream ends too early")
        try:
            plain = member.decompress(data)
        except _ERRORS as error:
            raise FormatError(f"the {compression.value} stream is damaged: {error}") from None
        if plain:
            yield plain
        data = file.read(_READ) if not member.eof else member.unused_data
    return data


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
    """Give the level at which a stream is written, for 0 the default; raise FormatError for none."""
    level = level or compression.default_level
    if compression is not Compression.NONE and level not in _LEVELS.get(compression, ()):
        raise FormatError(
            f"{compression.value} cannot be written at level {level}",
            hint="take zstd 1 to 22, gzip 1 to 3, or none",
        )
    return level


def _compressor(compression: Compression, level: int, threads: int) -> _Compressor:
    if compression is Compression.GZIP:
        return cast(_Compressor, isal_zlib.compressobj(level, wbits=_GZIP))
    zstd = zstandard.ZstdCompressor(level=level, write_checksum=True, threads=threads)
    return cast(_Compressor, zstd.compressobj())


def _zstd() -> _Decompressor:
    return cast(_Decompressor, zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj())


_LEVELS = {Compression.GZIP: range(1, 4), Compression.ZSTD: range(1, 23)}
_DECOMPRESSORS: dict[Compression, Callable[[], _Decompressor]] = {
    Compression.GZIP: lambda: cast(_Decompressor, isal_zlib.decompressobj(wbits=_GZIP)),
    Compression.ZSTD: _zstd,
    Compression.XZ: lambda: cast(_Decompressor, lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)),
}
