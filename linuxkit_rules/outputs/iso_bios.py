"""Format ``iso-bios``: an ISO for machines with a BIOS.

    NAME.iso  boots by isolinux, from CD and, written to it byte for byte, from a USB disk

The format ``iso`` makes a file of the same name that boots under EFI too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from linuxkit_rules.errors import SpecError
from linuxkit_rules.outputs.base import Output
from linuxkit_rules.outputs.iso import iso_step
from linuxkit_rules.plan.graph import Step
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.stages.iso import Boot


class BiosIso(Output):
    """An ISO for BIOS."""

    name: ClassVar[str] = "iso-bios"
    suffixes: ClassVar[tuple[str, ...]] = (".iso",)

    def steps(self, parts: Parts) -> Mapping[str, Step]:
        """Give the step; raise SpecError where there is no kernel, or no BIOS on the architecture."""
        if parts.arch != "amd64":
            hint = "ask for iso or iso-efi"
            raise SpecError(f"{parts.arch} machines have no BIOS", where=parts.name, hint=hint)
        return {".iso": iso_step(self, parts, Boot.BIOS)}
