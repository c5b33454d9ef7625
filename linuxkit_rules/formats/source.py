"""The input of a compressed stream, read with a small memory and counted against limits."""

from __future__ import annotations

from typing import BinaryIO

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.limits import Limits

_READ = 1 << 14  # small, so that little is read twice where members are short


class Source:
    """Bytes of ``file`` from where it stands, with a few of them looked at ahead.

    It counts what is read, in ``taken``, and by ``give`` and ``begin`` what comes of it.
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._buffer = b""
        self._at = 0
        self.taken = 0
        self._given = 0
        self._members = 0

    def begin(self) -> None:
        """Count a member or frame; raise FormatError for one too many."""
        self._members += 1
        if self._members > self._limits.members:
            raise self._limits.excess("members", "a stream of many members or frames")

    def give(self, size: int) -> None:
        """Count ``size`` uncompressed bytes; raise FormatError where they are too many."""
        self._given += size
        if self._given > self._limits.total:
            raise self._limits.excess("total", f"{self._given} bytes uncompressed")
        if self._given > self._limits.floor and self._given > self._limits.ratio * self.taken:
            raise self._limits.excess("ratio", f"{self._given // self.taken} bytes of each compressed one")

    def peek(self, size: int) -> bytes:
        """Give the next ``size`` bytes without taking them; fewer at the end."""
        while len(self._buffer) - self._at < size and (data := self._read(_READ)):
            self._buffer, self._at = self._buffer[self._at :] + data, 0
        return self._buffer[self._at : self._at + size]

    def piece(self) -> bytes:
        """Take some bytes; none at the end."""
        data = self._buffer[self._at :]
        self.push(b"")
        return data or self._read(_READ)

    def take(self, size: int) -> bytes:
        """Take exactly ``size`` bytes; raise FormatError where the file ends before."""
        end = self._at + size
        if end <= len(self._buffer):
            data, self._at = self._buffer[self._at : end], end
            return data
        rest = self._buffer[self._at :]
        missing = size - len(rest)
        data = self._read(max(missing, _READ))
        if len(data) < missing:
            raise FormatError("the stream ends too early")
        self._buffer, self._at = data, missing
        return rest + data[:missing]

    def push(self, data: bytes) -> None:
        """Put back what was the last that ``piece`` gave, or the end of it."""
        self._buffer, self._at = data, 0

    def more(self) -> bool:
        """Take zeros; give whether anything follows them."""
        while True:
            rest = self._buffer[self._at :].lstrip(b"\0")
            self.push(rest or self._read(_READ))
            if rest or not self._buffer:
                return bool(rest)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.taken += len(data)
        return data
