"""What a store's contents are for, in words: told by the steps that made them and by their media types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.oci.manifest import CONFIG, LAYER, MANIFEST
from linuxkit_rules.stages.iso import ISO
from linuxkit_rules.stages.join import INITRD
from linuxkit_rules.stages.pack import MEMBERS, SEGMENT
from linuxkit_rules.stages.trees import TREE
from linuxkit_rules.stages.unpack import LAYER_INDEX
from linuxkit_rules.stages.whole import WHOLE_IMAGE
from linuxkit_rules.store.blobs import OCTET_STREAM
from linuxkit_rules.store.survey import Survey, Thing
from linuxkit_rules.values import dataclass

UNUSED = "unused: gc drops them"

_BY_TYPE = {
    LAYER: "layers",
    LAYER_INDEX: "layers' indexes",
    TREE: "layers' indexes",
    MANIFEST: "images' manifests and configurations",
    CONFIG: "images' manifests and configurations",
    WHOLE_IMAGE: "images' manifests and configurations",
    SEGMENT: "segments",
    MEMBERS: "segments",
    INITRD: "initrds",
    ISO: "ISOs",
}
_BY_STAGE = {
    "archive": "archives of systems",
    "bundle": "containers' configurations",
    "image-layers": "layers' indexes",
    "iso-head": "heads of ISOs",
    "kernel": "kernels",
    "kernel-tar": "kernels",
    "layer-digests": "layers' indexes",
    "layering": "layers' indexes",
    "layers": "layers' indexes",
    "shared-layers": "layers' indexes",
    "verify-signature": "signatures",
    "whole-image": "images as their registries have them",
}
_IMAGES = ("pull-image", "layout-image", "archive-image", "component", "whole-image")


@dataclass(frozen=True, slots=True)
class Holding:
    """One kind of thing, or one image: how many blobs or files, bytes, last use in seconds since 1970."""

    name: str
    count: int
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a store holds: each kind, the largest first; images, the most recently used first."""

    root: Path
    kinds: tuple[Holding, ...]
    images: tuple[Holding, ...]

    def to_json(self) -> dict[str, Any]:
        """Give a JSON object."""
        return {
            "root": str(self.root),
            "size": sum(item.size for item in self.kinds),
            "kinds": [asdict(item) for item in self.kinds],
            "images": [asdict(item) for item in self.images],
        }


def holdings(found: Survey, root: Path) -> Holdings:
    """Say what ``found`` is for; each blob counts once, for the step that made it if that is known."""
    groups: dict[str, list[Thing]] = {}
    purposes = _purposes(found)
    for name, blob in found.blobs.items():
        groups.setdefault(purposes.get(name, UNUSED), []).append(blob)
    groups["memory of steps"] = [item.file for item in found.entries]
    groups["tools, unpacked"] = list(found.tools)
    groups["plans and notes"] = [*found.plans, *found.builds, *found.promises]
    kinds = [_holding(name, things) for name, things in groups.items() if things]
    images = [_image(found, name, blobs) for name, blobs in _images(found)]
    return Holdings(
        root,
        tuple(sorted(kinds, key=lambda item: (-item.size, item.name))),
        tuple(sorted(images, key=lambda item: (-item.used, -item.size, item.name))),
    )


def _purposes(found: Survey) -> dict[str, str]:
    """Give what each named blob is for, by its hex digits."""
    purposes: dict[str, str] = {}
    entries = [item.entry for item in found.entries if item.entry is not None]
    for entry in entries:
        purposes.setdefault(entry.result.output.digest.hex, _purpose(entry.stage, entry.result.output))
    for entry in entries:
        for blob in entry.result.refers:
            purposes.setdefault(blob.digest.hex, _purpose(entry.stage, blob))
    return purposes


def _purpose(stage: str, blob: Descriptor) -> str:
    if stage == "deb" and blob.media_type == OCTET_STREAM:
        return "Debian packages"
    kind = _BY_TYPE.get(blob.media_type) or _BY_TYPE.get(blob.media_type.partition("+")[0])
    return kind or _BY_STAGE.get(stage, "other steps")


def _images(found: Survey) -> Iterator[tuple[str, tuple[Descriptor, ...]]]:
    """Give the names of images and their blobs, each name and content once."""
    seen = set()
    for item in found.entries:
        entry = item.entry
        if entry is None or entry.stage not in _IMAGES or (entry.label, entry.result) in seen:
            continue
        seen.add((entry.label, entry.result))
        yield entry.label, entry.result.blobs


def _image(found: Survey, name: str, blobs: tuple[Descriptor, ...]) -> Holding:
    names = {blob.digest.hex for blob in blobs}
    return _holding(name, [found.blobs[item] for item in names if item in found.blobs])


def _holding(name: str, things: list[Thing]) -> Holding:
    size = sum(item.size for item in things)
    return Holding(name, len(things), size, max((item.used for item in things), default=0.0))
