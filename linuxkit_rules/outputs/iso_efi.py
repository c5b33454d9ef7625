"""Format ``iso-efi``: an ISO for machines with EFI, amd64 or arm64.

NAME-efi.iso  boots by systemd-boot, from CD and, written to it byte for byte, from a USB disk
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from linuxkit_rules.outputs.base import Output
from linuxkit_rules.outputs.iso import iso_step
from linuxkit_rules.plan.graph import Step
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.stages.iso import Boot


class EfiIso(Output):
    """An ISO for EFI."""

    name: ClassVar[str] = "iso-efi"
    suffixes: ClassVar[tuple[str, ...]] = ("-efi.iso",)

    def steps(self, parts: Parts) -> Mapping[str, Step]:
        """Give the step; raise SpecError where there is no kernel."""
        return {"-efi.iso": iso_step(self, parts, Boot.EFI)}
