"""Stage ``join``: the initrd, made of segments laid one after the other; a list of pieces, nothing copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.stages.pack import ALIGNMENT
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.pieces import BLOCK, assembling

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
        padding = work.store.put(bytes(BLOCK)).digest
        with assembling(work.store) as assembly:
            for segment in inputs.get("segment", ()):
                content = assembly.whole(segment)
                alignment = BLOCK if content.size >= _LARGE else ALIGNMENT
                assembly.copy(Slice(padding, 0, -assembly.size % alignment), assembly)
                assembly.copy(content, assembly)
            assembly.copy(Slice(padding, 0, -assembly.size % ALIGNMENT), assembly)
            return assembly.commit(INITRD)


def whole(blob: Descriptor) -> Slice:
    """Give all the bytes of ``blob`` as a content."""
    return Slice(blob.digest, 0, blob.size)
