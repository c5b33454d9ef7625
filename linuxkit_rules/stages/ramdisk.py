"""Stage ``ramdisk-support``: how a segment may be compressed so that the kernel of an image can unpack it.

Kconfig's options RD_ZSTD and RD_GZIP say so.  The configuration lies in the kernel image, where distributions
have it or as ``kernel.config``, as in images of ours; or in the kernel itself, as in LinuxKit's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import ClassVar

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.globs import matches
from linuxkit_rules.digest import canonical_json
from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import kconfig, vmlinuz
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.stages.kernel_image import CONFIG
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.stages.support import OPTIONS
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

_MOST = 1 << 30
_BESIDE = (CONFIG, "boot/config", "boot/config-*", "lib/modules/*/config", "usr/lib/modules/*/config")


@dataclass(frozen=True)
class RamdiskSupport(Stage):
    """Tells what the kernel ``member`` of the one input ``image`` (a manifest) unpacks.

    Gives JSON: a list of names of compressions, or null where no configuration is found.
    """

    name: ClassVar[str] = "ramdisk-support"
    version: ClassVar[int] = 2
    member: str = "kernel"
    image: str = field(default="", compare=False)

    def label(self) -> str:
        """The image."""
        return self.image

    def is_remote(self) -> bool:
        """Its inputs are all that it reads."""
        return True

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Look for the configuration; raise ImageError where the image is not sound."""
        (image,) = inputs["image"]
        tree = image_tree(image, work, self.image)
        config = _beside(tree, work.store) or _inside(tree.get(self.member.strip("/")), tree, work.store)
        found = (
            None
            if config is None
            else [item.value for item, option in OPTIONS.items() if kconfig.is_set(config, option)]
        )
        return Result(work.store.put(canonical_json(found)))


def _beside(tree: Mapping[str, Entry], store: Store) -> bytes | None:
    """Give the configuration that is a file of the image; None where there is none, or several kernels'."""
    found = [entry for path, entry in tree.items() if entry.kind is Kind.FILE and matches(_BESIDE, path)]
    texts = {bytes(Contents(store).view(entry)) for entry in found}
    return texts.pop() if len(texts) == 1 else None


def _inside(kernel: Entry | None, tree: Mapping[str, Entry], store: Store) -> bytes | None:
    """Give the configuration that the kernel carries, plain or in its compressed part."""
    if kernel is not None and kernel.kind is Kind.HARDLINK:
        kernel = tree.get(kernel.link)
    if kernel is None or kernel.kind is not Kind.FILE or not kernel.size:
        return None
    view = Contents(store).view(kernel)
    try:
        found = kconfig.embedded(_pieces(view))
        return found or kconfig.embedded(_bounded(vmlinuz.decompressed(view)))
    except FormatError:
        return None


def _bounded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give the pieces of no larger kernel than any is."""
    left = _MOST
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            return
        yield piece


def _pieces(view: memoryview, size: int = 1 << 20) -> Iterator[memoryview]:
    return (view[start : start + size] for start in range(0, len(view), size))
