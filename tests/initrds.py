"""Segments and initrds taken apart as the kernel does, and images to make them of."""

import io
import json
import zlib
from collections.abc import Iterator

import zstandard

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.oci.image import save
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.contents import whole


def archives(data: bytes) -> Iterator[bytes]:
    """Take an initrd apart as the kernel does: skip NULs, tell each archive by its magic, unpack it."""
    while data := data.lstrip(b"\0"):
        unpacker = (
            zlib.decompressobj(31)
            if data[:2] == b"\x1f\x8b"
            else zstandard.ZstdDecompressor().decompressobj()
        )
        if data[:6] == b"070701":
            end = data.index(b"TRAILER!!!\0") + 11
            archive, data = data[:end] + bytes(-end % 4), data[end:]
        else:
            archive = unpacker.decompress(data)
            data = unpacker.unused_data
        yield archive


def unpacked(store: Store, blob: Descriptor) -> dict[str, Entry]:
    data = whole(store, blob)
    return {entry.path: entry for part in archives(data) for entry in cpio.read(io.BytesIO(part))}


def image(engine: Engine, *layers: bytes) -> Descriptor:
    config = json.dumps({"os": "linux", "architecture": "amd64"}).encode()
    return save(engine.store, config, tuple(engine.store.put(layer) for layer in layers)).output
