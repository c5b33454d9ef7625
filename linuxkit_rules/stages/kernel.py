"""Stage ``kernel``: the kernel's bytes, out of a kernel image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linuxkit_rules.errors import ImageError
from linuxkit_rules.formats.entry import Kind
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result

KERNEL = "application/vnd.linuxkit-rules.kernel.v1"
"""Media type of a kernel as a boot loader starts it."""


@dataclass(frozen=True)
class Kernel(Stage):
    """Takes the file ``member`` out of the input ``image``, a manifest."""

    name: ClassVar[str] = "kernel"
    version: ClassVar[int] = 1
    member: str = "kernel"

    def label(self) -> str:
        """The file that is taken."""
        return self.member

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Copy the file; raise ImageError where the image has none of this name."""
        (image,) = inputs["image"]
        entry = image_tree(image, work).get(self.member.lstrip("/"))
        if entry is None or entry.kind is not Kind.FILE:
            raise ImageError(f"the kernel's image has no file {self.member!r}", where=f"image {image.digest}")
        with work.store.writer() as writer:
            work.store.copy(entry.content, writer)
            return Result(writer.commit(KERNEL))
