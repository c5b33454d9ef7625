"""The .deb package: an ar archive of debian-binary, control.tar and data.tar.

deb(5).
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import BinaryIO

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import ar
from linuxkit_rules.formats.compression import open_reader
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.store.blobs import Store

LAYER = "application/vnd.oci.image.layer.v1.tar"

_BLOCK = 1 << 20
_VERSION = "debian-binary"


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: BinaryIO, member: ar.Member) -> None:
        self._file = file
        self._left = member.size
        file.seek(member.offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def unpack_data(store: Store, deb: Digest, limits: Limits = DEFAULT_LIMITS) -> Descriptor:
    """Store the package's data.tar uncompressed.

    Raises FormatError where ``deb`` is no proper package, or goes beyond ``limits``.
    """
    with store.open(deb) as file, _data(file, limits) as data, store.writer() as writer:
        while block := data.read(_BLOCK):
            writer.write(block)
        return writer.commit(LAYER)


@contextlib.contextmanager
def _data(file: BinaryIO, limits: Limits) -> Iterator[BinaryIO]:
    """Open the member data.tar.* for reading, decompressed."""
    members = list(ar.read(file, os.fstat(file.fileno()).st_size))
    if not members or members[0].name != _VERSION:
        raise FormatError("the package does not begin with debian-binary")
    file.seek(members[0].offset)
    if not file.read(members[0].size).startswith(b"2."):
        raise FormatError("the package is not of format 2")
    for member in members:
        if member.name == "data.tar" or member.name.startswith("data.tar."):
            with open_reader(io.BufferedReader(_Window(file, member), _BLOCK), limits) as reader:
                yield reader
            return
    raise FormatError("the package has no data.tar")
