"""Stage ``part``: what one layer brought to a root file system, packed on its own.

A new version of an image mostly has the large layers of the old one.  So the segment of a root file system
is a list of pieces: first all directories, links and what small layers brought, then a part for each large
layer.  Only parts that changed are packed anew; laid together they make the same tree as one archive would.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field
from typing import ClassVar

from linuxkit_rules.digest import Digest, canonical_json
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.stages.pack import PackingStage
from linuxkit_rules.stages.stage import Engine, Inputs
from linuxkit_rules.stages.unpack import row_of
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

LARGE_LAYER = 1 << 20
"""Bytes that a layer must have brought to be packed on its own.

A segment more costs a hundred bytes, and what it would have found in what lies before it.
"""

MOST_PARTS = 64
"""How many layers of an image are packed on their own: the largest; each takes 3 ms."""


@dataclass(frozen=True)
class Part(PackingStage):
    """Packs ``entries``, of which ``tree`` is the digest, in their order.

    ``place`` is where they go to and ``layer`` what brought them, for people.
    """

    name: ClassVar[str] = "part"
    version: ClassVar[int] = 1
    tree: Digest
    entries: tuple[Entry, ...] = field(compare=False, repr=False)
    place: str = field(default="", compare=False)
    layer: str = field(default="", compare=False)

    def is_remote(self) -> bool:
        """Not by itself: the root file system is sent as a whole."""
        return False

    def label(self) -> str:
        """Where the files go to, and the digest of the layer's plain archive, as short as people write it."""
        return f"{self.place} {self.layer[:12]}".strip()

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Pack; raise FormatError where a file does not fit into an initramfs."""
        return Result(self.packed(self.entries, inputs, work.store))


def tree_digest(entries: Iterable[Entry]) -> Digest:
    """Give the digest of entries in their order, with where their contents lie."""
    total = hashlib.sha256()
    for entry in entries:
        total.update(canonical_json([row_of(entry), entry.via, *_place(entry.content)]) + b"\n")
    return Digest(total.hexdigest())


def _place(content: bytes | Slice) -> tuple[str | int, ...]:
    """Give the content itself, or the blob in which it lies; the entry's row says where there."""
    return (content.hex(),) if isinstance(content, bytes) else (content.digest.hex, content.offset)


def by_layer(entries: Sequence[Entry]) -> Mapping[str, tuple[Entry, ...]]:
    """Part the entries of a root file system: all that no large layer brought, then those of each.

    The name of the first, where there is any of it, is ``""``, that of others the digest of a layer's plain
    archive, in hex.  Each keeps the order of ``entries``; the parts follow their first files.  A hard link is
    where its file is.
    """
    large = _large(entries)
    linked = {entry.link for entry in entries if entry.kind is Kind.HARDLINK}
    parts: dict[str, list[Entry]] = {"": []}
    homes: dict[str, list[Entry]] = {}
    for entry in entries:
        home = parts[""]
        if isinstance(entry.content, Slice) and entry.content.digest in large:
            home = parts.setdefault(entry.content.digest.hex, [])
        elif entry.kind is Kind.HARDLINK:
            home = homes.get(entry.link, home)
        if entry.path in linked:
            homes[entry.path] = home
        home.append(entry)
    return {name: tuple(part) for name, part in parts.items() if part}


def _large(entries: Iterable[Entry]) -> AbstractSet[Digest]:
    """Give the layers, by their archives, whose files are parts of their own."""
    sizes = Counter[Digest]()
    for entry in entries:
        if isinstance(entry.content, Slice):
            sizes[entry.content.digest] += entry.size
    ranked = sorted(sizes, key=lambda digest: (-sizes[digest], digest))[:MOST_PARTS]
    return {digest for digest in ranked if sizes[digest] >= LARGE_LAYER}
