"""What a hostile image is made of, and what is to become of it."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.oci.manifest import CONFIG, LAYER, MANIFEST, Manifest
from linuxkit_rules.store.blobs import Store
from tests.hostile.headers import archive
from tests.images import Blobs

Build = Callable[[Blobs], Descriptor]
"""Puts an image's blobs together and gives its manifest or index."""


@dataclass(frozen=True)
class Case:
    """An image, and either why it is refused, or what its tree is.

    ``refused`` is a regular expression for the message after image, layer and entry; ``entry`` is the entry
    that the message has to name, ``layer`` whether it has to name a layer.  ``tree`` gives each path in the
    words of ``told``; ``attributes`` mode, uid, gid and mtime of some.
    """

    name: str
    build: Build
    refused: str = ""
    entry: str | None = None
    layer: bool = True
    tree: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)
    limits: Limits = DEFAULT_LIMITS


def told(entry: Entry, store: Store) -> str:
    """An entry in few words: ``file hello``, ``-> target``, ``= first name``, ``char 1,3``, ``directory``."""
    if entry.kind is Kind.FILE:
        out = bytearray()
        store.copy(entry.content, _Collector(out))
        return f"file {out.decode('utf-8', 'replace')}".rstrip()
    if entry.kind in (Kind.CHAR, Kind.BLOCK):
        return f"{entry.kind.name.lower()} {entry.major},{entry.minor}"
    sign = {Kind.SYMLINK: "-> ", Kind.HARDLINK: "= "}.get(entry.kind)
    return f"{sign}{entry.link}" if sign else entry.kind.name.lower()


@dataclass
class _Collector:
    data: bytearray

    def write(self, piece: bytes) -> None:
        self.data += piece


def layers(*plain: bytes) -> Build:
    """An image of these tar archives, the lowest first."""
    return lambda blobs: blobs.image(list(plain))


def packed(layer: bytes, plain: bytes, media_type: str = LAYER + "+gzip") -> Build:
    """An image whose one layer is ``layer``, and is said to be ``plain`` without its compression."""

    def build(blobs: Blobs) -> Descriptor:
        config = blobs.add(blobs.config([plain]), CONFIG)
        manifest = Manifest(config, (blobs.add(layer, media_type),))
        return blobs.add(manifest.to_bytes(), MANIFEST)

    return build


def document(data: bytes, media_type: str = MANIFEST) -> Build:
    """An image whose manifest is ``data``."""
    return lambda blobs: blobs.add(data, media_type)


def refused(name: str, entry: str, why: str, *members: bytes, limits: Limits = DEFAULT_LIMITS) -> Case:
    """One layer of these members, refused because of ``entry``."""
    return Case(name, layers(archive(*members)), why, entry, limits=limits)


def broken(name: str, why: str, *members: bytes, limits: Limits = DEFAULT_LIMITS) -> Case:
    """One layer of these members, refused because of what belongs to no entry."""
    return Case(name, layers(archive(*members)), why, limits=limits)


def over(name: str, entry: str, why: str, *stack: Sequence[bytes]) -> Case:
    """Several layers, each of its members, refused because of ``entry`` in the last of them."""
    return Case(name, layers(*(archive(*members) for members in stack)), why, entry)


def tree(name: str, expected: Mapping[str, str], *stack: Sequence[bytes]) -> Case:
    """Layers, each of its members, that give exactly the tree ``expected``."""
    return Case(name, layers(*(archive(*members) for members in stack)), tree=expected)


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
