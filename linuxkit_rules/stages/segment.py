"""Stages that pack containers: ``segment`` packs bundles, ``container-rootfs`` the files of an image.

They are two, so that a container's changed command packs a few hundred bytes and not its image.
"""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.stages.bundle import Place, entries, read_settings
from linuxkit_rules.stages.pack import PackingStage
from linuxkit_rules.stages.rootfs import Rootfs
from linuxkit_rules.stages.stage import Engine, Inputs
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass


@dataclass(frozen=True)
class Segment(PackingStage):
    """Packs the inputs ``bundle`` (documents of the stage ``bundle``), directories once each."""

    name: ClassVar[str] = "segment"
    version: ClassVar[int] = 1

    def is_remote(self) -> bool:
        """Configurations are small: they are packed before they could be sent."""
        return False

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Pack them in their order."""
        tree: dict[str, Entry] = {}
        for bundle in inputs["bundle"]:
            for entry in entries(bundle, work.store):
                tree.setdefault(entry.path, entry)
        return Result(self.packed(tree.values(), inputs, work.store))


@dataclass(frozen=True)
class ContainerRootfs(PackingStage):
    """Packs the input ``image`` where the container at ``place`` wants it: ``rootfs``, or ``lower``.

    Which of them, the image's label may decide.  Only the first container of an image has its files.
    ``image`` stands for the image in messages.
    """

    name: ClassVar[str] = "container-rootfs"
    version: ClassVar[int] = 5
    place: Place
    image: str = field(default="", compare=False)

    def label(self) -> str:
        """The container's directory."""
        return self.place.directory

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Pack the image; raise ImageError where it is not sound, SpecError for a bad label."""
        (image,) = inputs["image"]
        _, label = read_settings(image, work.store, self.image)
        stage = Rootfs(
            prefix=self.place.root(label),
            image=self.image,
            compression=self.compression,
            level=self.level,
            release=self.release,
            form=self.form,
        )
        return work.run(stage, {**inputs, "image": (image,)})
