"""Stage ``image-layers``: an image as layers of an overlay file system.

The output is a JSON document: ``layers``, the lowest first, each a tree (``trees``) with whiteouts as
overlayfs has them and the layer's ``origin``; and ``final``, the tree that an overlay of them is yet to be
made to show, or null where it does already.  It refers to the trees, and to the archives that they name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Final

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import within
from linuxkit_rules.formats.cpio import held
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.formats.limits import Limits
from linuxkit_rules.oci.image import load as load_image
from linuxkit_rules.oci.layers import flatten, states
from linuxkit_rules.oci.overlayfs import is_whiteout, stacked
from linuxkit_rules.stages.component import OWN_LAYERS
from linuxkit_rules.stages.pack import FIXED_TIME
from linuxkit_rules.stages.rootfs import fit_out, image_layers
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.stages.trees import Kept, Trees
from linuxkit_rules.stages.unpack import load as load_index
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

MOST_LAYERS: Final = 64
"""Layers of one root file system: their names have to fit into a page of mount(2)'s data, which is 4 KiB."""

_ROOT = Entry("", Kind.DIRECTORY, 0o755, mtime=FIXED_TIME)


@dataclass(frozen=True, slots=True)
class ImageTrees:
    """What the stage gives: pairs of a layer's origin and its tree; and what they are yet to show."""

    layers: tuple[tuple[str, Kept], ...]
    final: Kept | None

    @classmethod
    def load(cls, store: Store, document: Descriptor) -> ImageTrees:
        """Read the stage's output; raise DamagedError where it is gone."""
        value = json.loads(store.read(document.digest))
        layers = tuple((item["origin"], Kept.from_json(item)) for item in value["layers"])
        return cls(layers, Kept.from_json(value["final"]) if value["final"] else None)

    def to_json(self) -> dict[str, Any]:
        """Give a JSON object."""
        layers = [{"origin": origin, **tree.to_json()} for origin, tree in self.layers]
        return {"layers": layers, "final": self.final.to_json() if self.final else None}


@dataclass(frozen=True)
class ImageLayers(Stage):
    """Takes the input ``image`` (its manifest) apart into at most ``MOST_LAYERS`` layers.

    A layer is what a layer of the image changes, and the topmost what LinuxKit does to each image.  With
    ``packages`` it is what one package holds, whatever lies below: the image is a component's, and what is
    the component's own is left to ``final``.  An image that has a device 0:0, which overlayfs would hide, is
    one layer.  ``image`` stands for the image in messages.
    """

    name: ClassVar[str] = "image-layers"
    version: ClassVar[int] = 2
    packages: bool = False
    image: str = field(default="", compare=False)

    def label(self) -> str:
        """The image."""
        return self.image

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Take it apart; raise ImageError where it is not sound."""
        (image,) = inputs["image"]
        trees = Trees(work.store)
        with within(self.image or f"image {image.digest}"):
            names, unpacked = image_layers(image, work)
            for item in unpacked:
                trees.learn(item.output, work)
            members = [load_index(work.store, item.output) for item in unpacked]
            layers = _Layers(members, names, work.limits)
            found = self._found(layers, _origins(image, work.store) if self.packages else (), trees)
        kept = [tree for _, tree in found.layers] + ([found.final] if found.final else [])
        archives = (blob for item in unpacked for blob in item.refers)
        refers = dict.fromkeys((*(tree.index for tree in kept), *archives))
        return Result(work.store.put(canonical_json(found.to_json())), tuple(refers))

    def _found(self, layers: _Layers, origins: Sequence[str], trees: Trees) -> ImageTrees:
        if layers.has_whiteouts():
            return ImageTrees((("", trees.put(layers.final())),), None)
        if not self.packages:
            return ImageTrees(tuple(("", layer) for layer in stacked(layers.states(), trees.put)), None)
        packages = [item for item in zip(origins, layers.members, strict=True) if item[0] not in OWN_LAYERS]
        shared = [(origin, trees.put(_held(flatten([layer])))) for origin, layer in packages]
        return ImageTrees(tuple(shared[: MOST_LAYERS - 1]), trees.put(layers.final()))


@dataclass(frozen=True, slots=True)
class _Layers:
    """The members of an image's layers, the lowest first, and what messages call these."""

    members: Sequence[Sequence[Entry]]
    names: Sequence[str]
    limits: Limits

    def has_whiteouts(self) -> bool:
        """Whether a layer has what overlayfs would take for a whiteout."""
        return any(is_whiteout(entry) for layer in self.members for entry in layer)

    def final(self) -> dict[str, Entry]:
        """Give the tree that a container is to see."""
        return _fitted(flatten(self.members, self.names, self.limits))

    def states(self) -> Iterator[dict[str, Entry]]:
        """Give the tree after each layer, at most ``MOST_LAYERS``; the last as a container is to see it."""
        tree: dict[str, Entry] = {}
        most = MOST_LAYERS - 1
        for number, tree in enumerate(states(self.members, self.names, self.limits, most), 1):
            if number <= most:
                yield _held(tree)
        yield _fitted(tree)


def _origins(image: Descriptor, store: Store) -> list[str]:
    """Give what a component's image says in its history of each layer."""
    return [item["created_by"] for item in load_image(store, image).config["history"]]


def _held(tree: Mapping[str, Entry]) -> dict[str, Entry]:
    """Give a tree as an initramfs holds it, with its root."""
    return {entry.path: entry for entry in held(({"": _ROOT} | dict(tree)).values())}


def _fitted(tree: Mapping[str, Entry]) -> dict[str, Entry]:
    return _held(fit_out(tree, resolv_link=False))
