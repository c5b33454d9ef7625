"""Stage ``layering``: which layers the images of a system are made of, and which of them they share.

The output is a JSON document: ``layers``, each once, with its ``name`` (a directory of ``containers/layers``)
and tree; and ``images``, by the digest of the image's manifest the names of its layers, the lowest first.
It refers to the trees and to the archives in which their files lie: segments are packed of them at any time,
when the stages that made them are asked no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.oci.overlayfs import topped, united
from linuxkit_rules.stages.image_layers import ImageLayers, ImageTrees
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.stages.trees import Kept, Trees
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

DIRECTORY = "containers/layers"
"""Where the layers lie, relative to the root of the system."""

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its name, and its tree."""

    name: str
    tree: Kept

    @property
    def directory(self) -> str:
        """Where it lies, relative to the root of the system."""
        return f"{DIRECTORY}/{self.name}"


def layers_of(image: Descriptor, layering: Descriptor, store: Store) -> tuple[Layer, ...]:
    """Give an image's layers, the lowest first, from the stage's output; DamagedError where that is gone."""
    value = json.loads(store.read(layering.digest))
    known = {item["name"]: Layer(item["name"], Kept.from_json(item)) for item in value["layers"]}
    return tuple(known[name] for name in value["images"][str(image.digest)])


@dataclass(frozen=True)
class Layering(Stage):
    """Finds the layers of the inputs ``image`` (manifests); ``components`` says which are components'.

    Components share a layer for each package: it has the files that any of them needs, and the topmost layer
    of each hides those that it has not.  ``images`` stand for the images in messages.
    """

    name: ClassVar[str] = "layering"
    version: ClassVar[int] = 2
    components: tuple[bool, ...]
    images: tuple[str, ...] = field(default=(), compare=False)

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Take the images apart and compare them; raise ImageError where one is not sound."""
        trees = Trees(work.store)
        images = inputs["image"]
        names = self.images or ("",) * len(images)
        taken = [
            work.run(ImageLayers(packages, name), {"image": (image,)})
            for image, packages, name in zip(images, self.components, names, strict=True)
        ]
        found = [ImageTrees.load(work.store, result.output) for result in taken]
        stacks = {
            str(image.digest): stack for image, stack in zip(images, _shared(found, trees), strict=True)
        }
        # The same files may lie in several archives: one of them will do.
        once = {tree.digest: tree for stack in stacks.values() for tree in stack}
        known = (blob for result in taken for blob in result.refers)
        refers = dict.fromkeys((*(tree.index for tree in once.values()), *known))
        return Result(work.store.put(canonical_json(_document(stacks, once))), tuple(refers))


def _document(stacks: Mapping[str, Sequence[Kept]], once: Mapping[Digest, Kept]) -> dict[str, Any]:
    names = _names(tuple(once))
    return {
        "layers": [{"name": names[digest], **tree.to_json()} for digest, tree in once.items()],
        "images": {image: [names[tree.digest] for tree in stack] for image, stack in stacks.items()},
    }


def _names(digests: Sequence[Digest]) -> dict[Digest, str]:
    """Give names by digest: first digits, as many as tell them apart."""
    digits = _DIGITS
    while len({digest.hex[:digits] for digest in digests}) < len(set(digests)):
        digits += 1
    return {digest: digest.hex[:digits] for digest in digests}


def _shared(images: Sequence[ImageTrees], trees: Trees) -> list[tuple[Kept, ...]]:
    """Give the layers of each image, with what is common to components in common layers."""
    packages = _Packages()
    for image in images:
        if image.final:
            for origin, tree in image.layers:
                packages.add(origin, trees.get(tree))
    return [tuple(_stack(image, packages, trees)) for image in images]


def _stack(image: ImageTrees, packages: _Packages, trees: Trees) -> Iterator[Kept]:
    """Give the layers of one image, the lowest first."""
    if not image.final:
        yield from (tree for _, tree in image.layers)
        return
    lower = (packages.find(origin, trees.get(tree)) for origin, tree in image.layers)
    yield from topped(lower, trees.get(image.final), trees.put)


class _Packages:
    """The files of packages by origin, those that several components take of one put together.

    A name and version stand for one package as a rule; where they do not, its files differ and stay apart.
    """

    def __init__(self) -> None:
        self._trees: dict[str, list[dict[str, Entry]]] = {}

    def add(self, origin: str, tree: dict[str, Entry]) -> None:
        """Put ``tree`` together with what is known of ``origin``."""
        known = self._trees.setdefault(origin, [])
        for number, other in enumerate(known):
            both = united(other, tree)
            if both is not None:
                known[number] = both
                return
        known.append(tree)

    def find(self, origin: str, tree: dict[str, Entry]) -> dict[str, Entry]:
        """Give what ``tree`` was put together to."""
        fitting = (known for known in self._trees[origin] if known.keys() >= tree.keys())
        return next(known for known in fitting if united(known, tree) == known)
