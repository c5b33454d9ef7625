"""Stages of volumes: ``volume`` packs a directory tree, ``layout-volume`` an OCI image layout.

A volume lies below containers/volumes/NAME: ``lower`` is what is in it, ``merged`` where it is mounted, and
``tmp`` where an overlay keeps its changes (LinuxKit: src/cmd/linuxkit/moby/build/build.go).  One that is
read-only is laid out the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import ClassVar

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import within
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.oci.manifest import Index, Member
from linuxkit_rules.stages.join import whole
from linuxkit_rules.stages.pack import FIXED_TIME, PackingStage, parents
from linuxkit_rules.stages.rootfs import below, fit_out, image_tree
from linuxkit_rules.stages.stage import Engine, Inputs
from linuxkit_rules.stages.whole import read_whole
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass


@dataclass(frozen=True)
class FilesVolume(PackingStage):
    """Packs the volume ``volume`` with the root file system of the input ``image``; without one, empty.

    The field ``image`` stands for it in messages.
    """

    name: ClassVar[str] = "volume"
    version: ClassVar[int] = 3
    volume: str
    image: str = field(default="", compare=False)

    def label(self) -> str:
        """The volume's name."""
        return self.volume

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Flatten, fit out and pack the image, if there is one; raise ImageError where it is not sound."""
        lower = _lower(self.volume)
        entries: Iterable[Entry] = parents(lower)
        for image in inputs.get("image", ()):
            entries = below(lower, fit_out(image_tree(image, work, self.image), resolv_link=True))
        with within(self.image or f"volume {self.volume}"):
            return Result(self.packed((*entries, *_mount_points(self.volume)), inputs, work.store))


@dataclass(frozen=True)
class LayoutVolume(PackingStage):
    """Packs the volume ``volume`` with the input ``image``, all blobs of an image, as an OCI image layout.

    ``reference`` is the image's name in the layout's index; ``""`` gives it none.  The layout's files are of
    1970, as LinuxKit has them.
    """

    name: ClassVar[str] = "layout-volume"
    version: ClassVar[int] = 1
    volume: str
    reference: str = ""

    def label(self) -> str:
        """The volume's name."""
        return self.volume

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Write the layout; raise StoreError where a blob is missing."""
        (image,) = inputs["image"]
        top, blobs = read_whole(image, work.store)
        lower = _lower(self.volume)
        entries = (*parents(lower), *self._layout(lower, top, blobs), *_mount_points(self.volume))
        return Result(self.packed(entries, inputs, work.store))

    def _layout(self, root: str, top: Descriptor, blobs: Iterable[Descriptor]) -> Iterator[Entry]:
        names = {REF_NAME: self.reference} if self.reference else {}
        version = canonical_json({"imageLayoutVersion": "1.0.0"})
        yield Entry(f"{root}/oci-layout", Kind.FILE, content=version)
        yield Entry(f"{root}/index.json", Kind.FILE, content=Index((Member(top, None, names),)).to_bytes())
        for path in ("blobs", "blobs/sha256"):
            yield Entry(f"{root}/{path}", Kind.DIRECTORY, 0o755)
        for blob in blobs:
            content = whole(blob) if blob.size else b""
            yield Entry(f"{root}/blobs/sha256/{blob.digest.hex}", Kind.FILE, content=content)


def _lower(volume: str) -> str:
    return f"containers/volumes/{volume}/lower"


def _mount_points(volume: str) -> Iterator[Entry]:
    for name in ("tmp", "merged"):
        yield Entry(f"containers/volumes/{volume}/{name}", Kind.DIRECTORY, 0o755, mtime=FIXED_TIME)
