"""Blobs out of an image's place into the store, each fetched once however many processes want it."""

from __future__ import annotations

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.oci.origin import Origin, copy_verified, read_verified
from linuxkit_rules.store.blobs import Store


def obtain(origin: Origin, blob: Descriptor, store: Store) -> None:
    """Have ``blob`` in the store; raise ImageError where what ``origin`` gives is not what it should be.

    While one thread or process fetches a blob, others that want it wait for it.
    """
    if store.has(blob):
        return
    with store.exclusive(f"blob-{blob.digest.hex}"):
        if not store.has(blob):
            with store.writer() as writer:
                copy_verified(origin, blob, writer)
                writer.commit(blob.media_type, blob.digest)


def document(origin: Origin, blob: Descriptor, store: Store) -> bytes:
    """Give a small blob (manifest, index, configuration), which stays in the store, as ``obtain`` does."""
    if not store.has(blob):
        with store.exclusive(f"blob-{blob.digest.hex}"):
            if not store.has(blob):
                data = read_verified(origin, blob)
                store.put(data, blob.media_type)
                return data
    return store.read(blob.digest)
