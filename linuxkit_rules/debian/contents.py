"""Bytes of entries without copying: blobs of the store mapped into memory."""

from __future__ import annotations

import mmap

from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.store.blobs import Store


class Contents:
    """Gives views of entries' contents; what is mapped for one goes with it, so that memory stays small."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def view(self, entry: Entry) -> memoryview:
        """Give the bytes of ``entry``; raise StoreError where the blob is missing."""
        content = entry.content
        if isinstance(content, bytes) or not content.size:
            return memoryview(content if isinstance(content, bytes) else b"")
        ahead = content.offset % mmap.ALLOCATIONGRANULARITY
        with self._store.open(content.digest) as file:
            mapped = mmap.mmap(
                file.fileno(),
                ahead + content.size,
                access=mmap.ACCESS_READ,
                offset=content.offset - ahead,
            )
        return memoryview(mapped)[ahead:]
