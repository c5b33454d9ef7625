"""Stages of what LinuxKit lays below /boot: ``boot`` as a segment, ``kernel-tar`` as an archive of its own.

An initramfs has the empty directory only; an archive of the whole system has the kernel, its command line and
its microcode in it (src/cmd/linuxkit/moby/build/build.go, kernelFilter).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.stages.join import whole
from linuxkit_rules.stages.kernel import member
from linuxkit_rules.stages.pack import FIXED_TIME, PackingStage
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.pieces import assembling
from linuxkit_rules.values import dataclass

TAR = "application/x-tar"


@dataclass(frozen=True)
class Boot(PackingStage):
    """Packs the directory boot, in it ``cmdline`` (None: no file), the inputs ``kernel`` and ``ucode``.

    The input ``image`` (the kernel image's manifest) says the permissions: ``member`` is the kernel's file in
    it, ``ucode`` that of the microcode.
    """

    name: ClassVar[str] = "boot"
    version: ClassVar[int] = 2
    cmdline: str | None = None
    member: str = "kernel"
    ucode: str = ""

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Pack them."""
        entries = [Entry("boot", Kind.DIRECTORY, 0o755, mtime=FIXED_TIME)]
        if self.cmdline is not None:
            entries.append(_file("boot/cmdline", _encoded(self.cmdline)))
        for image in inputs.get("image", ()):
            for role, path, name in (
                ("kernel", "boot/kernel", self.member),
                ("ucode", "boot/ucode.cpio", self.ucode),
            ):
                for blob in inputs.get(role, ()):
                    entries.append(_file(path, whole(blob), member(image, name, work).mode))
        return Result(self.packed(entries, inputs, work.store))


@dataclass(frozen=True)
class KernelTar(Stage):
    """Archives the inputs ``kernel``, ``initrd`` and ``ucode``, and ``cmdline`` where there is one.

    The members are LinuxKit's: kernel, initrd.img, cmdline and ucode.cpio, 0644 of root.
    """

    name: ClassVar[str] = "kernel-tar"
    version: ClassVar[int] = 2
    cmdline: str = ""

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """List the pieces of the archive; raise StoreError where a blob is missing."""
        with assembling(work.store) as assembly:
            archive = tar.Writer(assembly)
            for entry in self._entries(inputs, assembly.whole):
                archive.add(entry, assembly.copy)
            archive.close()
            return assembly.commit(TAR)

    def _entries(self, inputs: Inputs, content: Callable[[Descriptor], Slice]) -> Iterator[Entry]:
        yield from (_file("kernel", content(blob)) for blob in inputs.get("kernel", ()))
        yield from (_file("initrd.img", content(blob)) for blob in inputs.get("initrd", ()))
        if self.cmdline:
            yield _file("cmdline", _encoded(self.cmdline))
        yield from (_file("ucode.cpio", content(blob)) for blob in inputs.get("ucode", ()))


def _file(path: str, content: Slice | bytes, mode: int = 0o644) -> Entry:
    return Entry(path, Kind.FILE, mode, mtime=FIXED_TIME, content=content)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
