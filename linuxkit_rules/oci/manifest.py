"""Image manifests and indexes, and their Docker schema 2 forms: JSON to values and back.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md and image-index.md;
https://github.com/distribution/distribution/blob/v2.8.3/docs/spec/manifest-v2-2.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError, ImageError, PlatformError, one_line
from linuxkit_rules.values import dataclass

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_INDEX)
CONFIGS = (CONFIG, DOCKER_CONFIG)
LAYERS = frozenset(
    f"{base}{suffix}"
    for base, suffixes in (
        (LAYER, ("", "+gzip", "+zstd")),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", ("", "+gzip", "+zstd")),
        (DOCKER_LAYER, ("", ".gzip", ".zstd")),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar", ("", ".gzip")),
    )
    for suffix in suffixes
)
"""Media types of file system layers.  They say how a layer should be compressed; its first bytes decide."""

SIZE_LIMIT = 4 << 20
"""The longest manifest, index or configuration that is read, in bytes (registries take no longer ones)."""

_ATTESTATION = "vnd.docker.reference.type"
_VARIANTS = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
"""The variant that is meant where none is given."""

_NAMES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
}
"""Other names of architectures, with the variants that they imply."""

_LEVEL = re.compile(r"v?(\d{1,3})(?:\.(\d{1,3}))?")


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on; ``str()`` gives ``linux/arm64/v8``.

    Names and variants mean what they mean to containerd (its package ``platforms``).
    """

    os: str
    architecture: str
    variant: str = ""

    def runs(self, other: Platform) -> bool:
        """Whether an image for ``other`` runs on this platform: the same, or one of an earlier variant."""
        mine, its = self._normal(), other._normal()
        if mine[:2] != its[:2]:
            return False
        return mine[2] == its[2] or (mine[1] in _VARIANTS and () < its[3] < mine[3])

    def best(self, others: Iterable[Platform]) -> Platform | None:
        """Give the one that makes the most of this platform, the first of equals; None where none runs."""
        running = [other for other in others if self.runs(other)]
        return max(running, key=lambda other: other._normal()[3], default=None)

    def _normal(self) -> tuple[str, str, str, tuple[int, ...]]:
        """The names, the variant that is meant, and its level as numbers, ``()`` where it has none."""
        architecture, implied = _NAMES.get(self.architecture, (self.architecture, ""))
        variant = self.variant or implied or _VARIANTS.get(architecture, "")
        match = _LEVEL.fullmatch(variant)
        if match is None:
            return self.os, architecture, variant, ()
        level = (int(match[1]), int(match[2] or 0))
        return self.os, architecture, f"v{level[0]}.{level[1]}", level

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform: its configuration and its layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Give the JSON text, always the same for equal manifests."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        return canonical_json(_annotated(value, self.annotations))


@dataclass(frozen=True, slots=True)
class Member:
    """One line of an index: a manifest or a further index, and what it is for."""

    descriptor: Descriptor
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def is_image(self) -> bool:
        """Whether it is an image or an index: no attestation (provenance, SBOM), no other artefact."""
        if _ATTESTATION in self.annotations or self.platform == Platform("unknown", "unknown"):
            return False
        return self.descriptor.media_type in MANIFESTS + INDEXES

    def to_json(self) -> dict[str, Any]:
        """Give the JSON object."""
        value: dict[str, Any] = dict(self.descriptor.to_json())
        if self.platform:
            parts = {name: getattr(self.platform, name) for name in ("os", "architecture", "variant")}
            value["platform"] = {name: part for name, part in parts.items() if part}
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        return _annotated(value, self.annotations)


@dataclass(frozen=True, slots=True)
class Index:
    """Images for several platforms, or those of a layout."""

    members: tuple[Member, ...]
    media_type: str = INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Give the JSON text, always the same for equal indexes."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [member.to_json() for member in self.members],
        }
        return canonical_json(_annotated(value, self.annotations))

    def select(self, platform: Platform, where: str) -> Member:
        """Give the best member for ``platform``; raise PlatformError that lists what there is.

        A member that names no platform is taken where it is the only one: its configuration tells.
        """
        images = [member for member in self.members if member.is_image]
        best = platform.best(member.platform for member in images if member.platform)
        if best is not None:
            return next(member for member in images if member.platform == best)
        if len(images) == 1 and images[0].platform is None:
            return images[0]
        there = ", ".join(str(member.platform or "no platform") for member in images) or "none"
        message = f"there is no image for {platform}; there are: {one_line(there)}"
        raise PlatformError(message, where=where)


def parse(data: bytes, media_type: str | None, where: str) -> Manifest | Index:
    """Read a manifest or an index that was announced as ``media_type`` (None: not announced).

    ``where`` names the image in messages.  Raises ImageError where the document is malformed, is of another
    media type than announced, or could be read as both kinds.
    """
    value = load_object(data, where)
    if value.get("schemaVersion") != 2:
        raise ImageError("only manifests of schemaVersion 2 are known", where=where)
    kind = _media_type(value, media_type, where)
    if kind in INDEXES:
        _refuse(value, ("config", "layers", "fsLayers"), "an index", where)
        members = tuple(_member(item, where) for item in _list(value, "manifests", where))
        return Index(members, kind, _annotations(value, where))
    _refuse(value, ("manifests", "fsLayers"), "a manifest", where)
    config = descriptor(value.get("config"), where)
    layers = tuple(descriptor(item, where) for item in _list(value, "layers", where))
    return Manifest(config, layers, kind, _annotations(value, where))


def refers(data: bytes, subject: Digest, artifact_type: str, where: str) -> bool:
    """Whether the manifest ``data`` names ``subject`` as its own, and is of the type (``""``: of any).

    Raises ImageError where it is no JSON object.
    """
    value = load_object(data, where)
    named, config = value.get("subject"), value.get("config")
    if not isinstance(named, dict) or named.get("digest") != str(subject):
        return False
    kind = value.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    return artifact_type in ("", kind)


def require_image(manifest: Manifest, where: str) -> None:
    """Raise ImageError where ``manifest`` is that of something else than a container image."""
    if manifest.config.media_type not in CONFIGS:
        kind = one_line(manifest.config.media_type)
        raise ImageError(f"is no container image but {kind}", where=where)
    for layer in manifest.layers:
        if layer.media_type not in LAYERS:
            kind = one_line(layer.media_type)
            raise ImageError(f"layer {layer.digest} is of the unknown type {kind}", where=where)


def load_object(data: bytes, where: str) -> dict[str, Any]:
    """Read a JSON object without repeated names; raise ImageError where ``data`` is something else."""
    value = load_json(data, where)
    if not isinstance(value, dict):
        raise ImageError("is not a JSON object", where=where)
    return value


def load_json(data: bytes, where: str) -> Any:
    """Read a JSON text without repeated names in an object; raise ImageError where ``data`` is none."""
    if len(data) > SIZE_LIMIT:
        raise ImageError(f"a JSON document of {len(data)} bytes is too long", where=where)
    try:
        return json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"is not the JSON it should be: {error}", where=where) from error


def descriptor(value: Any, where: str) -> Descriptor:
    """Read a descriptor inside the document ``where``; raise ImageError where it is malformed."""
    try:
        return Descriptor.from_json(value)
    except FormatError as error:
        raise ImageError(error.message, where=where) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is given twice in one object")
    return value


def _media_type(value: dict[str, Any], announced: str | None, where: str) -> str:
    """Settle the document's media type: its own, the announced one, or by its shape; all must agree."""
    own = value.get("mediaType")
    if own is not None and announced is not None and own != announced:
        message = f"was announced as {one_line(announced)}, but says that it is {one_line(str(own))}"
        raise ImageError(message, where=where)
    kind = own or announced or (INDEX if "manifests" in value else MANIFEST)
    if kind not in MANIFESTS + INDEXES:
        raise ImageError(f"{one_line(str(kind))} is no type of an image manifest or index", where=where)
    return str(kind)


def _refuse(value: dict[str, Any], names: tuple[str, ...], kind: str, where: str) -> None:
    """Refuse a document that another reader could take for the other kind (CVE-2021-41190)."""
    for name in names:
        if name in value:
            raise ImageError(f"{kind} cannot have {name!r}", where=where)


def _list(value: dict[str, Any], name: str, where: str) -> list[Any]:
    items = value.get(name)
    if not isinstance(items, list):
        raise ImageError(f"{name!r} must be a list", where=where)
    return items


def _member(value: Any, where: str) -> Member:
    target = descriptor(value, where)
    platform = value.get("platform")
    found = None if platform is None else read_platform(platform, where)
    artifact_type = value.get("artifactType") or ""
    if not isinstance(artifact_type, str):
        raise ImageError("an artifactType must be text", where=where)
    return Member(target, found, _annotations(value, where), artifact_type)


def read_platform(value: Any, where: str) -> Platform:
    """Read ``os``, ``architecture`` and ``variant`` of an object; ImageError where they are not text."""
    if not isinstance(value, dict):
        raise ImageError("a platform must be an object", where=where)
    parts = [value.get(name) or "" for name in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) for part in parts) or not (parts[0] and parts[1]):
        raise ImageError("a platform needs os and architecture as text", where=where)
    return Platform(*parts)


def _annotations(value: dict[str, Any], where: str) -> dict[str, str]:
    found = value.get("annotations") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ImageError("annotations must be an object of texts", where=where)
    return found


def _annotated(value: dict[str, Any], annotations: Mapping[str, str]) -> dict[str, Any]:
    return {**value, "annotations": dict(annotations)} if annotations else value
