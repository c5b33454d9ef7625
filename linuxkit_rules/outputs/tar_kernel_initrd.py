"""Format ``tar-kernel-initrd``: kernel, initrd and command line as one archive.

    NAME-initrd.tar  kernel, initrd.img, cmdline, ucode.cpio; those that the image has

For network boot servers that unpack one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from linuxkit_rules.outputs.base import Output
from linuxkit_rules.plan.graph import Input, Step, inputs
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.stages.boot import KernelTar
from linuxkit_rules.stages.join import Join


class TarKernelInitrd(Output):
    """What a boot loader needs, in one archive."""

    name: ClassVar[str] = "tar-kernel-initrd"
    suffixes: ClassVar[tuple[str, ...]] = ("-initrd.tar",)

    def steps(self, parts: Parts) -> Mapping[str, Step]:
        """Give the step."""
        initrd = parts.initrd
        if parts.ucode:
            segments = tuple(Input("segment", item) for item in parts.segments)
            initrd = Step("initrd-without-ucode", Join(), segments)
        there = [("kernel", parts.kernel), ("initrd", initrd), ("ucode", parts.ucode)]
        given = inputs(*((role, step) for role, step in there if step))
        return {"-initrd.tar": Step(self.name, KernelTar(parts.cmdline), given)}
