"""Manifests and indexes: strict reading, choice of platform, writing."""

import json
from typing import Any

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError
from linuxkit_rules.oci.manifest import (
    CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    INDEX,
    LAYER,
    MANIFEST,
    SIZE_LIMIT,
    Index,
    Manifest,
    Member,
    Platform,
    parse,
    require_image,
)

BLOB = {"digest": f"sha256:{'a' * 64}", "size": 3}
AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def target(letter: str, media_type: str = MANIFEST) -> Descriptor:
    return Descriptor(media_type, Digest(letter * 64), 3)


def manifest(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, **BLOB},
        "layers": [{"mediaType": f"{LAYER}+gzip", **BLOB}],
        **changes,
    }
    return {name: item for name, item in value.items() if item is not None}


def read(value: Any, announced: str | None = None) -> Manifest | Index:
    return parse(json.dumps(value).encode(), announced, "here")


def test_a_manifest_reads_and_writes() -> None:
    found = read(manifest(annotations={"a": "b"}), MANIFEST)
    assert isinstance(found, Manifest)
    assert found.layers == (target("a", f"{LAYER}+gzip"),)
    assert found.annotations == {"a": "b"}
    assert parse(found.to_bytes(), MANIFEST, "here") == found


def test_an_index_reads_and_writes() -> None:
    index = Index(
        (
            Member(target("a"), Platform("linux", "arm64", "v8")),
            Member(target("b"), None, {"x": "y"}),
            Member(target("c", INDEX)),
        )
    )
    assert parse(index.to_bytes(), INDEX, "here") == index
    assert index.to_bytes() == index.to_bytes()


def test_docker_forms_are_known() -> None:
    value = manifest(mediaType=DOCKER_MANIFEST, layers=[{"mediaType": f"{DOCKER_LAYER}.gzip", **BLOB}])
    found = read(value, DOCKER_MANIFEST)
    assert isinstance(found, Manifest)
    require_image(found, "here")


@pytest.mark.parametrize(
    ("value", "announced", "why"),
    [
        (manifest(), INDEX, "announced as"),
        (manifest(), DOCKER_MANIFEST, "announced as"),
        (manifest(mediaType=None), INDEX, "an index cannot have 'config'"),
        (manifest(manifests=[]), MANIFEST, "a manifest cannot have 'manifests'"),
        (manifest(mediaType=None, manifests=[]), None, "an index cannot have"),
        (manifest(mediaType="text/html"), None, "no type of an image"),
        (manifest(mediaType=["x"]), None, "no type of an image"),
        (manifest(mediaType=None), "text/html", "no type of an image"),
        (manifest(schemaVersion=1), None, "schemaVersion 2"),
        (manifest(schemaVersion="2"), None, "schemaVersion 2"),
        (manifest(config=None), None, "descriptor must be an object"),
        (manifest(config={"mediaType": CONFIG, **BLOB, "size": -1}), None, "size"),
        (manifest(config={"mediaType": CONFIG, **BLOB, "size": True}), None, "size"),
        (manifest(config={"mediaType": CONFIG, **BLOB, "digest": "sha512:00"}), None, "not a digest"),
        (manifest(layers=None), None, "'layers' must be a list"),
        (manifest(layers={}), None, "'layers' must be a list"),
        (manifest(annotations={"a": 1}), None, "annotations"),
        (
            {"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, **BLOB, "platform": "x"}]},
            None,
            "platform",
        ),
        (
            {"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, **BLOB, "platform": {}}]},
            None,
            "needs os",
        ),
        ([], None, "not a JSON object"),
    ],
)
def test_refused(value: Any, announced: str | None, why: str) -> None:
    with pytest.raises(ImageError, match=why) as caught:
        read(value, announced)
    assert caught.value.where == "here"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b'{"schemaVersion":2',
        b'{"schemaVersion":2,"schemaVersion":2}',
        b"[" * 100_000,
        b" " * (SIZE_LIMIT + 1),
    ],
    ids=["empty", "no text", "cut", "a name twice", "deep", "long"],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        parse(data, None, "here")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": {"mediaType": "application/vnd.oci.empty.v1+json", **BLOB}}, "no container image"),
        ({"layers": [{"mediaType": "application/vnd.in-toto+json", **BLOB}]}, "unknown type"),
        ({"layers": [{"mediaType": f"{LAYER}+gzip+encrypted", **BLOB}]}, "unknown type"),
    ],
)
def test_other_artefacts_are_no_images(changes: dict[str, Any], why: str) -> None:
    found = read(manifest(**changes))
    assert isinstance(found, Manifest)
    with pytest.raises(ImageError, match=why):
        require_image(found, "here")


def test_selection_takes_the_first_match_and_skips_attestations() -> None:
    unknown = Platform("unknown", "unknown")
    index = Index(
        (
            Member(target("0"), unknown),
            Member(target("1"), AMD64, {"vnd.docker.reference.type": "attestation-manifest"}),
            Member(target("2", "application/x-other"), AMD64),
            Member(target("3"), Platform("linux", "arm64", "v8")),
            Member(target("4"), Platform("linux", "amd64", "v3")),
            Member(target("5"), AMD64),
            Member(target("6"), AMD64),
        )
    )
    assert index.select(AMD64, "here").descriptor == target("5")
    assert index.select(ARM64, "here").descriptor == target("3")


def test_a_missing_platform_is_named_with_what_there_is() -> None:
    index = Index((Member(target("3"), Platform("linux", "arm64", "v8")),))
    with pytest.raises(ImageError, match=r"no image for linux/amd64; there are: linux/arm64/v8"):
        index.select(AMD64, "here")


def test_a_lone_member_without_platform_is_taken() -> None:
    member = Member(target("1"))
    assert Index((member,)).select(AMD64, "here") == member
    with pytest.raises(ImageError, match="no platform"):
        Index((member, member)).select(AMD64, "here")


@pytest.mark.parametrize(
    ("wanted", "there", "best"),
    [
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64/v1", "linux/amd64"], "linux/amd64/v1"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v4", "linux/amd64/v2"], "linux/amd64/v2"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v3"], "linux/amd64/v3"),
        ("linux/amd64", ["linux/x86_64"], "linux/x86_64"),
        ("linux/amd64", ["linux/amd64/v2", "windows/amd64"], None),
        ("linux/arm64", ["linux/arm64/v9", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/aarch64"], "linux/aarch64"),
        ("linux/arm64/v8.2", ["linux/arm64", "linux/arm64/v8.1", "linux/arm64/v8.3"], "linux/arm64/v8.1"),
        ("linux/arm64", ["linux/arm/v7", "linux/arm"], None),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], "linux/arm/v6"),
        ("linux/arm/v7", ["linux/arm/v6", "linux/armhf"], "linux/armhf"),
        ("linux/arm/v6", ["linux/arm", "linux/arm/7"], None),
        ("linux/arm/6", ["linux/armel", "linux/arm/v5"], "linux/armel"),
        ("linux/386", ["linux/i386"], "linux/i386"),
        ("linux/mips/x", ["linux/mips/y", "linux/mips"], None),
        ("linux/ppc64le/power9", ["linux/ppc64le/power8"], None),
        ("linux/ppc64le", ["linux/ppc64le"], "linux/ppc64le"),
    ],
)
def test_the_best_variant(wanted: str, there: list[str], best: str | None) -> None:
    found = Platform(*wanted.split("/")).best(Platform(*text.split("/")) for text in there)
    assert (found and str(found)) == best


def test_an_artifact_type_is_kept() -> None:
    member = Member(target("1"), None, {}, "application/x.signature")
    value = parse(Index((member,)).to_bytes(), None, "test")
    assert isinstance(value, Index)
    assert value.members == (member,)
