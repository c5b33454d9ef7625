"""File trees in the store, named by what they hold; and the stage ``layer-digests``, which names need.

A tree is lines of JSON, one for each entry: path, typeflag, mode, uid, gid, mtime, link, major, minor, the
content's sha256 in hex (``""`` where it is empty) and size; and then where it lies: a blob and the offset
there, or ``""`` and the content itself in hex.  The *tree's digest* is that of the lines without the two,
so the same files out of two archives are one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import Any, ClassVar

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.stages.unpack import load
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

TREE = "application/vnd.linuxkit-rules.tree.v2"
_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True)
class LayerDigests(Stage):
    """Gives the sha256 of each file in the input ``layer-index``: lines of offset, size and hex digits."""

    name: ClassVar[str] = "layer-digests"
    version: ClassVar[int] = 1

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Read the layer; raise DamagedError where it is gone."""
        (index,) = inputs["layer-index"]
        contents = Contents(work.store)
        with work.store.writer() as writer:
            for entry in load(work.store, index):
                if isinstance(entry.content, Slice):
                    note(read=entry.size, hashed=entry.size)
                    found = hashlib.sha256(contents.view(entry)).hexdigest()
                    writer.write(canonical_json([entry.content.offset, entry.size, found]) + b"\n")
            return Result(writer.commit())


@dataclass(frozen=True, slots=True)
class Kept:
    """A tree in the store: its own digest, which tells trees apart, and the blob that lists its entries."""

    digest: Digest
    index: Descriptor = field(compare=False)

    @classmethod
    def from_json(cls, value: Any) -> Kept:
        """Read what ``to_json`` gave."""
        return cls(Digest.parse(value["tree"]), Descriptor.from_json(value["index"]))

    def to_json(self) -> dict[str, Any]:
        """Give a JSON object."""
        return {"tree": str(self.digest), "index": self.index.to_json()}


class Trees:
    """Writes and reads trees; entries that it gives are equal where path, attributes and content are."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._digests: dict[Slice, str] = {}
        self._contents: dict[str, bytes | Slice] = {}

    def learn(self, index: Descriptor, work: Engine) -> None:
        """Come to know the contents of the layer that ``index`` lists, which all lie in its archive."""
        known = work.run(LayerDigests(), {"layer-index": (index,)}).output
        blobs = {item.content.digest for item in load(self._store, index) if isinstance(item.content, Slice)}
        if not blobs:
            return
        (blob,) = blobs
        for offset, size, found in map(json.loads, self._store.read(known.digest).splitlines()):
            self._digests[Slice(blob, offset, size)] = found

    def put(self, tree: Mapping[str, Entry]) -> Kept:
        """Store a tree of entries without extended attributes, whose contents are known, in its order."""
        total = hashlib.sha256()
        with self._store.writer() as writer:
            for entry in tree.values():
                row = [entry.path, entry.kind.value, entry.mode, entry.uid, entry.gid, entry.mtime]
                row += [entry.link, entry.major, entry.minor, *self._named(entry.content)]
                total.update(canonical_json(row) + b"\n")
                writer.write(canonical_json([*row, *_place(entry.content)]) + b"\n")
            return Kept(Digest(total.hexdigest()), writer.commit(TREE))

    def get(self, tree: Kept) -> dict[str, Entry]:
        """Read a tree; raise DamagedError where it is gone."""
        return {entry.path: replace(entry, content=content) for entry, content in self._read(tree)}

    def _read(self, tree: Kept) -> Iterator[tuple[Entry, bytes | Slice]]:
        for entry, found in read(self._store, tree):
            if isinstance(entry.content, Slice):
                self._digests[entry.content] = found
            yield entry, self._contents.setdefault(found, entry.content)

    def _named(self, content: bytes | Slice) -> tuple[str, int]:
        """Give a content's sha256 and size."""
        if isinstance(content, Slice):
            return self._digests[content], content.size
        return hashlib.sha256(content).hexdigest() if content else "", len(content)


def _place(content: bytes | Slice) -> tuple[str, int | str]:
    """Give where a content lies; LinuxKit's own small files lie in no blob, which could be lost alone."""
    return (content.digest.hex, content.offset) if isinstance(content, Slice) else ("", content.hex())


def read(store: Store, tree: Kept) -> Iterator[tuple[Entry, str]]:
    """Give a tree's entries, each with its content's sha256 in hex; raise DamagedError where it is gone."""
    with store.open(tree.index.digest) as file:
        for row in map(json.loads, file):
            path, kind, mode, uid, gid, mtime, link, major, minor, found, size, blob, place = row
            content = Slice(Digest(blob), place, size) if blob else bytes.fromhex(place)
            yield Entry(path, _KINDS[kind], mode, uid, gid, mtime, link, major, minor, (), content), found
