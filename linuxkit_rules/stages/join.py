"""Stage ``join``: the initrd, made of segments laid one after the other; a list of pieces, nothing copied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.stages.pack import ALIGNMENT
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.pieces import BLOCK, Assembly, assembling
from linuxkit_rules.values import dataclass

INITRD = "application/vnd.linuxkit-rules.initrd.v1"
"""Media type of an initrd: archives one after the other, each compressed in its own way."""

_LARGE = 16 * BLOCK


@dataclass(frozen=True)
class Join(Stage):
    """Joins the inputs ``segment``, in their order.

    Each begins at a multiple of 4 bytes, a large one at a block of the file system.
    """

    name: ClassVar[str] = "join"
    version: ClassVar[int] = 3

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """List the segments; raise StoreError where one is missing."""
        return laid(inputs.get("segment", ()), INITRD, work.store)


def laid(segments: Iterable[Descriptor], media_type: str, store: Store) -> Result:
    """List segments as ``Join`` and ``Rootfs`` lay them; raise StoreError where one is missing."""
    with assembling(store) as assembly:
        for segment in segments:
            content = assembly.whole(segment)
            _align(assembly, BLOCK if content.size >= _LARGE else ALIGNMENT, store)
            assembly.copy(content, assembly)
        _align(assembly, ALIGNMENT, store)
        return assembly.commit(media_type)


def _align(assembly: Assembly, size: int, store: Store) -> None:
    """Pad to a multiple of ``size`` bytes, out of a block of zeros that all initrds share."""
    if missing := -assembly.size % size:
        assembly.copy(Slice(store.put(bytes(BLOCK)).digest, 0, missing), assembly)


def whole(blob: Descriptor) -> Slice:
    """Give all the bytes of ``blob`` as a content."""
    return Slice(blob.digest, 0, blob.size)
