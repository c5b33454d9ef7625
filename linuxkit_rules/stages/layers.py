"""Stages that pack layers: ``layer`` one, ``layers`` those of an image, ``shared-layers`` each one once.

They are three so that images are packed beside each other, and a layer that several have once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import field, fields
from typing import Any, ClassVar

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.stages.layering import DIRECTORY, layers_of
from linuxkit_rules.stages.pack import SEGMENT, Packing, PackingStage
from linuxkit_rules.stages.rootfs import below
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.stages.trees import Kept, read
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.pieces import assembling
from linuxkit_rules.values import dataclass

SAVING = "application/vnd.linuxkit-rules.saving.v1+json"
"""Media type of what is said of shared layers; see ``Saving``."""


@dataclass(frozen=True)
class PackLayer(PackingStage):
    """Packs the layer ``directory``; ``tree`` is the digest of its tree, and ``kept`` says where that is."""

    name: ClassVar[str] = "layer"
    version: ClassVar[int] = 1
    directory: str
    tree: Digest
    kept: Kept = field(compare=False)

    def is_remote(self) -> bool:
        """Not by itself: ``layers`` asks for it, where the trees are."""
        return False

    def label(self) -> str:
        """Where the layer lies."""
        return f"{DIRECTORY}/{self.directory}"

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Pack; raise FormatError where a file does not fit into an initramfs."""
        entries = {entry.path: entry for entry, _ in read(work.store, self.kept)}
        return Result(self.packed(below(f"{DIRECTORY}/{self.directory}", entries), inputs, work.store))


@dataclass(frozen=True)
class PackLayers(PackingStage):
    """Packs the layers of the input ``image`` (its manifest), which the input ``layering`` has.

    Gives a JSON document: descriptors of segments by the layers' names, in the layers' order.
    """

    name: ClassVar[str] = "layers"
    version: ClassVar[int] = 1

    def is_remote(self) -> bool:
        """No: most of its layers are packed already, and the trees lie here."""
        return False

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Pack each; raise what packing one raises."""
        (image,), (layering,) = inputs["image"], inputs["layering"]
        how: Packing = {"compression": self.compression, "level": self.level, "release": self.release}
        found: dict[str, Descriptor] = {}
        for layer in layers_of(image, layering, work.store):
            stage = PackLayer(
                directory=layer.name, tree=layer.tree.digest, kept=layer.tree, form=self.form, **how
            )
            given = {role: items for role, items in inputs.items() if role not in ("image", "layering")}
            found[layer.name] = work.run(stage, given).output
        value = [[name, segment.to_json()] for name, segment in found.items()]
        return Result(work.store.put(canonical_json(value)), tuple(found.values()))


@dataclass(frozen=True, slots=True)
class Saving:
    """What sharing layers saves: how many ``layers`` there are, how often they are used by images, and bytes.

    ``packed`` is the sum of their segments.  ``unshared`` is that sum with each layer as often as it is used:
    the most that it would be if each image had its own, as a package's layer has files for all its users.
    """

    layers: int
    uses: int
    packed: int
    unshared: int


@dataclass(frozen=True)
class SharedLayers(Stage):
    """Joins the segments of the inputs ``layers`` (documents of the stage ``layers``), each one once.

    Gives a list of pieces, and refers to what that saves, of media type ``SAVING``.
    """

    name: ClassVar[str] = "shared-layers"
    version: ClassVar[int] = 1

    def is_shared(self) -> bool:
        """No: it is as soon made as asked for, and what it saves is told of builds by a remote cache too."""
        return False

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """List the segments; raise StoreError where one is missing."""
        used = [item for document in inputs["layers"] for item in _segments(document, work.store)]
        once = dict(used)
        saving = Saving(
            len(once),
            len(used),
            sum(segment.size for segment in once.values()),
            sum(segment.size for _, segment in used),
        )
        with assembling(work.store) as assembly:
            for segment in once.values():
                assembly.copy(assembly.whole(segment), assembly)
            joined = assembly.commit(SEGMENT)
        said = work.store.put(canonical_json(_to_json(saving)), SAVING)
        return Result(joined.output, (*joined.refers, said))


def saving_of(refers: Sequence[Descriptor], store: Store) -> Saving | None:
    """Give the saving among what a result refers to; None where there is none here.

    A promised one is not fetched: it is asked for when Python ends, and starts no threads any more.
    """
    found = next((item for item in refers if item.media_type == SAVING), None)
    return Saving(**json.loads(store.read(found.digest))) if found and store.has(found) else None


def _to_json(saving: Saving) -> dict[str, Any]:
    return {item.name: getattr(saving, item.name) for item in fields(saving)}


def _segments(document: Descriptor, store: Store) -> Iterator[tuple[str, Descriptor]]:
    for name, segment in json.loads(store.read(document.digest)):
        yield name, Descriptor.from_json(segment)
