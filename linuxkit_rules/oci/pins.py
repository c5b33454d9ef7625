"""The lock of images: what each reference of a YAML means, down to the layers.

A JSON file, sorted, with a descriptor on a line, so that changes read well:

    {"version": 1,
     "images": {"docker.io/library/redis:7": {
       "index": {"mediaType": …, "digest": "sha256:…", "size": …},
       "linux/amd64": {"manifest": {…}, "config": {…}, "layers": [{…}, …]},
       "linux/arm64": …}}}

``index`` is there where the reference means an index; an image for one platform has that one alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import FormatError, ImageError, LinuxKitError, SpecError
from linuxkit_rules.oci.manifest import INDEXES, Manifest, load_object
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.values import dataclass

VERSION = 1

HINT = "run `moby lock` again"


@dataclass(frozen=True, slots=True)
class ImagePin:
    """One platform's image: its manifest, its configuration and its layers, the lowest first."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @classmethod
    def of(cls, descriptor: Descriptor, manifest: Manifest) -> ImagePin:
        """ImagePin a manifest that has been read."""
        return cls(descriptor, manifest.config, manifest.layers)


@dataclass(frozen=True, slots=True)
class PinnedImage:
    """What a reference means: the index, if it is one, and by platform (``linux/amd64``) the images."""

    index: Descriptor | None
    platforms: Mapping[str, ImagePin]

    @property
    def top(self) -> Descriptor:
        """The index, or the one image's manifest."""
        return self.index or next(iter(self.platforms.values())).manifest


@dataclass(frozen=True, slots=True)
class ImageLock:
    """A lock file's content: images by full reference; ``where`` is its path."""

    images: Mapping[str, PinnedImage] = field(default_factory=dict)
    where: str = field(default="the lock", compare=False)

    def find(self, reference: Reference) -> PinnedImage | None:
        """Give what the reference means, or None where the lock does not say."""
        return self.images.get(str(reference))


def load_pins(path: Path, shown: str) -> ImageLock:
    """Read the lock file ``path``, called ``shown`` in messages; raise ImageError where it is malformed."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the lock: {error.strerror}", where=shown, hint=HINT) from None
    return parse_pins(data, shown)


def parse_pins(data: bytes, where: str) -> ImageLock:
    """Read a lock; raise ImageError, saying ``where``, where it is malformed."""
    try:
        value = load_object(data, where)
        if value.get("version") != VERSION:
            raise FormatError(f"version {value.get('version')!r} is unknown")
        images = {name: _image(Reference.parse(name), name, item) for name, item in value["images"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, LinuxKitError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "message", error)
        raise ImageError(f"is no lock of images: {told}", where=where, hint=HINT) from None
    return ImageLock(images, where)


def format_pins(lock: ImageLock) -> str:
    """Give the lock's text, always the same for equal locks."""
    images = [f'"{name}": {_braces(_rows(item), 4)}' for name, item in sorted(lock.images.items())]
    return _braces([f'"version": {VERSION}', f'"images": {_braces(images, 2)}'], 0) + "\n"


def _image(reference: Reference, name: str, value: Mapping[str, Any]) -> PinnedImage:
    if str(reference) != name:
        raise SpecError(f"{name!r} is not a full reference")
    pinned = _pinned(value)
    if reference.digest not in (None, pinned.top.digest):
        raise FormatError(f"{name} is another image: {pinned.top.digest}")
    return pinned


def _pinned(value: Mapping[str, Any]) -> PinnedImage:
    platforms = {name: _pin(item) for name, item in value.items() if name != "index"}
    index = Descriptor.from_json(value["index"]) if "index" in value else None
    if index is None and len(platforms) != 1:
        raise FormatError("an image without an index is for one platform")
    if index is not None and index.media_type not in INDEXES:
        raise FormatError(f"{index.media_type} is no type of an index")
    return PinnedImage(index, platforms)


def _pin(value: Mapping[str, Any]) -> ImagePin:
    layers = tuple(Descriptor.from_json(item) for item in value["layers"])
    return ImagePin(Descriptor.from_json(value["manifest"]), Descriptor.from_json(value["config"]), layers)


def _rows(item: PinnedImage) -> Iterator[str]:
    if item.index:
        yield f'"index": {_line(item.index)}'
    for name, pin in sorted(item.platforms.items()):
        layers = _braces([_line(layer) for layer in pin.layers], 8, "[]")
        rows = (f'"manifest": {_line(pin.manifest)}', f'"config": {_line(pin.config)}', f'"layers": {layers}')
        yield f'"{name}": {_braces(rows, 6)}'


def _line(descriptor: Descriptor) -> str:
    return json.dumps(descriptor.to_json())


def _braces(rows: Iterable[str], indent: int, kind: str = "{}") -> str:
    """Put ``rows`` between braces or brackets, each on a line, two deeper than ``indent``."""
    lines = ",\n".join(f"{' ' * (indent + 2)}{row}" for row in rows)
    return f"{kind[0]}\n{lines}\n{' ' * indent}{kind[1]}" if lines else kind
