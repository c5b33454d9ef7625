"""Public keys that sign images: PEM files as ``cosign generate-key-pair`` and openssl write them.

PEM: RFC 7468, section 13; SubjectPublicKeyInfo: RFC 5280, section 4.1.2.7.  The algorithms are those of
https://github.com/sigstore/sigstore/blob/main/pkg/signature/algorithm_registry.go: RSA PKCS #1 v1.5 with
SHA-256; ECDSA with the hash of the curve's size, or with SHA-256, as cosign had it for all before version 3;
Ed25519.  Ed25519ph, which no library here knows, is not among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING

from linuxkit_rules.errors import FormatError, one_line
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

SIZE_LIMIT = 64 << 10
"""The longest file that is read as a key, in bytes."""

RSA_BITS = (2048, 8192)
"""The shortest and the longest modulus of an RSA key."""

_LABEL = re.compile(rb"-----BEGIN ([^-\r\n]{1,64})-----")
_PUBLIC = (b"PUBLIC KEY", b"RSA PUBLIC KEY")

_CURVES = {
    "secp256r1": ("SHA256",),
    "secp384r1": ("SHA384", "SHA256"),
    "secp521r1": ("SHA512", "SHA256"),
}
"""The hashes that signatures on each curve are made with."""

_FIELD = (1 << 255) - 19
_ORDER_8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL = frozenset((0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8))
"""The y coordinates of Ed25519's points of order 1, 2, 4 and 8: signatures by these can be made by anyone."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that may sign; ``der`` is its SubjectPublicKeyInfo, ``name`` what messages call it."""

    der: bytes
    name: str = field(default="key", compare=False)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is one by this key over ``message``."""
        from cryptography.exceptions import InvalidSignature

        for attempt in _attempts(self.der, signature, message):
            try:
                attempt()
            except InvalidSignature:
                continue
            return True
        return False


def parse_key(data: bytes, name: str) -> PublicKey:
    """Read a PEM file that holds one public key.

    Raises FormatError where it holds something else, a kind of key that signs no images, or one so weak that
    others can sign for it.  No message repeats what the file holds.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    _check_labels(data)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise FormatError("holds a public key that is malformed or of an unknown kind") from None
    _check_strength(key)
    return PublicKey(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), name)


def _check_labels(data: bytes) -> None:
    if len(data) > SIZE_LIMIT:
        raise FormatError(f"is longer than {SIZE_LIMIT} bytes, which no public key is")
    labels = _LABEL.findall(data)
    if any(b"PRIVATE" in label for label in labels):
        hint = "a private key signs and stays with whoever signs: cosign public-key --key cosign.key"
        raise FormatError("holds a private key, where a public key is needed", hint=hint)
    if b"CERTIFICATE" in labels:
        hint = "openssl x509 -pubkey -noout -in FILE gives its key"
        raise FormatError("holds a certificate, where a public key is needed", hint=hint)
    if len(labels) != 1 or labels[0] not in _PUBLIC:
        what = f"{len(labels)} keys" if labels and set(labels) <= {*_PUBLIC} else "no public key"
        hint = "a file is one key in PEM, -----BEGIN PUBLIC KEY-----, as cosign.pub is"
        raise FormatError(f"holds {what}", hint=hint)


def _check_strength(key: PublicKeyTypes) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, rsa.RSAPublicKey):
        if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
            shortest, longest = RSA_BITS
            raise FormatError(
                f"holds an RSA key of {key.key_size} bits; it must have {shortest} to {longest}"
            )
    elif isinstance(key, ed25519.Ed25519PublicKey):
        y = int.from_bytes(key.public_bytes_raw(), "little") & ((1 << 255) - 1)
        if y % _FIELD in _SMALL:
            raise FormatError("holds an Ed25519 key of small order, for which anyone can sign")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        hint = "ECDSA on P-256, P-384 or P-521, Ed25519, or RSA"
        raise FormatError(f"holds a key of the kind {one_line(kind)}, which signs no images", hint=hint)


def _attempts(der: bytes, signature: bytes, message: bytes) -> Iterator[Callable[[], None]]:
    """Give each way to verify a signature by the key ``der``; they raise InvalidSignature."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(der)
    if isinstance(key, rsa.RSAPublicKey):
        yield partial(key.verify, signature, message, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        yield partial(key.verify, signature, message)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        for name in _CURVES[key.curve.name]:
            kind: hashes.HashAlgorithm = getattr(hashes, name)()
            yield partial(key.verify, signature, message, ec.ECDSA(kind))
