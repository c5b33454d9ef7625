"""Format ``iso``: one ISO that boots everywhere.

    NAME.iso  boots under BIOS and EFI, from CD and, written to it byte for byte, from a USB disk

Kernel and initrd are stored once (``stages/iso.py``).  On arm64, which has no BIOS, it boots under EFI only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from linuxkit_rules.outputs.base import Output, need_kernel
from linuxkit_rules.plan.graph import Step, inputs
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.stages.iso import Boot, Iso


class HybridIso(Output):
    """An ISO for BIOS and EFI."""

    name: ClassVar[str] = "iso"
    suffixes: ClassVar[tuple[str, ...]] = (".iso",)

    def steps(self, parts: Parts) -> Mapping[str, Step]:
        """Give the step; raise SpecError where there is no kernel."""
        return {".iso": iso_step(self, parts, Boot.HYBRID if parts.arch == "amd64" else Boot.EFI)}


def iso_step(output: Output, parts: Parts, boot: Boot) -> Step:
    """Give the step of an ISO for ``boot``; raise SpecError where there is no kernel."""
    stage = Iso(boot, parts.name, parts.cmdline, parts.arch)
    loaders = [("bootloader", parts.tool(name)) for name in boot.tools]
    given = inputs(("kernel", need_kernel(parts, output)), ("initrd", parts.initrd), *loaders)
    return Step(output.name, stage, given)
