"""Blobs out of an image's place into the store, each fetched once however many processes want it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.manifest import SIZE_LIMIT
from linuxkit_rules.oci.origin import (
    Origin,
    SecondChance,
    copy_verified,
    read_verified,
    require_short,
    with_second_chance,
)
from linuxkit_rules.store.blobs import Store


def obtain(origin: Origin, blob: Descriptor, store: Store) -> None:
    """Have ``blob`` in the store; raise ImageError where what ``origin`` gives is not what it should be.

    While one thread or process fetches a blob, others that want it wait for it.
    """

    def fetch() -> None:
        with store.writer() as writer:
            copy_verified(origin, blob, writer)
            writer.commit(blob.media_type, blob.digest)

    if store.has(blob):
        return
    with store.exclusive(f"blob-{blob.digest.hex}"):
        if not store.has(blob):
            with_second_chance(origin, blob, fetch)


def document(origin: Origin, blob: Descriptor, store: Store, most: int = SIZE_LIMIT) -> bytes:
    """Give a small blob (manifest, index, configuration), which stays in the store, as ``obtain`` does.

    ``most`` is how many bytes it may have, wherever it is: what an image calls its configuration may be a
    layer that the store has.
    """
    require_short(origin, blob, most)
    if not store.has(blob):
        with store.exclusive(f"blob-{blob.digest.hex}"):
            if not store.has(blob):
                data = read_verified(origin, blob, most)
                store.put(data, blob.media_type)
                return data
    return store.read(blob.digest)


@contextmanager
def store_first(
    store: Store, name: str, place: Callable[[], AbstractContextManager[Origin]]
) -> Iterator[Origin]:
    """Give ``store`` with ``place`` behind it, which is opened only when the store lacks a blob.

    ``name`` is what messages call the place.
    """
    with ExitStack() as stack:
        yield _StoreFirst(store, name, lambda: stack.enter_context(place()))


class _StoreFirst:
    def __init__(self, store: Store, name: str, place: Callable[[], Origin]) -> None:
        self.name = name
        self._store = store
        self._place = place
        self._opened: Origin | None = None
        self._guard = threading.Lock()

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write the blob to ``out``."""
        if self._store.has(descriptor):
            self._store.copy(Slice(descriptor.digest, 0, descriptor.size), out)
        else:
            self._behind().copy(descriptor, out)

    def doubt(self, descriptor: Descriptor) -> bool:
        """Pass on that what came has the wrong content."""
        behind = self._behind()
        return isinstance(behind, SecondChance) and behind.doubt(descriptor)

    def _behind(self) -> Origin:
        with self._guard:
            if self._opened is None:
                self._opened = self._place()
            return self._opened
