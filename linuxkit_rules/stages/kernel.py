"""Stage ``kernel``: the kernel's own bytes, out of a kernel image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import ImageError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result


@dataclass(frozen=True)
class Kernel(Stage):
    """Takes the file ``member`` out of the one input ``image`` (its manifest).

    LinuxKit's kernel images have the kernel at /kernel; ``kernel.binary`` of a YAML names another.
    """

    name: ClassVar[str] = "kernel"
    version: ClassVar[int] = 1
    member: str = "kernel"

    def label(self) -> str:
        """The member's name."""
        return self.member

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Copy the file; raise ImageError where the image has none."""
        (image,) = inputs["image"]
        return Result(copy_member(image, self.member, work))


def copy_member(image: Descriptor, path: str, work: Engine) -> Descriptor:
    """Store the file ``path`` of an image as a blob of its own; raise ImageError where there is none."""
    entry = member(image, path, work)
    with work.store.writer() as writer:
        work.store.copy(entry.content, writer)
        return writer.commit()


def member(image: Descriptor, path: str, work: Engine) -> Entry:
    """Give the file ``path`` of an image; raise ImageError where there is none."""
    tree = image_tree(image, work)
    entry = tree.get(path.strip("/"))
    if entry is not None and entry.kind is Kind.HARDLINK:
        entry = tree.get(entry.link)
    if entry is None or entry.kind is not Kind.FILE:
        files = ", ".join(sorted(name for name in tree if "/" not in name)[:8]) or "nothing"
        raise ImageError(f"the kernel image has no file /{path.strip('/')}", hint=f"it has {files}")
    return entry
