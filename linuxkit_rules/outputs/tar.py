"""Format ``tar``: the whole system as one archive, exactly as LinuxKit lays it out.

    NAME.tar  the root file system, with kernel, cmdline and ucode.cpio below boot

It needs no kernel, is not compressed, and keeps extended attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from linuxkit_rules.outputs.base import Output
from linuxkit_rules.plan.graph import Input, Step
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.stages.archive import Archive


class Tar(Output):
    """The whole system as one archive."""

    name: ClassVar[str] = "tar"
    suffixes: ClassVar[tuple[str, ...]] = (".tar",)

    def steps(self, parts: Parts) -> Mapping[str, Step]:
        """Give the step."""
        return {".tar": archive(self, parts.members)}


def archive(output: Output, members: tuple[Step, ...]) -> Step:
    """Give the step that joins ``members`` to an archive."""
    return Step(output.name, Archive(), tuple(Input("members", item) for item in members))
