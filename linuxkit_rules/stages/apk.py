"""Stage ``apk``: the package databases of several init images as one.

Each Alpine image has the file lib/apk/db/installed; of init images laid over each other only the last one's
would be left.  As LinuxKit has it (src/cmd/linuxkit/moby/build/apk.go), the files are joined, each followed
by two newlines, with time 0; one alone stays as it is.
"""

from __future__ import annotations

from dataclasses import field
from itertools import repeat
from typing import ClassVar

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.stages.pack import PackingStage
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine, Inputs
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

INSTALLED = "lib/apk/db/installed"


@dataclass(frozen=True)
class ApkDatabase(PackingStage):
    """Packs the joined database of the inputs ``image`` (manifests); nothing if only one has one.

    ``images`` stand for them in messages.
    """

    name: ClassVar[str] = "apk"
    version: ClassVar[int] = 2
    images: tuple[str, ...] = field(default=(), compare=False)

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Join and pack; raise ImageError where an image is not sound."""
        contents = Contents(work.store)
        names = self.images or ("",) * len(inputs["image"])
        trees = (image_tree(*item) for item in zip(inputs["image"], repeat(work), names, strict=False))
        found = [tree[INSTALLED] for tree in trees if INSTALLED in tree]
        databases = [bytes(contents.view(item)) for item in found if item.kind is Kind.FILE]
        if len(databases) < 2:
            return Result(self.packed([], inputs, work.store))
        joined = b"".join(database + b"\n\n" for database in databases)
        return Result(self.packed([Entry(INSTALLED, Kind.FILE, 0o644, content=joined)], inputs, work.store))
