"""Frames of zstd, read block by block: a few bytes of input can stand for gigabytes.

RFC 8878: frames 3.1.1, skippable frames 3.1.2, blocks 3.1.1.2.  The library undoes the compression and
verifies; what is here sees to it that it never gets more than it can turn into half a MiB at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.source import Source

MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
_BLOCK = 1 << 17  # Block_Maximum_Size
_TOGETHER = 4
_RLE, _RESERVED = 1, 3
_SKIP = 1 << 20


class Frames:
    """Reads frames whose window is no larger than ``window`` bytes."""

    def __init__(self, window: int) -> None:
        self._zstd = zstandard.ZstdDecompressor(max_window_size=window)

    def read(self, source: Source) -> Iterator[bytes]:
        """Give what is in the next frame, in pieces of 512 KiB at most; nothing for a skippable one.

        Raises FormatError where there is no frame, or one that is damaged, ends too early, wants a dictionary
        or a larger window.
        """
        magic = source.take(4)
        if magic[1:] == _SKIPPABLE and magic[0] >> 4 == 5:
            _skip(source, int.from_bytes(source.take(4), "little"))
            return
        if magic != MAGIC:
            raise FormatError("the zstd stream is damaged: no frame where one should begin")
        frame = self._zstd.decompressobj()
        for data in _pieces(source):
            try:
                plain = frame.decompress(magic + data)
            except zstandard.ZstdError as error:
                raise FormatError(f"the zstd stream is damaged: {error}") from None
            magic = b""
            if plain:
                yield plain


def _skip(source: Source, size: int) -> None:
    while size:
        size -= len(source.take(min(size, _SKIP)))


def _pieces(source: Source) -> Iterator[bytes]:
    """Give a frame without its magic number, in pieces of whole blocks."""
    head = _header(source)
    checksum = 4 if head[0] & 4 else 0
    parts, last = [head], False
    while not last:
        block = source.take(3)
        value = int.from_bytes(block, "little")
        last, kind, size = bool(value & 1), value >> 1 & 3, value >> 3
        if kind == _RESERVED or size > _BLOCK:
            raise FormatError("the zstd stream is damaged: a block of no known kind or size")
        parts += (block, source.take(1 if kind == _RLE else size))
        if len(parts) > 2 * _TOGETHER and not last:
            yield b"".join(parts)
            parts = []
    yield b"".join((*parts, source.take(checksum)))


def _header(source: Source) -> bytes:
    """Give the frame header; its first byte says how long it is (3.1.1.1)."""
    descriptor = source.take(1)
    flags = descriptor[0]
    if flags & 8:
        raise FormatError("the zstd stream is damaged: a reserved bit is set")
    single = bool(flags & 0x20)
    dictionary = (0, 1, 2, 4)[flags & 3]
    content = (int(single), 2, 4, 8)[flags >> 6]
    window = b"" if single else source.take(1)
    name = source.take(dictionary)
    if name.strip(b"\0"):
        number = int.from_bytes(name, "little")
        raise FormatError(f"the zstd stream needs the dictionary {number}, which is not there")
    return descriptor + window + name + source.take(content)
