"""Which compression a segment gets, of those that the kernel can unpack."""

from __future__ import annotations

import json

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import ImageError
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.store.blobs import Store

SUPPORT = "support"
"""Role of the input that says what the kernel unpacks: what the stage ``ramdisk-support`` gives."""

OPTIONS = {Compression.ZSTD: "RD_ZSTD", Compression.GZIP: "RD_GZIP"}
"""Kconfig's option for each compression of segments, the best first."""


def load(store: Store, support: Descriptor) -> frozenset[Compression] | None:
    """Read the input: what the kernel unpacks, or None where that is not known."""
    value = json.loads(store.read(support.digest))
    return None if value is None else frozenset(map(Compression, value))


def chosen(wanted: Compression | None, known: frozenset[Compression] | None) -> Compression:
    """Give ``wanted``, or for None the best of ``known``; where that is not known, gzip: Kconfig's default.

    Raises ImageError where the kernel cannot unpack what is wanted.
    """
    if known is None:
        return wanted or Compression.GZIP
    if wanted is None:
        return next((way for way in OPTIONS if way in known), Compression.NONE)
    if wanted in OPTIONS and wanted not in known:
        message = f"the kernel cannot unpack {wanted.value}: CONFIG_{OPTIONS[wanted]} is not set in it"
        raise ImageError(message, hint="LINUXKIT_COMPRESSION=auto takes what it can")
    return wanted
