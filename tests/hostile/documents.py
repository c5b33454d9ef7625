"""Manifests, indexes and configurations that lie, or that two readers would take for two things.

The class of CVE-2021-41190: a document that is a manifest to one and an index to another.
"""

import json
from typing import Any

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.oci.manifest import CONFIG, INDEX, LAYER, MANIFEST, Member, Platform
from tests.hostile.cases import Build, Case, document, gzipped
from tests.hostile.headers import archive, member
from tests.images import AMD64, ARM64, Blobs

PLAIN = archive(member(b"a", b"1"))
TREE = {"a": "file 1"}
CONFUSED = r"cannot have '"


def manifest(**changes: Any) -> Build:
    """An image of one layer, its manifest's keys changed (None: left out)."""

    def build(blobs: Blobs) -> Descriptor:
        value = sound(blobs) | changes
        return blobs.add(
            json.dumps({key: item for key, item in value.items() if item is not None}).encode(), MANIFEST
        )

    return build


def sound(blobs: Blobs) -> dict[str, Any]:
    config = blobs.add(blobs.config([PLAIN]), CONFIG)
    layer = blobs.add(gzipped(PLAIN), LAYER + "+gzip")
    kind = {"schemaVersion": 2, "mediaType": MANIFEST}
    return {**kind, "config": config.to_json(), "layers": [layer.to_json()]}


def layer(**changes: Any) -> Build:
    """An image whose one layer's descriptor is changed."""

    def build(blobs: Blobs) -> Descriptor:
        value = sound(blobs)
        value["layers"] = [value["layers"][0] | changes]
        return blobs.add(json.dumps(value).encode(), MANIFEST)

    return build


def config(data: Any) -> Build:
    """An image whose configuration is ``data``, bytes or a JSON value."""
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return lambda blobs: blobs.image([PLAIN], config=text)


def ids(*found: Any) -> Build:
    return config(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": list(found)}}
    )


def nested(blobs: Blobs) -> Descriptor:
    image = blobs.image([PLAIN])
    for _ in range(9):
        image = blobs.index(Member(image, AMD64))
    return image


def other_platform(blobs: Blobs) -> Descriptor:
    return blobs.index(Member(blobs.image([PLAIN], platform=ARM64), AMD64))


def attested(blobs: Blobs) -> Descriptor:
    """An index whose first member says that it is no image."""
    evil = blobs.image([archive(member(b"evil", b"1"))])
    return blobs.index(Member(evil, Platform("unknown", "unknown")), Member(blobs.image([PLAIN]), AMD64))


def bad(name: str, build: Build, why: str, *, layer: bool = False) -> Case:
    return Case(name, build, why, layer=layer)


OTHER = "sha512:" + "0" * 128
WRONG = str(Digest.of(b"wrong"))
OURS = str(Digest.of(PLAIN))
TWICE = b'{"schemaVersion":2,"layers":[],"layers":[],"config":{}}'

CASES = [
    bad("a manifest with members", manifest(manifests=[]), CONFUSED + "manifests'"),
    bad("a manifest with the layers of schema 1", manifest(fsLayers=[]), CONFUSED + "fsLayers'"),
    bad(
        "an index with layers",
        document(b'{"schemaVersion":2,"manifests":[],"layers":[]}', INDEX),
        CONFUSED + "layers'",
    ),
    bad(
        "an index with a configuration",
        document(b'{"schemaVersion":2,"manifests":[],"config":{}}', INDEX),
        CONFUSED + "config'",
    ),
    bad("a manifest that says it is an index", manifest(mediaType=INDEX), "was announced as"),
    bad("a manifest that says it is a layer", manifest(mediaType=LAYER), "was announced as"),
    bad("a manifest whose type is a number", manifest(mediaType=2), "was announced as"),
    bad("a manifest of schema 1", manifest(schemaVersion=1), "only manifests of schemaVersion 2"),
    bad("a manifest without a schema", manifest(schemaVersion=None), "only manifests of schemaVersion 2"),
    bad(
        "a manifest whose schema is a text", manifest(schemaVersion="2"), "only manifests of schemaVersion 2"
    ),
    bad("a manifest without layers", manifest(layers=None), "'layers' must be a list"),
    bad("a manifest whose layers are an object", manifest(layers={}), "'layers' must be a list"),
    bad("a manifest without a configuration", manifest(config=None), "a descriptor must be an object"),
    bad("a manifest with keys given twice", document(TWICE), "a name is given twice"),
    bad("a manifest that is no object", document(b"[]"), "is not a JSON object"),
    bad("a manifest that is no JSON", document(b"{"), "is not the JSON"),
    bad("a manifest that is no text", document(b"\xff\xfe\xff"), "is not the JSON"),
    bad("a manifest that is a layer", document(PLAIN), "is not the JSON"),
    bad("a manifest nested without end", document(b"[" * 200_000), "is not the JSON"),
    bad(
        "a manifest with a number without end",
        document(b'{"schemaVersion":' + b"9" * 9999 + b"}"),
        "is not the JSON",
    ),
    bad(
        "a manifest of another artefact",
        manifest(config={"mediaType": "a/b", "digest": WRONG, "size": 5}),
        "is no container image but a/b",
    ),
    bad("annotations that are no texts", manifest(annotations={"a": 1}), "annotations must be"),
    bad(
        "a layer of another type",
        layer(mediaType="application/zip"),
        "of the unknown type application/zip",
        layer=True,
    ),
    bad("a layer of a type with escape codes", layer(mediaType="a\x1b[2J"), r"type a\\x1b", layer=True),
    bad("a layer that is a manifest", layer(mediaType=MANIFEST), "of the unknown type", layer=True),
    bad("a layer's digest in sha512", layer(digest=OTHER), "is not a digest"),
    bad("a layer's digest in capitals", layer(digest="sha256:" + "A" * 64), "is not a digest"),
    bad("a layer's digest that is a path", layer(digest="sha256:../../../../etc/passwd"), "is not a digest"),
    bad("a layer's digest with a newline", layer(digest=WRONG + "\n"), "is not a digest"),
    bad("a layer's digest that is a number", layer(digest=7), "needs mediaType and digest"),
    bad("a layer of negative size", layer(size=-1), "needs size"),
    bad("a layer whose size is true", layer(size=True), "needs size"),
    bad("a layer whose size is a fraction", layer(size=1.5), "needs size"),
    bad("a layer said to be shorter", layer(size=9), "is longer than the 9 bytes", layer=True),
    bad("a layer said to be longer", layer(size=99_999), "ends after", layer=True),
    bad("a layer that is not there", layer(digest=WRONG), "is missing", layer=True),
    bad("a diff id of another layer", ids(WRONG), "was expected", layer=True),
    bad("the diff id of the packed layer", ids(str(Digest.of(gzipped(PLAIN)))), "was expected", layer=True),
    bad("a diff id in sha512", ids(OTHER), "is not a digest"),
    bad("a diff id too few", ids(), "has 0 layers, the manifest 1"),
    bad("a diff id too many", ids(OURS, OURS), "has 2 layers, the manifest 1"),
    bad("a diff id that is a number", ids(7), "no list rootfs.diff_ids"),
    bad(
        "diff ids that are a text",
        config({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": OURS}}),
        "no list rootfs.diff_ids",
    ),
    bad(
        "a configuration without a root",
        config({"os": "linux", "architecture": "amd64"}),
        "no list rootfs.diff_ids",
    ),
    bad(
        "a configuration of another machine",
        config({"os": "linux", "architecture": "s390x"}),
        "is for linux/s390x",
    ),
    bad(
        "a configuration of another system",
        config({"os": "windows", "architecture": "amd64"}),
        "is for windows/amd64",
    ),
    bad("a configuration without a machine", config({"os": "linux"}), "a platform needs os and architecture"),
    bad("a configuration that is a list", config([]), "is not a JSON object"),
    bad("a configuration that is a layer", config(PLAIN), "is not the JSON"),
    bad("indexes without end", nested, "nested more than"),
    bad("an index that lies about the machine", other_platform, "is for linux/arm64"),
    Case("an index whose first member is no image", attested, tree=TREE),
    Case("keys that nobody knows", manifest(urls=["http://127.0.0.1/"], subject={"a": 1}), tree=TREE),
    Case("a layer that is said to lie elsewhere", layer(urls=["http://127.0.0.1:1/evil"]), tree=TREE),
    Case("a layer that is given with its descriptor", layer(data="ZXZpbA=="), tree=TREE),
]
