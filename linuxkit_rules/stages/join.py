"""Stage ``join``: the initrd, made of segments laid one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.stages.pack import ALIGNMENT
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result

INITRD = "application/vnd.linuxkit-rules.initrd.v1"
"""Media type of an initrd: archives one after the other, each compressed in its own way."""


@dataclass(frozen=True)
class Join(Stage):
    """Joins the inputs ``segment``, in their order; each begins at a multiple of 4 bytes."""

    name: ClassVar[str] = "join"
    version: ClassVar[int] = 1

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Write the initrd; raise StoreError where a segment is missing."""
        with work.store.writer() as writer:
            for segment in inputs.get("segment", ()):
                work.store.copy(whole(segment), writer)
                writer.write(bytes(-writer.size % ALIGNMENT))
            return Result(writer.commit(INITRD))


def whole(blob: Descriptor) -> Slice:
    """Give all the bytes of ``blob`` as a content."""
    return Slice(blob.digest, 0, blob.size)
