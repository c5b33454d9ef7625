"""Stage ``kernel``: the kernel's own bytes, out of a kernel image."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import FormatError, ImageError
from linuxkit_rules.formats import vmlinuz
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

_MOST = 1 << 30


@dataclass(frozen=True)
class Kernel(Stage):
    """Takes the file ``member`` out of the one input ``image`` (a manifest); ``decompress``: what it holds.

    LinuxKit's kernel images have the kernel at /kernel; ``kernel.binary`` of a YAML names another.
    """

    name: ClassVar[str] = "kernel"
    version: ClassVar[int] = 2
    member: str = "kernel"
    decompress: bool = False
    image: str = field(default="", compare=False)

    def label(self) -> str:
        """The member's name."""
        return self.member

    def is_remote(self) -> bool:
        """Its inputs are all that it reads."""
        return True

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Copy or decompress the file; raise ImageError where the image has none, or no compressed one."""
        (image,) = inputs["image"]
        if not self.decompress:
            return Result(copy_member(image, self.member, work, self.image))
        kernel = Contents(work.store).view(member(image, self.member, work, self.image))
        with work.store.writer() as writer:
            try:
                for piece in vmlinuz.decompressed(kernel):
                    writer.write(piece)
                    _check_size(writer.size)
            except FormatError as error:
                where = f"{self.image or image.digest}: /{self.member}"
                raise ImageError(error.message, where=where, hint="leave --decompress-kernel out") from None
            return Result(writer.commit())


def _check_size(size: int) -> None:
    if size > _MOST:
        raise FormatError(f"holds more than {_MOST} bytes, which no kernel does")


def copy_member(image: Descriptor, path: str, work: Engine, name: str = "") -> Descriptor:
    """Store the file ``path`` of an image as a blob of its own; raise ImageError where there is none."""
    entry = member(image, path, work, name)
    with work.store.writer() as writer:
        work.store.copy(entry.content, writer)
        return writer.commit()


def member(image: Descriptor, path: str, work: Engine, name: str = "") -> Entry:
    """Give the file ``path`` of the image shown as ``name``; raise ImageError where there is none."""
    tree = image_tree(image, work, name)
    entry = tree.get(path.strip("/"))
    if entry is not None and entry.kind is Kind.HARDLINK:
        entry = tree.get(entry.link)
    if entry is None or entry.kind is not Kind.FILE:
        files = ", ".join(sorted(name for name in tree if "/" not in name)[:8]) or "nothing"
        what = "has no file" if entry is None else f"has a {entry.kind.name.lower()} and no file at"
        message = f"the kernel image {what} /{path.strip('/')}"
        raise ImageError(message, where=name or None, hint=f"it has {files}")
    return entry
