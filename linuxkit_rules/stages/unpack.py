"""Stage ``unpack``: a layer's archive, uncompressed, and an index of what is in it.

The index is lines of JSON: ``{"tar": digest}``, then a row for each member: path, typeflag, mode, uid, gid,
mtime, and then, where they are not all empty, link, major, minor, size, offset, and pairs of an extended
attribute's name and its value in hex.  It is written and read some lines at a time: as one document it would
be in memory several times over.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar

from cachetools import LRUCache

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError, ImageError, StoreError
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.compression import Compression, decompressed, sniff
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

LAYER_INDEX = "application/vnd.linuxkit-rules.layer-index.v2"
TAR = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Unpack(Stage):
    """Indexes the input ``layer``: a tar archive, plain or compressed by gzip, zstd or xz, told by its bytes.

    Gives the index and refers to the plain archive: the input itself where it is plain.  ``diff_id`` is what
    the plain archive's digest must be (OCI image specification, config.md, "Layer DiffID").
    """

    name: ClassVar[str] = "unpack"
    version: ClassVar[int] = 2
    diff_id: Digest | None = None

    def is_remote(self) -> bool:
        """Its inputs are all that it reads."""
        return True

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Unpack and index; raise ImageError where the layer is damaged or not the one meant."""
        (layer,) = inputs["layer"]
        try:
            plain = self._plain(layer, work)
            with work.store.open(plain.digest) as file, work.store.writer() as writer:
                writer.write(canonical_json({"tar": str(plain.digest)}) + b"\n")
                for entry in tar.read(file, plain.digest, work.limits):
                    writer.write(_line(entry))
                return Result(writer.commit(LAYER_INDEX), (plain,))
        except FormatError as error:
            where = f"layer {layer.digest}" + (f": {error.where}" if error.where else "")
            raise ImageError(error.message, where=where, hint=error.hint) from error

    def _plain(self, layer: Descriptor, work: Engine) -> Descriptor:
        with work.store.open(layer.digest) as file:
            if sniff(file.read(6)) is Compression.NONE:
                plain = Descriptor(TAR, layer.digest, layer.size)
                self._check(plain.digest)
                return plain
            file.seek(0)
            with work.store.writer() as writer:
                for data in decompressed(file, work.limits):
                    writer.write(data)
                try:
                    return writer.commit(TAR, self.diff_id)
                except StoreError as error:
                    raise ImageError(error.message, where=f"layer {layer.digest}, uncompressed") from error

    def _check(self, digest: Digest) -> None:
        if self.diff_id not in (None, digest):
            raise ImageError(
                f"the content is {digest} where {self.diff_id} was expected", where=f"layer {digest}"
            )


_BLOCK = 1 << 20
"""Bytes of an index, about, that are parsed at a time."""

_ENTRY_COST = 4
"""Bytes of memory that a byte of an index takes as entries (3.6 was measured)."""

_INDEXES: LRUCache[Digest, tuple[int, tuple[Entry, ...]]] = LRUCache(
    256 << 20, getsizeof=lambda item: item[0]
)
_GUARD = threading.Lock()


def load(store: Store, index: Descriptor) -> tuple[Entry, ...]:
    """Give the members of a layer from its index, in the archive's order; raise DamagedError if it is gone.

    What was read is kept in memory, up to 256 MiB: a container's segment, its modules and a tool ask for the
    same layers.
    """
    with _GUARD:
        known = _INDEXES.get(index.digest)
    if known is None:
        note(read=index.size)
        with store.open(index.digest) as file:
            known = (index.size * _ENTRY_COST, tuple(_read(file)))
        with _GUARD, contextlib.suppress(ValueError):  # one that is larger than all of the cache
            _INDEXES[index.digest] = known
    return known[1]


def _read(file: BinaryIO) -> Iterator[Entry]:
    blob = Digest.parse(json.loads(file.readline())["tar"])
    kinds = {kind.value: kind for kind in Kind}
    while lines := file.readlines(_BLOCK):
        for row in json.loads(b"[" + b",".join(lines) + b"]"):
            yield _entry(row, blob, kinds)


def _line(entry: Entry) -> bytes:
    return canonical_json(row_of(entry)) + b"\n"


def row_of(entry: Entry) -> list[Any]:
    """Give an entry's row in an index, which has all of it but ``via`` and an inline content."""
    row: list[Any] = [entry.path, entry.kind.value, entry.mode, entry.uid, entry.gid, entry.mtime]
    offset = entry.content.offset if isinstance(entry.content, Slice) else 0
    rest = [entry.link, entry.major, entry.minor, entry.size, offset]
    xattrs = [[name, value.hex()] for name, value in entry.xattrs]
    return [*row, *rest, xattrs] if xattrs or any(rest) else row


def _entry(row: list[Any], blob: Digest, kinds: dict[str, Kind]) -> Entry:
    if len(row) == 6:
        return Entry(row[0], kinds[row[1]], *row[2:])
    path, kind, mode, uid, gid, mtime, link, major, minor, size, offset, pairs = row
    xattrs = tuple((name, bytes.fromhex(value)) for name, value in pairs)
    content = Slice(blob, offset, size) if size else b""
    return Entry(path, kinds[kind], mode, uid, gid, mtime, link, major, minor, xattrs, content)
