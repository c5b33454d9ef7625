"""Signatures of images: the forms that count, and whatever an attacker may put in their place."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import SignatureError
from linuxkit_rules.oci.layout import REF_NAME, Layout, LayoutRepository
from linuxkit_rules.oci.manifest import INDEX, MANIFEST
from linuxkit_rules.oci.publickey import parse_key
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.signature import (
    BUNDLE,
    CERTIFICATE,
    LIMIT,
    PAYLOAD_LIMIT,
    SIGNATURE,
    SIGNATURE_ARTIFACT,
    Artefact,
    Claim,
    SimpleSigning,
    artefacts,
    signature,
)
from linuxkit_rules.oci.verify import Requirement, verify
from tests.images import Blobs, tar
from tests.signing import Layer, Signed, Signer, b64, bundle, payload, signed, signer, statement

NAME = "registry.example/acme/app:1"
REPOSITORY = "registry.example/acme/app"
OTHER = Digest.of(b"another image")
US, THEM = signer("us.pub"), signer("them.pub")
Count = Callable[..., None]


def image() -> Signed:
    blobs = Blobs()
    return Signed(NAME, blobs.image([tar(a=b"1")]), blobs)


def place(made: Signed, folder: Path) -> LayoutRepository:
    return LayoutRepository(Layout.at(made.write(folder)), Reference.parse(NAME))


def check(made: Signed, folder: Path, requirement: Requirement | None = None) -> list[Digest]:
    """Verify; give the digests of the evidence."""
    wanted = requirement or Requirement((US.key,), repository=REPOSITORY)
    found = verify(place(made, folder), made.image.digest, wanted)
    assert all(Digest.of(data) == item.digest for item, data in found)
    return [item.digest for item, _ in found]


def ours(made: Signed, **changes: object) -> Layer:
    return signed(made.image.digest, REPOSITORY, US, **changes)


def test_a_signature_under_the_tag(tmp_path: Path) -> None:
    made = image()
    made.tagged(ours(made))
    manifest, signed_bytes = check(made, tmp_path)
    assert manifest == made.members[0][0].digest
    assert made.blobs.data[signed_bytes] == payload(made.image.digest, REPOSITORY)


def test_a_signature_that_refers_to_the_image(tmp_path: Path) -> None:
    made = image()
    made.referring(ours(made))
    assert len(check(made, tmp_path)) == 2


def of_cosign_3(made: Signed, by: Signer = US, **changes: object) -> Layer:
    return Layer(bundle(statement(made.image.digest, **changes), by), {}, BUNDLE)


def test_a_bundle_counts_where_no_repository_is_asked_for(tmp_path: Path) -> None:
    made = image()
    made.referring(of_cosign_3(made), kind=BUNDLE)
    assert len(check(made, tmp_path, Requirement((US.key,)))) == 2
    with pytest.raises(SignatureError, match=r"names no repository \(identity: any takes it\)"):
        check(made, tmp_path)


def test_a_good_signature_among_bad_ones(tmp_path: Path) -> None:
    made = image()
    made.tagged(Layer(b"{}", {SIGNATURE: "?"}), signed(made.image.digest, REPOSITORY, THEM))
    made.referring(ours(made))
    assert len(check(made, tmp_path)) == 2
    again = image()
    again.tagged(Layer(b"{}", {SIGNATURE: b64(b"x")}), ours(again), signed(again.image.digest, "x", THEM))
    assert len(check(again, tmp_path / "2")) == 2


@pytest.mark.parametrize(
    "identity", [REPOSITORY, NAME, f"{REPOSITORY}@{OTHER}", "Registry.Example:443/acme/app"]
)
def test_a_repository_may_be_named_with_a_tag(tmp_path: Path, identity: str) -> None:
    made = image()
    made.tagged(signed(made.image.digest, identity, US))
    check(made, tmp_path)


def test_docker_hub_has_two_names(tmp_path: Path) -> None:
    made = image()
    made.tagged(signed(made.image.digest, "index.docker.io/library/redis", US))
    check(made, tmp_path, Requirement((US.key,), repository="docker.io/library/redis"))


def test_a_number_of_keys(tmp_path: Path) -> None:
    made = image()
    third = signer("third.pub")
    made.tagged(ours(made), ours(made))
    made.referring(signed(made.image.digest, REPOSITORY, THEM))
    keys = (US.key, THEM.key, third.key)
    assert len(check(made, tmp_path, Requirement(keys, 2, REPOSITORY))) == 3, "they share their payload"
    with pytest.raises(SignatureError, match=r"not signed by 3 of us.pub, them.pub, third.pub: only 2 of"):
        check(made, tmp_path, Requirement(keys, 3, REPOSITORY))


Spoil = Callable[[Signed], None]


def other_key(made: Signed) -> None:
    made.tagged(signed(made.image.digest, REPOSITORY, THEM))


def other_image(made: Signed) -> None:
    made.tagged(signed(OTHER, REPOSITORY, US))


def under_another_tag(made: Signed) -> None:
    made.tagged(ours(made), image=OTHER)


def other_repository(made: Signed) -> None:
    made.tagged(signed(made.image.digest, "registry.example/acme/other", US))


def other_registry(made: Signed) -> None:
    made.tagged(signed(made.image.digest, "acme/app", US))


def no_identity(made: Signed) -> None:
    made.tagged(signed(made.image.digest, "", US))


def altered_payload(made: Signed) -> None:
    layer = ours(made)
    made.tagged(replace(layer, data=layer.data.replace(b"null", b"true")))


def signature_over_other_bytes(made: Signed) -> None:
    layer = ours(made)
    made.tagged(replace(layer, annotations={SIGNATURE: b64(US.sign(layer.data + b"\n"))}))


def lying_digest(made: Signed) -> None:
    layer = ours(made)
    made.tagged(replace(layer, described=layer.data[:-1] + b" "))


def lying_size(made: Signed) -> None:
    made.tagged(replace(ours(made), size=7))


def missing_payload(made: Signed) -> None:
    layer = ours(made)
    made.tagged(layer)
    del made.blobs.data[Digest.of(layer.data)]


def wrong_type(made: Signed) -> None:
    made.tagged(ours(made, type="atomic container signature"))


def wrong_media_type(made: Signed) -> None:
    made.tagged(replace(ours(made), media_type="application/vnd.dev.cosign.simplesigning.v2+json"))


def by_us(made: Signed, data: bytes) -> None:
    made.tagged(Layer(data, {SIGNATURE: b64(US.sign(data))}))


def twice_in_one_object(made: Signed) -> None:
    """The second digest is the one that a lenient reader takes."""
    digest = f'"docker-manifest-digest":"{OTHER}"'.encode()
    good = payload(made.image.digest, REPOSITORY)
    by_us(made, good.replace(b'"docker-manifest-digest"', digest + b',"docker-manifest-digest"'))


def more_in_critical(made: Signed) -> None:
    by_us(made, payload(made.image.digest, REPOSITORY, expires="never"))


def no_json(made: Signed) -> None:
    by_us(made, b"\x00\x01")


def deep_json(made: Signed) -> None:
    by_us(made, b"[" * 100_000 + b"]" * 100_000)


def no_object(made: Signed) -> None:
    by_us(made, b'{"critical": null}')


def digest_is_no_text(made: Signed) -> None:
    by_us(made, payload(made.image.digest, REPOSITORY, image={"docker-manifest-digest": 7}))


def no_base64(made: Signed) -> None:
    made.tagged(replace(ours(made), annotations={SIGNATURE: "@" * 96}))


def spaced_base64(made: Signed) -> None:
    layer = ours(made)
    made.tagged(replace(layer, annotations={SIGNATURE: layer.annotations[SIGNATURE] + "\n"}))


def no_signature(made: Signed) -> None:
    made.tagged(replace(ours(made), annotations={}))


def zero_signature(made: Signed) -> None:
    made.tagged(replace(ours(made), annotations={SIGNATURE: b64(bytes.fromhex("3006020100020100"))}))


def huge_payload(made: Signed) -> None:
    by_us(made, payload(made.image.digest, REPOSITORY) + b" " * PAYLOAD_LIMIT)


def ten_thousand_layers(made: Signed) -> None:
    made.tagged(*[ours(made)] * 10_000)


def an_index(made: Signed) -> None:
    made.tagged(ours(made))
    found, names = made.members.pop()
    text = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [found.to_json()]}
    made.members.append((made.blobs.add(json.dumps(text).encode(), INDEX), names))


def junk_manifest(made: Signed) -> None:
    found = made.blobs.add(b"{", MANIFEST)
    made.members.append((found, {REF_NAME: f"{REPOSITORY}:{made.tag}"}))


def annotations_of_numbers(made: Signed) -> None:
    made.tagged(replace(ours(made), annotations={SIGNATURE: 7}))  # type: ignore[dict-item]


def nothing_at_all(made: Signed) -> None:
    return


def bundle_of(made: Signed, data: bytes) -> None:
    made.referring(Layer(data, {}, BUNDLE), kind=BUNDLE)


def bundle_by_another_key(made: Signed) -> None:
    made.referring(of_cosign_3(made, THEM), kind=BUNDLE)


def bundle_for_another_image(made: Signed) -> None:
    bundle_of(made, bundle(statement(OTHER), US))


def bundle_with_another_predicate(made: Signed) -> None:
    """An attestation of ours says something of the image, perhaps that it has a hole."""
    made.referring(of_cosign_3(made, predicateType="https://slsa.dev/provenance/v1"), kind=BUNDLE)


def bundle_with_another_statement(made: Signed) -> None:
    made.referring(of_cosign_3(made, _type="https://in-toto.io/Statement/v0.1"), kind=BUNDLE)


def bundle_of_another_type(made: Signed) -> None:
    bundle_of(made, bundle(statement(made.image.digest), US, "application/json"))


def bundle_whose_type_is_changed(made: Signed) -> None:
    """The type is signed with the payload."""
    good = json.loads(bundle(statement(made.image.digest), US, "application/json"))
    good["dsseEnvelope"]["payloadType"] = "application/vnd.in-toto+json"
    bundle_of(made, json.dumps(good).encode())


def bundle_over_the_bare_payload(made: Signed) -> None:
    good = json.loads(bundle(statement(made.image.digest), US))
    bare = base64.b64decode(good["dsseEnvelope"]["payload"])
    good["dsseEnvelope"]["signatures"][0]["sig"] = b64(US.sign(bare))
    bundle_of(made, json.dumps(good).encode())


def bundle_without_subject(made: Signed) -> None:
    made.referring(of_cosign_3(made, subject=[]), kind=BUNDLE)


def bundle_with_odd_subjects(made: Signed) -> None:
    odd = [None, {}, {"digest": 7}, {"digest": {"sha512": made.image.digest.hex}}]
    made.referring(of_cosign_3(made, subject=odd), kind=BUNDLE)


def bundle_without_signatures(made: Signed) -> None:
    good = json.loads(bundle(statement(made.image.digest), US))
    good["dsseEnvelope"]["signatures"] = []
    bundle_of(made, json.dumps(good).encode())


def bundle_without_envelope(made: Signed) -> None:
    bundle_of(made, bundle(statement(made.image.digest), US, dsseEnvelope=None))


BAD: dict[Spoil, str] = {
    nothing_at_all: "it has no signatures",
    other_key: "1 signature is by another key",
    other_image: "the signature by us.pub is for another image",
    under_another_tag: "it has no signatures",
    other_repository: "is for registry.example/acme/other (identity: any takes it)",
    other_registry: "is for acme/app (identity",
    no_identity: "is for  (identity",
    altered_payload: "1 signature is by another key",
    signature_over_other_bytes: "1 signature is by another key",
    lying_digest: "has the wrong content",
    lying_size: "is longer than the 7 bytes it should have",
    missing_payload: "is missing",
    wrong_type: "it is of the type atomic container signature",
    wrong_media_type: "it has no signatures",
    twice_in_one_object: "a name is given twice in one object",
    more_in_critical: "it needs identity, image, type",
    no_json: "is not the JSON it should be",
    deep_json: "is not the JSON it should be",
    no_object: "it needs identity, image, type",
    digest_is_no_text: "a text is missing",
    no_base64: "the signature is not base64",
    spaced_base64: "the signature is not base64",
    no_signature: "a text is missing",
    zero_signature: "1 signature is by another key",
    huge_payload: f"is longer than the {PAYLOAD_LIMIT} that are read",
    ten_thousand_layers: f"has 10000 layers, more than the {LIMIT} that are read",
    an_index: "is an index, where a manifest of signatures is needed",
    junk_manifest: "is not the JSON it should be",
    annotations_of_numbers: "a text is missing",
    bundle_by_another_key: "1 signature is by another key",
    bundle_for_another_image: "the signature by us.pub is for another image",
    bundle_with_another_predicate: "its predicateType is https://slsa.dev/provenance/v1",
    bundle_with_another_statement: "its _type is https://in-toto.io/Statement/v0.1",
    bundle_of_another_type: "it is of the type application/json",
    bundle_whose_type_is_changed: "1 signature is by another key",
    bundle_over_the_bare_payload: "1 signature is by another key",
    bundle_without_subject: "is for another image",
    bundle_with_odd_subjects: "is for another image",
    bundle_without_signatures: "the envelope has no signatures",
    bundle_without_envelope: "the bundle has no DSSE envelope",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_what_is_no_signature(tmp_path: Path, spoil: Spoil, count: Count) -> None:
    """It is refused for what is wrong with it, and a good signature beside it still counts."""
    made = image()
    spoil(made)
    wanted = Requirement((US.key,), repository="" if "bundle" in spoil.__name__ else REPOSITORY)
    with pytest.raises(SignatureError) as caught:
        check(made, tmp_path, wanted)
    assert str(caught.value).startswith(f"{made.image.digest} is not signed by us.pub: ")
    assert BAD[spoil] in str(caught.value)
    assert "\n" not in str(caught.value)
    count("bad signatures refused")
    if made.members:
        made.referring(ours(made))
        check(made, tmp_path / "beside", wanted)


def test_keyless_signatures_are_told_as_such(tmp_path: Path) -> None:
    made = image()
    layer = signed(made.image.digest, REPOSITORY, THEM)
    made.tagged(replace(layer, annotations={**layer.annotations, CERTIFICATE: "-----BEGIN"}))
    data = bundle(statement(made.image.digest), THEM, verificationMaterial={"certificate": {}})
    made.referring(Layer(data, {}, BUNDLE), kind=BUNDLE)
    with pytest.raises(SignatureError, match="2 signatures are keyless, by a certificate"):
        check(made, tmp_path)


def test_more_signatures_than_are_read(tmp_path: Path) -> None:
    made = image()
    theirs = signed(made.image.digest, REPOSITORY, THEM)
    made.tagged(*[theirs] * LIMIT)
    made.referring(ours(made))
    with pytest.raises(SignatureError, match=f"{LIMIT} signatures are by another key; .*more than {LIMIT}"):
        check(made, tmp_path)


def test_one_message_tells_of_many_faults(tmp_path: Path) -> None:
    made = image()
    made.tagged(*[Layer(b"{}", {SIGNATURE: "?"}) for _ in range(9)])
    with pytest.raises(SignatureError, match="; and 6 faults more$"):
        check(made, tmp_path)


def test_everything_that_may_sign_is_listed_for_who_copies_it(tmp_path: Path) -> None:
    made = image()
    layer = ours(made)
    made.tagged(layer)
    kinds = (SIGNATURE_ARTIFACT, BUNDLE)
    referring = [made.referring(layer, kind=kind).digest for kind in kinds]
    found = list(artefacts(place(made, tmp_path), made.image.digest))
    assert [item.tag for item in found] == [made.tag, "", ""]
    assert [item.descriptor.digest for item in found[1:]] == referring
    assert all(Digest.of(layer.data) == item.manifest().layers[0].digest for item in found)
    assert isinstance(found[0], Artefact)


KEY = b"""\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFNLqFhf4fiN6o/glAuYnq2jYUeL0
vRuLu/z39pmbVwS9ff5AYnlwaP9sxREajdLY9ynM6G1sy6AAmb7Z63TsLg==
-----END PUBLIC KEY-----
"""
IMAGE = "sha256:634a8f35b5f16dcf4aaa0822adc0b1964bb786fca12f6831de8ddc45e5986a00"
IDENTITY = "192.168.64.2:5000/cosign-signed-single-sample"
RECORDED = "MEYCIQDmtamqYPjMg81nqeBhptrPls44aA/r7PwLmspINJY4MwIhANKRpqe2E9UCBtGFdPoz/8jAbaQm4uP4h+IpwKTE6ClR"
UNKNOWN = "MEQCIH9Tuia53Kf88YlZ5GJY6vTykz3q69SW7Z2+ZUaWJXCYAiBL3pO+RsiJLHywzdbpQmMSjrzACeDs6MhT5P8GQw2jAw=="


def test_a_signature_that_cosign_made() -> None:
    """Recorded in signature/fixtures of https://github.com/containers/image (dir-img-cosign-valid)."""
    data = payload(Digest.parse(IMAGE), IDENTITY)
    key = parse_key(KEY, "cosign.pub")
    assert key.verifies(base64.b64decode(RECORDED), data)
    assert not key.verifies(base64.b64decode(UNKNOWN), data)
    claim = SimpleSigning(data, ()).claim()
    assert (claim.digests, claim.identity) == ((IMAGE,), IDENTITY)


KEY_3 = b"""\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoJmXprHRCRJdqHnRaPDkVssbQNO1
is6XUr+/ApqnDi8HvBCRPbwU2P8jgkgtOOggNUf03tvJe0/9eZOb04aDbQ==
-----END PUBLIC KEY-----
"""
IMAGE_3 = "sha256:5099b89d7666cc2186cad769ddc262ddc7c335b33f5fe79f9ffe50a01282b23e"
STATEMENT_3 = (
    f'{{"_type":"https://in-toto.io/Statement/v1", "subject":[{{"digest":{{"sha256":"{IMAGE_3[7:]}"}},'
    ' "annotations":{}}], "predicateType":"https://sigstore.dev/cosign/sign/v1", "predicate":{}}'
)
SIGNATURE_3 = (
    "MEUCIBs2jKDupMmrqsjzI3W2oiID2y0P7n4UKT/RZHFeUOuhAiEA4SWsNDZXQBFqaA1/npF+HOGAaG2iuA52mxgPFCpgQog="
)


def test_a_bundle_that_cosign_3_made() -> None:
    """``cosign sign --key`` without a transparency log; recorded in public from a registry."""
    envelope = {
        "payload": b64(STATEMENT_3.encode()),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": SIGNATURE_3}],
    }
    value = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "h162TZsIBy5Y8U9qYWcmpVAp5dKpXhR7gnz8sNfZjV4="}},
        "dsseEnvelope": envelope,
    }
    data = json.dumps(value).encode()
    found = signature(Descriptor(BUNDLE, Digest.of(data), len(data)), {}, data)
    assert parse_key(KEY_3, "cosign.pub").verifies(found.signatures[0], found.message)
    assert not found.keyless
    assert found.claim() == Claim((IMAGE_3,), None)
