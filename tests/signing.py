"""Keys and signatures made for tests, in the forms that cosign gives them."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.oci.manifest import MANIFEST, Manifest, parse
from linuxkit_rules.oci.publickey import PublicKey, parse_key
from linuxkit_rules.oci.signature import BUNDLE, SIGNATURE, SIGNATURE_ARTIFACT, SIMPLE_SIGNING
from tests.images import Blobs

PRIVATE = b"""\
-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6
-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
"""
"""How a file begins that ``cosign generate-key-pair`` writes beside cosign.pub."""

STATEMENT = "application/vnd.in-toto+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"

Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Signer:
    """A pair of keys."""

    private: Private
    name: str = "cosign.pub"

    @property
    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key(self) -> PublicKey:
        return parse_key(self.pem, self.name)

    def sign(self, message: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        kind = algorithm or hashes.SHA256()
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), kind)
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        return self.private.sign(message, ec.ECDSA(kind))


def signer(name: str = "cosign.pub") -> Signer:
    """A pair as cosign makes it."""
    return Signer(ec.generate_private_key(ec.SECP256R1()), name)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def payload(image: Digest, identity: str, /, **changes: Any) -> bytes:
    """What simple signing signs."""
    critical = {
        "identity": {"docker-reference": identity},
        "image": {"docker-manifest-digest": str(image)},
        "type": "cosign container image signature",
        **changes,
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def statement(image: Digest, **changes: Any) -> bytes:
    """What cosign 3 signs."""
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": image.hex}}],
        "predicateType": SIGN,
        "predicate": {},
        **changes,
    }
    return json.dumps(value).encode()


def bundle(signed: bytes, by: Signer, kind: str = STATEMENT, **changes: Any) -> bytes:
    """A bundle of a statement."""
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(signed), signed)
    envelope = {"payload": b64(signed), "payloadType": kind, "signatures": [{"sig": b64(by.sign(message))}]}
    value = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": []},
        "dsseEnvelope": envelope,
        **changes,
    }
    return json.dumps(value).encode()


@dataclass
class Layer:
    """One layer of a manifest with signatures; ``described`` is what its descriptor is made of."""

    data: bytes
    annotations: dict[str, str] = field(default_factory=dict)
    media_type: str = SIMPLE_SIGNING
    described: bytes | None = None
    size: int | None = None


def signed(image: Digest, identity: str, by: Signer, /, **changes: Any) -> Layer:
    """A signature as ``cosign sign`` writes it."""
    data = payload(image, identity, **changes)
    return Layer(data, {SIGNATURE: b64(by.sign(data))})


def manifest(
    blobs: Blobs, layers: list[Layer], subject: Descriptor | None = None, kind: str = ""
) -> Descriptor:
    """A manifest with signatures; with a ``subject`` it refers to that."""
    described = []
    for layer in layers:
        found = blobs.add(layer.data, layer.media_type)
        if layer.described is not None:
            blobs.data[Digest.of(layer.described)] = layer.data
            found = Descriptor(layer.media_type, Digest.of(layer.described), len(layer.described))
        value = dict(found.to_json()) | ({"size": layer.size} if layer.size else {})
        described.append({**value, "annotations": layer.annotations} if layer.annotations else value)
    config = blobs.add(b"{}", kind or "application/vnd.oci.image.config.v1+json")
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.to_json(),
        "layers": described,
    }
    if subject:
        document |= {"artifactType": kind, "subject": subject.to_json()}
    return blobs.add(json.dumps(document).encode(), MANIFEST)


@dataclass
class Signed:
    """An image with what may hold its signatures, to be written as a layout."""

    name: str
    image: Descriptor
    blobs: Blobs
    members: list[tuple[Descriptor, dict[str, str]]] = field(default_factory=list)

    @property
    def repository(self) -> str:
        return self.name.rpartition(":")[0]

    @property
    def tag(self) -> str:
        return f"sha256-{self.image.digest.hex}.sig"

    def tagged(self, *layers: Layer, image: Digest | None = None) -> None:
        """Add a manifest under the image's tag for signatures."""
        tag = f"sha256-{image.hex}.sig" if image else self.tag
        self.members.append((manifest(self.blobs, list(layers)), {REF_NAME: f"{self.repository}:{tag}"}))

    def referring(self, *layers: Layer, kind: str = SIGNATURE_ARTIFACT) -> Descriptor:
        """Add a manifest that refers to the image."""
        found = manifest(self.blobs, list(layers), self.image, kind)
        self.members.append((found, {}))
        return found

    def write(self, folder: Path) -> Path:
        """Write the layout."""
        named = [(self.image, {REF_NAME: self.name}), *self.members]
        for name, data in self.blobs.files(*named).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    def layers(self) -> list[Digest]:
        """The digests of the image's own layers and configuration."""
        value = parse(self.blobs.data[self.image.digest], self.image.media_type, "test")
        assert isinstance(value, Manifest)
        return [item.digest for item in (value.config, *value.layers)]


US, THEM = signer("us.pub"), signer("them.pub")
