"""Bytes of entries without copying: blobs of the store mapped into memory."""

from __future__ import annotations

import mmap

from linuxkit_rules.digest import Digest
from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.store.blobs import Store


class Contents:
    """Gives views of entries' contents; each blob is mapped once, for as long as a view of it lives."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._maps: dict[Digest, memoryview] = {}

    def view(self, entry: Entry) -> memoryview:
        """Give the bytes of ``entry``; raise StoreError where the blob is missing."""
        content = entry.content
        if isinstance(content, bytes):
            return memoryview(content)
        whole = self._maps.get(content.digest)
        if whole is None:
            with self._store.open(content.digest) as file:
                whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._maps[content.digest] = whole
        return whole[content.offset : content.offset + content.size]
