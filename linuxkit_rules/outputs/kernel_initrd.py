"""Format ``kernel+initrd``: the kernel, its initrd, and its command line, as three files.

    NAME-kernel      what the boot loader starts; none where the YAML names no kernel
    NAME-initrd.img  the root file system: cpio archives, one after the other, each compressed
    NAME-cmdline     the command line, without a newline; none where it is empty

For QEMU's ``-kernel``, ``-initrd`` and ``-append``, for network boot, and for other boot loaders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from linuxkit_rules.outputs.base import Output
from linuxkit_rules.plan.graph import Step
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.stages.text import Text


class KernelInitrd(Output):
    """Three files for a boot loader of the user's."""

    name: ClassVar[str] = "kernel+initrd"
    suffixes: ClassVar[tuple[str, ...]] = ("-kernel", "-initrd.img", "-cmdline")

    def steps(self, parts: Parts) -> Mapping[str, Step]:
        """Give the steps."""
        cmdline = Step("cmdline", Text(parts.cmdline)) if parts.cmdline else None
        steps = zip(self.suffixes, (parts.kernel, parts.initrd, cmdline), strict=True)
        return {suffix: step for suffix, step in steps if step}
