"""Signatures of images: where they lie, and what they look like.

Two forms are known, both by key.  *Simple signing*: each layer of a manifest is a payload that names the
image, its signature an annotation of the layer.  *Bundle*, which cosign 3 writes: a DSSE envelope around an
in-toto statement that names the image by digest alone.

https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md and BUNDLE_SPEC.md;
https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md;
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError, one_line
from linuxkit_rules.oci.manifest import Index, Manifest, Member, load_object, parse
from linuxkit_rules.oci.origin import Origin, read_verified
from linuxkit_rules.values import dataclass

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
"""Media type of a layer that is a payload."""

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""Media type of a layer that is a bundle, and the type of the artefact that has it."""

SIGNATURE_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
"""Type of the artefact by which cosign refers to an image, its layers being payloads."""

SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"

LIMIT = 256
"""How many signatures of one image are looked at, and how many artefacts refer to it."""

PAYLOAD_LIMIT = 256 << 10
"""The longest payload or bundle that is read, in bytes."""

_PAYLOAD_TYPE = "cosign container image signature"
_STATEMENT = "https://in-toto.io/Statement/v1"
_STATEMENT_TYPE = "application/vnd.in-toto+json"
_PREDICATE = "https://sigstore.dev/cosign/sign/v1"


class Place(Origin, Protocol):
    """A place where signatures can lie: a registry's repository, or the part of a layout that is one's."""

    def manifest(self, name: str) -> tuple[Descriptor, bytes] | None:
        """Give the manifest or index with the tag or digest ``name``, or None where there is none."""

    def referrers(self, subject: Digest, artifact_type: str = "") -> tuple[Member, ...]:
        """Give the manifests that refer to ``subject``, of one type or all."""

    def views(self) -> Iterator[Place]:
        """Give this place, and then those that may have what it has not, or newer."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A manifest that may hold signatures, and the place that has it.

    ``tag`` is that by which it was found, ``""`` for a referrer.
    """

    place: Place
    tag: str
    descriptor: Descriptor
    data: bytes

    def manifest(self) -> Manifest:
        """Read it; raise ImageError where it is malformed, or an index."""
        value = parse(self.data, self.descriptor.media_type, self.name)
        if isinstance(value, Index):
            raise ImageError("is an index, where a manifest of signatures is needed", where=self.name)
        return value

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.tag or str(self.descriptor.digest)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature says: it is for the image with one of these digests.

    ``identity`` is the reference under which it was signed, None where the form has no place for one.
    """

    digests: tuple[str, ...]
    identity: str | None


@dataclass(frozen=True, slots=True)
class SimpleSigning:
    """A payload and the signature over it, unverified; ``keyless`` where a certificate comes with it."""

    payload: bytes
    signatures: tuple[bytes, ...]
    keyless: bool = False

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        return self.payload

    def claim(self) -> Claim:
        """Read the payload (SIGNATURE_SPEC.md, "Simple Signing"); raise ImageError where it is malformed."""
        value = load_object(self.payload, "payload")
        critical = _members(value, {"critical"}, {"optional"})["critical"]
        parts = _members(critical, {"identity", "image", "type"})
        if parts["type"] != _PAYLOAD_TYPE:
            raise ImageError(f"it is of the type {one_line(str(parts['type']))}")
        image = _members(parts["image"], {"docker-manifest-digest"})["docker-manifest-digest"]
        identity = _members(parts["identity"], {"docker-reference"})["docker-reference"]
        return Claim((_text(image),), _text(identity))


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope out of a bundle, unverified; ``keyless`` where a certificate comes with it."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]
    keyless: bool = False

    @property
    def message(self) -> bytes:
        """The bytes that are signed: protocol.md, "Signature Definition"."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)

    def claim(self) -> Claim:
        """Read the statement; raise ImageError where it is malformed, or says something else of an image."""
        if self.payload_type != _STATEMENT_TYPE:
            raise ImageError(f"it is of the type {one_line(self.payload_type)}")
        value = load_object(self.payload, "statement")
        for name, wanted in (("_type", _STATEMENT), ("predicateType", _PREDICATE)):
            if value.get(name) != wanted:
                raise ImageError(f"its {name} is {one_line(str(value.get(name)))}")
        subjects = value.get("subject")
        digests = [_digest(item) for item in subjects] if isinstance(subjects, list) else []
        return Claim(tuple(digests), None)


Signature: TypeAlias = SimpleSigning | Envelope
"""A signature as it was found."""


def signature_tag(image: Digest) -> str:
    """Give the tag of the manifest with an image's signatures: SIGNATURE_SPEC.md, "Tag-based Discovery"."""
    return f"sha256-{image.hex}.sig"


def artefacts(place: Place, image: Digest) -> Iterator[Artefact]:
    """Find what may hold signatures of ``image``: under its tag first, then what refers to it.

    So it is in each view of the place, where what a view before it had does not suffice.  Nothing is asked
    for before it is needed.  Raises ImageError or NetworkError.
    """
    seen: set[Digest] = set()
    for view in place.views():
        for artefact in _artefacts(view, image):
            if artefact.descriptor.digest not in seen:
                seen.add(artefact.descriptor.digest)
                yield artefact


def _artefacts(place: Place, image: Digest) -> Iterator[Artefact]:
    tag = signature_tag(image)
    tagged = place.manifest(tag)
    if tagged:
        yield Artefact(place, tag, *tagged)
    for kind in (SIGNATURE_ARTIFACT, BUNDLE):
        for member in place.referrers(image, kind)[:LIMIT]:
            digest = member.descriptor.digest
            found = place.manifest(str(digest))
            if found and Digest.of(found[1]) == digest:
                yield Artefact(place, "", *found)


def layers(artefact: Artefact) -> Iterator[tuple[Descriptor, dict[str, str]]]:
    """Give those layers of an artefact that hold signatures, with their annotations; raise ImageError."""
    manifest = artefact.manifest()
    if len(manifest.layers) > LIMIT:
        raise ImageError(f"has {len(manifest.layers)} layers, more than the {LIMIT} that are read")
    values = load_object(artefact.data, artefact.name)["layers"]
    for layer, value in zip(manifest.layers, values, strict=True):
        annotations = value.get("annotations") or {}
        if layer.media_type in (SIMPLE_SIGNING, BUNDLE) and isinstance(annotations, dict):
            yield layer, annotations


def read_payload(place: Place, layer: Descriptor) -> bytes:
    """Give a payload or bundle, verified by its digest; raise ImageError, also where it is too long."""
    if layer.size > PAYLOAD_LIMIT:
        raise ImageError(f"a payload of {layer.size} bytes is longer than the {PAYLOAD_LIMIT} that are read")
    return read_verified(place, layer)


def signature(layer: Descriptor, annotations: dict[str, str], payload: bytes) -> Signature:
    """Read a signature, which is not verified by that; raise ImageError where it is malformed."""
    if layer.media_type == BUNDLE:
        return _bundle(payload)
    return SimpleSigning(payload, (_base64(annotations.get(SIGNATURE)),), CERTIFICATE in annotations)


def _bundle(data: bytes) -> Envelope:
    """Read a bundle: sigstore_bundle.proto in protobuf's JSON form."""
    value = load_object(data, "bundle")
    material, envelope = value.get("verificationMaterial"), value.get("dsseEnvelope")
    if not isinstance(material, dict) or not isinstance(envelope, dict):
        raise ImageError("the bundle has no DSSE envelope")
    given = envelope.get("signatures")
    if not isinstance(given, list) or not 0 < len(given) <= LIMIT:
        raise ImageError("the envelope has no signatures")
    values = tuple(_base64(item.get("sig") if isinstance(item, dict) else None) for item in given)
    keyless = "certificate" in material or "x509CertificateChain" in material
    return Envelope(_text(envelope.get("payloadType")), _base64(envelope.get("payload")), values, keyless)


def _members(value: Any, needed: set[str], more: frozenset[str] | set[str] = frozenset()) -> dict[str, Any]:
    """Check that ``value`` is an object with the members ``needed`` and no others but ``more``."""
    if not isinstance(value, dict) or not needed <= set(value) <= needed | more:
        raise ImageError(f"it needs {', '.join(sorted(needed))}, and has no place for more")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ImageError("a text is missing")
    return value


def _digest(subject: Any) -> str:
    digests = subject.get("digest") if isinstance(subject, dict) else None
    return f"sha256:{digests.get('sha256')}" if isinstance(digests, dict) else ""


def _base64(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("the signature is not base64") from None
