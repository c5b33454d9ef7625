"""Stage ``archive``: segments of tar members, one after the other, as one tar archive."""

from __future__ import annotations

from typing import ClassVar

from linuxkit_rules.formats.tar_header import BLOCK
from linuxkit_rules.stages.boot import TAR
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.pieces import assembling
from linuxkit_rules.values import dataclass


@dataclass(frozen=True)
class Archive(Stage):
    """Joins the inputs ``members``, in their order, and ends the archive: two blocks of zeros (POSIX.1)."""

    name: ClassVar[str] = "archive"
    version: ClassVar[int] = 2

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """List the pieces of the archive; raise StoreError where a segment is missing."""
        with assembling(work.store) as assembly:
            for members in inputs.get("members", ()):
                assembly.copy(assembly.whole(members), assembly)
            assembly.write(bytes(2 * BLOCK))
            return assembly.commit(TAR)
