"""Public keys: what is taken for one, and what a signature by it is."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)

from linuxkit_rules.errors import FormatError
from linuxkit_rules.oci.publickey import _ORDER_8, parse_key
from tests.signing import PRIVATE, Signer, b64, signer

MESSAGE = b"a payload"
PAIRS: dict[str, Callable[[], Signer]] = {
    "p256": lambda: Signer(ec.generate_private_key(ec.SECP256R1())),
    "p384": lambda: Signer(ec.generate_private_key(ec.SECP384R1())),
    "p521": lambda: Signer(ec.generate_private_key(ec.SECP521R1())),
    "ed25519": lambda: Signer(ed25519.Ed25519PrivateKey.generate()),
    "rsa": lambda: Signer(rsa.generate_private_key(65537, 2048)),
}

FIELD = (1 << 255) - 19
SMALL = [0, 1, FIELD - 1, FIELD, FIELD + 1, _ORDER_8, FIELD - _ORDER_8]
"""y of the points of order 1, 2, 4 and 8, and other ways to write two of them."""


@pytest.mark.parametrize("kind", PAIRS)
def test_signatures_of_every_kind(kind: str) -> None:
    pair, other = PAIRS[kind](), PAIRS[kind]()
    good = pair.sign(MESSAGE)
    assert pair.key.verifies(good, MESSAGE)
    assert not other.key.verifies(good, MESSAGE)
    assert not pair.key.verifies(good, MESSAGE + b" ")
    for bad in (b"", b"\0", good[:-1], good + b"\0", bytes(len(good)), good[::-1], b"x" * 100_000):
        assert not pair.key.verifies(bad, MESSAGE)


def test_no_bit_may_flip(count: Callable[..., None]) -> None:
    pair = signer()
    good = pair.sign(MESSAGE)
    for text, other in ((good, MESSAGE), (MESSAGE, good)):
        for bit in range(len(text) * 8):
            flipped = bytearray(text)
            flipped[bit // 8] ^= 1 << bit % 8
            given = (bytes(flipped), other) if text is good else (other, bytes(flipped))
            assert not pair.key.verifies(*given), bit
            count("flipped bits refused")


@pytest.mark.parametrize(
    ("kind", "algorithm", "taken"),
    [
        ("p256", hashes.SHA384(), False),
        ("p256", hashes.SHA224(), False),
        ("p384", hashes.SHA384(), True),
        ("p384", hashes.SHA512(), False),
        ("p521", hashes.SHA512(), True),
        ("p521", hashes.SHA384(), False),
        ("rsa", hashes.SHA512(), False),
    ],
)
def test_hashes_are_those_of_the_key(kind: str, algorithm: hashes.HashAlgorithm, taken: bool) -> None:
    pair = PAIRS[kind]()
    assert pair.key.verifies(pair.sign(MESSAGE, algorithm), MESSAGE) == taken


def test_zeros_and_edges_are_no_ecdsa_signature() -> None:
    pair = signer()
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    for r in (0, 1, order - 1, order, order + 1):
        for s in (0, 1, order - 1, order, order + 1):
            assert not pair.key.verifies(utils.encode_dss_signature(r, s), MESSAGE)


def test_equal_keys_are_one_whatever_their_names_and_line_ends() -> None:
    pair = signer()
    same = parse_key(pair.pem.replace(b"\n", b"\r\n"), "another.pub")
    assert same == pair.key
    assert {same, pair.key} == {pair.key}


@pytest.mark.parametrize("y", SMALL)
@pytest.mark.parametrize("sign", [0, 1])
def test_ed25519_keys_of_small_order_are_refused(y: int, sign: int) -> None:
    """Without the check anyone could sign for them: the identity with s = 0 is a signature by chance."""
    raw = (y | sign << 255).to_bytes(32, "little")
    with pytest.raises(FormatError, match="small order|malformed"):
        parse_key(pem(raw), "a.pub")
    forged = b"\1" + bytes(63)
    bare = ed25519.Ed25519PublicKey.from_public_bytes(raw)
    found = [message for message in range(256) if holds(bare, forged, b"%d" % message)]
    assert found or y == FIELD or y == FIELD + 1 or sign


def holds(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except Exception:
        return False
    return True


def pem(raw: bytes) -> bytes:
    """An Ed25519 key (RFC 8410, section 4) of these 32 bytes, whatever they are."""
    der = bytes.fromhex("302a300506032b6570032100") + raw
    assert load_der_public_key(der)
    return b"-----BEGIN PUBLIC KEY-----\n%b\n-----END PUBLIC KEY-----\n" % b64(der).encode()


def private(pair: Signer) -> bytes:
    return pair.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def spki(key: object) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


def small_rsa(bits: int) -> bytes:
    return spki(rsa.generate_private_key(65537, bits).public_key())


def exponent_1() -> bytes:
    """An RSA key by which every message signs itself."""
    number = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    modulus = b"\x02\x82\x01\x01\0" + number.to_bytes(256, "big")
    inner = b"\x30\x82\x01\x08" + modulus + b"\x02\x01\x01"
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    outer = algorithm + b"\x03\x82\x01\x0d\0" + inner
    der = b"\x30\x82" + len(outer).to_bytes(2, "big") + outer
    return b"-----BEGIN PUBLIC KEY-----\n%b\n-----END PUBLIC KEY-----\n" % b64(der).encode()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "holds no public key"),
        (lambda: b"ssh-ed25519 AAAA", "holds no public key"),
        (lambda: b"\xff" * 200, "holds no public key"),
        (lambda: b"x" * 70_000, "is longer than"),
        (lambda: signer().pem * 2, "holds 2 keys"),
        (lambda: signer().pem[:60] + signer().pem[90:], "malformed"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "malformed"),
        (lambda: private(signer()), "holds a private key"),
        (lambda: PRIVATE, "holds a private key"),
        (lambda: signer().pem + private(signer()), "holds a private key"),
        (lambda: signer().pem.replace(b"PUBLIC KEY", b"CERTIFICATE"), "holds a certificate"),
        (lambda: small_rsa(1024), "1024 bits"),
        (exponent_1, "malformed"),
        (lambda: spki(ec.generate_private_key(ec.SECP256K1()).public_key()), "secp256k1"),
        (lambda: spki(ec.generate_private_key(ec.SECP224R1()).public_key()), "secp224r1"),
        (lambda: spki(x25519.X25519PrivateKey.generate().public_key()), "signs no images"),
    ],
)
def test_what_is_no_key_that_signs_images(make: Callable[[], bytes], message: str) -> None:
    data = make()
    with pytest.raises(FormatError, match=message) as caught:
        parse_key(data, "a.pub")
    secret = b"".join(data.split(b"\n")[1:3])[:24].decode("latin-1")
    assert not secret or secret not in str(caught.value)
