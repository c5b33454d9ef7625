"""An image as it is kept in the store: an OCI manifest, its configuration, its layers as plain tar.

Whatever a registry, layout or archive gave (Docker schema 2, compressed layers), ``normalise`` and the image
stages bring to this one form, so that later stages need one reader: ``load``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError, ImageError, PlatformError
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.oci.config import ImageSettings
from linuxkit_rules.oci.manifest import (
    CONFIG,
    LAYER,
    MANIFEST,
    Manifest,
    Platform,
    load_object,
    parse,
    read_platform,
    require_image,
)
from linuxkit_rules.oci.origin import Origin, read_verified
from linuxkit_rules.oci.pins import ImagePin
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the store; ``layers`` are plain tar blobs, the lowest first, and ``config`` is its JSON."""

    manifest: Manifest
    config: Mapping[str, Any]

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers' tar archives, the lowest first."""
        return self.manifest.layers

    @property
    def settings(self) -> ImageSettings:
        """How the image says that it is to be run."""
        return ImageSettings.from_json(self.config, str(self.manifest.config.digest))

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return read_platform(self.config, str(self.manifest.config.digest))


def load(store: Store, image: Descriptor) -> Image:
    """Read the image whose manifest is ``image``; raise ImageError or StoreError where it is not whole."""
    where = str(image.digest)
    manifest = parse(store.read(image.digest), image.media_type, where)
    if not isinstance(manifest, Manifest):
        raise ImageError("an index stands where an image is needed", where=where)
    return Image(manifest, load_object(store.read(manifest.config.digest), where))


def save(store: Store, config: bytes, layers: tuple[Descriptor, ...]) -> Result:
    """Store configuration and manifest of an image whose plain tar layers are there already."""
    kept = store.put(config, CONFIG)
    plain = tuple(Descriptor(LAYER, layer.digest, layer.size) for layer in layers)
    manifest = store.put(Manifest(kept, plain).to_bytes(), MANIFEST)
    return Result(manifest, (kept, *plain))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The image for one platform, and the ``documents`` that led to it: indexes, then its manifest."""

    manifest: Manifest
    documents: tuple[tuple[Descriptor, bytes], ...]

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's descriptor."""
        return self.documents[-1][0]

    @property
    def pin(self) -> ImagePin:
        """The image as a lock has it."""
        return ImagePin.of(self.descriptor, self.manifest)


def choose(
    origin: Origin, top: Descriptor, platform: Platform, where: str, limits: Limits = DEFAULT_LIMITS
) -> Chosen:
    """Follow indexes from ``top`` to the manifest for ``platform``; ImageError, at ``where``, if none is.

    ``limits`` say how long documents may be, and how many layers there may be.
    """
    documents: list[tuple[Descriptor, bytes]] = []
    for _ in range(_DEPTH):
        data = read_verified(origin, top, limits.document)
        documents.append((top, data))
        value = parse(data, top.media_type, f"{where}: {top.digest}")
        if isinstance(value, Manifest):
            require_image(value, f"{where}: {top.digest}")
            if len(value.layers) > limits.layers:
                raise limits.excess("layers", f"{len(value.layers)} layers", ImageError, where)
            return Chosen(value, tuple(documents))
        top = value.select(platform, where).descriptor
    raise ImageError(f"indexes are nested more than {_DEPTH} deep", where=where)


def diff_ids(config: bytes, manifest: Manifest, platform: Platform, where: str) -> tuple[Digest, ...]:
    """Give the digests of the layers' plain tars (config.md, ``rootfs.diff_ids``), one for each layer.

    Raises ImageError where the configuration is for another platform or does not fit the manifest.
    """
    value = load_object(config, f"{where}: configuration")
    found = read_platform(value, f"{where}: configuration")
    meant = found if found.variant else replace(found, variant=platform.variant)  # Docker leaves it out
    if not platform.runs(meant):
        raise PlatformError(f"the image is for {found}, not for {platform}", where=where)
    rootfs = value.get("rootfs")
    texts = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if texts is None and not manifest.layers:
        return ()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ImageError("the configuration has no list rootfs.diff_ids", where=where)
    if len(texts) != len(manifest.layers):
        message = f"the configuration has {len(texts)} layers, the manifest {len(manifest.layers)}"
        raise ImageError(message, where=where)
    try:
        return tuple(Digest.parse(text) for text in texts)
    except FormatError as error:
        raise ImageError(error.message, where=where) from error
