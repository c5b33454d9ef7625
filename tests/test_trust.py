"""``trust:`` and the site's policy: what must be signed is verified before anything of it is used."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import requests

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import LinuxKitError, NetworkError, SignatureError
from linuxkit_rules.oci.image import load
from linuxkit_rules.oci.layout import REF_NAME, Layout
from linuxkit_rules.oci.manifest import INDEX, MANIFEST, Member, Platform
from linuxkit_rules.oci.mirrors import Mirror
from linuxkit_rules.oci.pattern import Pattern
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.signature import BUNDLE, LIMIT, PAYLOAD_LIMIT, SIGNATURE_ARTIFACT
from linuxkit_rules.oci.transport import Network
from linuxkit_rules.oci.verify import Requirement
from linuxkit_rules.plan.graph import Step
from linuxkit_rules.plan.image import Parts, plan
from linuxkit_rules.plan.locking import Locking
from linuxkit_rules.plan.memo import Evidence
from linuxkit_rules.plan.relocate import relocated
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.trust import policies_of
from linuxkit_rules.plan.vendor import Wanted, vendor
from linuxkit_rules.spec.emit import emit
from linuxkit_rules.spec.linuxkit import loads
from linuxkit_rules.spec.merge import merge
from linuxkit_rules.spec.trust import full_name
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.image import LayoutImage, PullImage, resolve
from linuxkit_rules.stages.stage import Engine, Event, key
from linuxkit_rules.stages.verify import VERIFIED
from linuxkit_rules.stages.whole import WholeImage
from linuxkit_rules.store.blobs import Store
from tests.images import AMD64, ARM64, Blobs, tar
from tests.project import Project
from tests.servers.fixed import Answer, Fixed, fixed_server
from tests.servers.pulling import Slept
from tests.signing import PRIVATE, Layer, Signed, Signer, bundle, manifest, signed, signer, statement
from tests.tools import tool

US, THEM = signer("us.pub"), signer("them.pub")
PLAIN = tar(a=b"what is signed" * 1000)
EVIL = tar(a=b"what is not" * 1000)
Count = Callable[..., None]


# What a policy says.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with keys."""
    for pair in (US, THEM):
        (tmp_path / pair.name).write_bytes(pair.pem)
    (tmp_path / "private.pem").write_bytes(PRIVATE)
    return tmp_path


def planned(folder: Path, trust: str, site: str | None = None, **changes: object) -> Parts:
    """Plan a YAML with three images and this ``trust``."""
    images = ("docker.io/linuxkit/a:1", "redis:7", "reg.example/team/app:1")
    services = "".join(f"  - {{name: s{index}, image: '{name}'}}\n" for index, name in enumerate(images))
    (folder / "f.yml").write_text(f"trust: {trust}\nservices:\n{services}")
    if site is not None:
        (folder / "site").mkdir(exist_ok=True)
        (folder / "site" / "policy.yml").write_text(site)
        changes["trust_policy"] = folder / "site" / "policy.yml"
    return plan({"f.yml": folder / "f.yml"}, "f", Settings(**changes))  # type: ignore[arg-type]


def asked(parts: Parts) -> dict[str, tuple[Requirement, ...]]:
    """What is asked of each image."""
    found = {}
    for step in parts.segments:
        for item in step.inputs:
            stage = getattr(item.source, "stage", None)
            if isinstance(stage, PullImage):
                found[stage.reference] = stage.trust
    return found


LINUXKIT, REDIS, APP = "docker.io/linuxkit/a:1", "docker.io/library/redis:7", "reg.example/team/app:1"


def test_organisations_and_images_of_2017(folder: Path) -> None:
    found = asked(planned(folder, "{org: [linuxkit], image: [redis], keys: [us.pub]}"))
    assert found[LINUXKIT] == (Requirement((US.key,), 1, "docker.io/linuxkit/a"),)
    assert found[REDIS] == (Requirement((US.key,), 1, "docker.io/library/redis"),)
    assert found[APP] == ()


def test_entries_add_up(folder: Path) -> None:
    trust = (
        "{keys: [us.pub], policy: [{images: ['reg.example/**']},"
        " {images: ['reg.example/team/*'], keys: [us.pub, them.pub], threshold: 2, identity: any}]}"
    )
    found = asked(planned(folder, trust))
    both = Requirement((US.key, THEM.key), 2, "")
    assert found[APP] == (Requirement((US.key,), 1, "reg.example/team/app"), both)
    assert found[LINUXKIT] == found[REDIS] == ()


def test_the_site_s_policy_is_not_weakened_by_a_yaml(folder: Path) -> None:
    site = "policy: [{images: ['**'], keys: [../them.pub]}]"
    own = "{policy: [{images: ['**'], type: accept}, {images: ['reg.example/**'], keys: [us.pub]}]}"
    found = asked(planned(folder, own, site, ignore_trust=True))
    assert [[key.name for item in found[name] for key in item.keys] for name in (REDIS, APP)] == [
        ["../them.pub"],
        ["us.pub", "../them.pub"],
    ]


REJECT = "{default: reject, policy: [{images: ['docker.io/**'], type: accept}]}"


def test_every_image_of_a_yaml_is_meant(folder: Path) -> None:
    """A pattern that refuses all is told of the kernel, of init, of containers and of volumes."""
    (folder / "f.yml").write_text(
        "trust: {policy: [{images: ['**'], type: reject}]}\n"
        "kernel: {image: 'k:1'}\ninit: ['i:1', '@pkg:init']\nonboot: [{name: b, image: 'b:1'}]\n"
        "services: [{name: s, image: 's:1'}]\nonshutdown: [{name: d, image: 'd:1'}]\n"
        "volumes: [{name: v, image: 'v:1'}, {name: o, image: 'o:1', format: oci}]\n"
    )
    with pytest.raises(LinuxKitError) as caught:
        plan({"f.yml": folder / "f.yml"}, "f", Settings())
    told = {line.split("library/")[1][0] for line in str(caught.value).splitlines()}
    assert told == set("kibsdvo")


def test_default_reject_is_each_policy_s_own(folder: Path) -> None:
    for own, site in ((REJECT, None), ("{policy: [{images: ['**'], type: accept}]}", REJECT[1:-1])):
        with pytest.raises(LinuxKitError, match="reg.example/team/app:1 is named by no entry") as caught:
            planned(folder, own, site and site.replace(", policy", "\npolicy"))
        assert (caught.value.where or "").startswith("f.yml:5:")
        assert "default: reject" in str(caught.value)
    with pytest.raises(LinuxKitError, match="docker.io/library/redis:7 is refused"):
        planned(folder, "{policy: [{images: ['docker.io/library/**'], type: reject}]}")


def test_patterns_that_match_nothing_are_warned_of(folder: Path) -> None:
    site = "policy: [{images: ['other.example/**'], keys: [../us.pub]}]"
    trust = "{keys: [us.pub], org: [linuxkit, linuxkti], policy: [{images: ['reg.example/*', '**']}]}"
    assert planned(folder, trust, site).warnings == (
        "f.yml:1:41: trust: no image here is docker.io/linuxkti/**",
        "f.yml:1:71: trust: no image here is reg.example/*",
    )


@pytest.mark.parametrize(
    ("trust", "fault"),
    [
        ("{org: [a]}", "f.yml:1:8: trust: a must be signed, but no keys are named (keys: [cosign.pub]"),
        ("{image: [a], policy: []}", "f.yml:1:8: trust: a must be signed, but no keys"),
        ("{keys: [us.pub]}", "f.yml:1:8: trust: keys are named, but no images that they sign"),
        ("{org: [a], keys: [no.pub]}", "f.yml:1:26: trust: there is no key file 'no.pub'"),
        ("{org: [a], keys: [.]}", "f.yml:1:26: trust: there is no key file '.'"),
        ("{org: [a], keys: [f.yml]}", "f.yml:1:26: trust: the key file 'f.yml' holds no public key"),
        (
            "{org: [a], keys: [private.pem]}",
            "f.yml:1:26: trust: the key file 'private.pem' holds a private key",
        ),
        ("{policy: [{images: [a.b/c]}]}", "f.yml:1:18: trust: no keys are named"),
        ("{policy: [{images: [], keys: [us.pub]}]}", "f.yml:1:27: trust: no images are named"),
        ("{policy: [{images: [redis], keys: [us.pub]}]}", "f.yml:1:28: trust: 'redis' is no full name"),
        ("{policy: [{images: [''], keys: [us.pub]}]}", "f.yml:1:28: trust.policy[0].images[0]"),
        ("{org: [''], keys: [us.pub]}", "f.yml:1:15: trust: 'docker.io//**' is no full name"),
        ("{image: [A], keys: [us.pub]}", "f.yml:1:17: trust: 'A' is not an image reference"),
        (
            "{policy: [{images: ['**'], keys: [us.pub, us.pub], threshold: 2}]}",
            "f.yml:1:70: trust: 2 keys must have signed, and 1 are named",
        ),
        (
            "{policy: [{images: ['**'], keys: [us.pub], threshold: 0}]}",
            "f.yml:1:62: trust.policy[0].threshold",
        ),
        (
            "{policy: [{images: ['**'], keys: [us.pub], type: accept}]}",
            "f.yml:1:41: trust: keys have no meaning with type: accept",
        ),
        ("{policy: [{images: ['**'], kind: x}]}", "f.yml:1:35: trust.policy[0]: unknown key 'kind'"),
        ("{default: deny}", "f.yml:1:18: trust.default: must be one of accept, reject"),
    ],
)
def test_faults_are_told_with_their_place(folder: Path, trust: str, fault: str) -> None:
    with pytest.raises(LinuxKitError) as caught:
        planned(folder, trust)
    assert fault in str(caught.value)
    assert "ENCRYPTED" not in str(caught.value)


@pytest.mark.parametrize(
    ("site", "fault"),
    [
        ("org: [a]", "policy.yml:1:1: trust: a must be signed, but no keys are named"),
        ("policy: 7", "policy.yml:1:9: policy: must be a list"),
        ("trust: {}", "policy.yml:1:1: unknown key 'trust'"),
        ("", "policy.yml:1:1: the document is empty"),
        ("org: [a]\nkeys: [us.pub]", "policy.yml:2:8: trust: there is no key file 'us.pub'"),
    ],
)
def test_faults_of_the_site_s_policy(folder: Path, site: str, fault: str) -> None:
    """Its paths count from its folder; --ignore-trust is not for it."""
    with pytest.raises(LinuxKitError) as caught:
        planned(folder, "{}", site, ignore_trust=True)
    assert fault in str(caught.value)


def test_a_site_s_policy_that_is_not_there(folder: Path) -> None:
    with pytest.raises(LinuxKitError, match="no.yml: there is no trust policy"):
        planned(folder, "{}", trust_policy=folder / "no.yml")


def test_yamls_are_merged_with_the_places_and_folders_of_their_keys(folder: Path) -> None:
    first = loads("trust: {org: [a], keys: [x.pub]}\n", "1.yml", "one")
    second = loads(
        "trust:\n  org: [b]\n  keys: [y.pub]\n  default: reject\n  policy:\n  - images: ['**']\n",
        "2.yml",
        "two",
    )
    third = loads("trust: {org: [c]}\n", "3.yml")
    trust = merge([loads("{}", "0.yml"), first, second, third]).trust
    assert [policy.base for policy in trust.policy] == ["one", "two", "two"]
    assert [policy.keys for policy in trust.policy] == [("x.pub",), ("y.pub",), ("y.pub",)]
    keys = ["1.yml:1:26", "2.yml:3:10", "2.yml:3:10"]
    assert [policy.place("keys[0]") for policy in trust.policy] == keys
    images = ["1.yml:1:15", "2.yml:2:9", "2.yml:6:14"]
    assert [policy.place("images[0]") for policy in trust.policy] == images
    assert (trust.org, trust.keys, trust.place("org[0]")) == (("c",), (), "3.yml:1:15")
    assert (trust.where, trust.default, trust.policy[2].where) == ("3.yml:1:8", "reject", "2.yml:6:5")


def merged(folder: Path, *trusts: str, **changes: object) -> Parts:
    """Plan YAMLs of images of two organisations, each YAML with this ``trust``."""
    files = {}
    for index, trust in enumerate(trusts):
        path = files[f"{index}.yml"] = folder / f"{index}.yml"
        service = f"{{name: s{index}, image: 'team{index}/app:1'}}"
        path.write_text(f"trust: {trust}\nservices: [{service}]\n")
    return plan(files, "f", Settings(**changes))  # type: ignore[arg-type]


def signers(parts: Parts) -> dict[str, list[list[str]]]:
    """The names of the keys by which each image must be signed."""
    return {
        name.split("/")[1]: [[pair.name for pair in item.keys] for item in wanted]
        for name, wanted in asked(parts).items()
    }


@pytest.mark.parametrize(
    "trusts",
    [
        ("{keys: [us.pub], org: [team0]}", "{keys: [them.pub], org: [team1]}"),
        ("{keys: [us.pub], image: [team0/app]}", "{keys: [them.pub], image: ['team1/app:1']}"),
        (
            "{keys: [us.pub], policy: [{images: ['docker.io/team0/*']}]}",
            "{keys: [them.pub], policy: [{images: ['docker.io/team1/*']}]}",
        ),
    ],
)
def test_the_keys_of_one_yaml_sign_nothing_of_another(folder: Path, trusts: tuple[str, str]) -> None:
    parts = merged(folder, *trusts)
    assert signers(parts) == {"team0": [["us.pub"]], "team1": [["them.pub"]]}
    (folder / "printed.yml").write_text(emit(relocated(parts.spec)))
    printed = plan({"printed.yml": folder / "printed.yml"}, "f", Settings())
    assert asked(printed) == asked(parts)


def test_keys_of_another_yaml_are_no_keys(folder: Path) -> None:
    for trusts, told in (
        (("{keys: [us.pub], org: [team0]}", "{org: [team1]}"), "1.yml:1:8: trust: team1 must be signed"),
        (("{org: [team0]}", "{keys: [us.pub], org: [team1]}"), "0.yml:1:8: trust: team0 must be signed"),
        (("{keys: [us.pub]}", "{policy: [{images: ['**'], type: accept}]}"), "no images are named"),
    ):
        with pytest.raises(LinuxKitError, match=told):
            merged(folder, *trusts)
    parts = merged(folder, "{keys: [us.pub], org: [team0]}", "{org: [team1]}", ignore_trust=True)
    assert signers(parts) == {"team0": [["us.pub"]], "team1": []}
    assert parts.warnings == ("1.yml:1:8: trust: the signatures of team1 are not checked",)


@pytest.mark.parametrize(
    "text",
    [
        *("redis", "redis:7", "team/app", "team/app:1@sha256:" + "0" * 64, "redis@sha256:" + "0" * 64),
        *("localhost/a", "localhost:5000/a:1", "a.b/c/d", "index.docker.io/redis", "docker.io/redis:7"),
    ],
)
def test_a_name_in_full_means_the_same_image(text: str) -> None:
    any_tag = ":" not in text.partition("@")[0].rpartition("/")[2]
    wanted = Pattern.of(Reference.parse(text), any_tag=any_tag)
    assert Pattern.parse(full_name(text)) == wanted


def test_a_policy_is_written_as_it_is_read() -> None:
    text = (
        "trust:\n  org:\n  - a\n  keys:\n  - x.pub\n  policy:\n  - images:\n    - '**'\n    threshold: 2\n"
        "    identity: any\n  default: reject\n"
    )
    assert emit(loads(text, "f.yml")) == text


# What a stage does.


def image(reference: str, layer: bytes = PLAIN) -> Signed:
    blobs = Blobs()
    return Signed(reference, blobs.image([layer]), blobs)


def trusting(made: Signed, by: object = US, **changes: object) -> tuple[Requirement, ...]:
    wanted = Requirement((US.key,), 1, Reference.parse(made.name).repository)
    return (dataclasses.replace(wanted, **changes),)  # type: ignore[arg-type]


def events(tmp_path: Path, **access: object) -> tuple[Engine, list[Event]]:
    found: list[Event] = []
    network = Network(pauses=Slept().pauses())
    return Engine(Store(tmp_path / "store"), found.append, Access(network=network, **access)), found  # type: ignore[arg-type]


def serve(hostile: Fixed, made: Signed) -> None:
    """Answer for the image and what may be its signatures as a registry with the referrers API."""
    base = f"/v2/{Reference.parse(made.name).path}"
    for digest, data in made.blobs.data.items():
        hostile.answers[f"{base}/blobs/{digest}"] = (200, {}, data)
    named = [(made.image, made.name.rpartition(":")[2])]
    referring = []
    for item, names in made.members:
        if REF_NAME in names:
            named.append((item, names[REF_NAME].rpartition(":")[2]))
        else:
            document = json.loads(made.blobs.data[item.digest])
            referring.append({**item.to_json(), "artifactType": document["artifactType"]})
        named.append((item, str(item.digest)))
    for item, name in [*named, (made.image, str(made.image.digest))]:
        answer = (200, {"Content-Type": item.media_type}, made.blobs.data[item.digest])
        hostile.answers[f"{base}/manifests/{name}"] = answer
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": referring}
    answer = (200, {"Content-Type": INDEX}, json.dumps(index).encode())
    hostile.answers[f"{base}/referrers/{made.image.digest}"] = answer


@pytest.fixture
def hostile() -> Iterator[Fixed]:
    with fixed_server() as server:
        yield server


def blobs_asked(hostile: Fixed, made: Signed) -> list[str]:
    """The image's own blobs that were asked for."""
    own = {str(digest) for digest in made.layers()}
    return [path for path, _ in hostile.asked if path.rpartition("/")[2] in own]


def test_a_signed_image_is_brought_and_its_evidence_kept(tmp_path: Path, hostile: Fixed) -> None:
    made = image(f"{hostile.host}/a/b:1")
    made.tagged(signed(made.image.digest, made.repository, US))
    serve(hostile, made)
    engine, seen = events(tmp_path)
    stage = PullImage(made.name, "amd64", trust=trusting(made))
    result = engine.run(stage, {})
    (layer,) = load(engine.store, result.output).layers
    assert engine.store.read(layer.digest) == PLAIN
    assert [event.stage for event in seen] == ["pull-image", "verify-signature", "fetch-layer"]
    assert not [path for path, _ in hostile.asked if "/referrers/" in path], "the tag was enough"
    entries = [json.loads(path.read_text()) for path in (engine.store.root / "entries").iterdir()]
    (verified,) = [entry for entry in entries if entry["output"]["mediaType"] == VERIFIED]
    assert len(verified["refers"]) == 2

    offline, again = events(tmp_path, offline=True)
    assert offline.run(stage, {}) == result
    assert [(event.how, event.stage) for event in again] == [("hit", "pull-image")]


@pytest.mark.parametrize("kind", [SIGNATURE_ARTIFACT, BUNDLE])
def test_the_referrers_api(tmp_path: Path, hostile: Fixed, kind: str) -> None:
    made = image(f"{hostile.host}/a/b:1")
    layer = signed(made.image.digest, made.repository, US)
    if kind == BUNDLE:
        layer = Layer(bundle(statement(made.image.digest), US), {}, BUNDLE)
    made.referring(layer, kind=kind)
    serve(hostile, made)
    engine, _ = events(tmp_path)
    engine.run(PullImage(made.name, "amd64", trust=trusting(made, repository="")), {})
    assert [path for path, _ in hostile.asked if "/referrers/" in path]


def test_a_bad_tag_does_not_hide_a_good_referrer(tmp_path: Path, hostile: Fixed) -> None:
    made = image(f"{hostile.host}/a/b:1")
    made.tagged(signed(made.image.digest, made.repository, THEM))
    made.referring(signed(made.image.digest, made.repository, US))
    serve(hostile, made)
    events(tmp_path)[0].run(PullImage(made.name, "amd64", trust=trusting(made)), {})


@pytest.fixture
def mirror() -> Iterator[Fixed]:
    with fixed_server() as server:
        yield server


@pytest.mark.parametrize("stale", ["tag", "referrers"])
def test_a_mirror_s_old_signature_does_not_hide_the_registry_s(
    tmp_path: Path, hostile: Fixed, mirror: Fixed, stale: str
) -> None:
    made, old = image(f"{hostile.host}/a/b:1"), image(f"{hostile.host}/a/b:1")
    layers = {item: signed(made.image.digest, made.repository, item) for item in (US, THEM)}
    if stale == "tag":
        old.tagged(*[layers[THEM]] * LIMIT)
        made.tagged(layers[THEM], layers[US])
    else:
        old.referring(layers[THEM])
        made.referring(layers[US])
    serve(hostile, made)
    serve(mirror, old)
    mirrors = (Mirror(hostile.host, f"http://{mirror.host}"),)
    engine, _ = events(tmp_path, mirrors=mirrors)
    engine.run(PullImage(made.name, "amd64", trust=trusting(made)), {})
    assert blobs_asked(hostile, made) == [], "the image itself is the mirror's"
    assert len(set(blobs_asked(mirror, made))) == 2


def test_a_mirror_s_good_signature_is_enough(tmp_path: Path, hostile: Fixed, mirror: Fixed) -> None:
    made = image(f"{hostile.host}/a/b:1")
    made.tagged(signed(made.image.digest, made.repository, US))
    serve(mirror, made)
    engine, _ = events(tmp_path, mirrors=(Mirror(hostile.host, f"http://{mirror.host}"),))
    engine.run(PullImage(made.name, "amd64", trust=trusting(made)), {})
    assert hostile.asked == []


def test_the_registry_s_trouble_is_told_where_a_mirror_s_signatures_do_not_count(
    tmp_path: Path, hostile: Fixed, mirror: Fixed
) -> None:
    made = image(f"{hostile.host}/a/b:1")
    made.tagged(signed(made.image.digest, made.repository, THEM))
    made.referring(signed(made.image.digest, made.repository, THEM))
    serve(mirror, made)
    mirrors = (Mirror(hostile.host, f"http://{mirror.host}"),)
    stage = PullImage(made.name, "amd64", trust=trusting(made))
    hostile.hook = lambda path, headers: (500, {}, b"")
    with pytest.raises(NetworkError, match="status 500"):
        events(tmp_path, mirrors=mirrors)[0].run(stage, {})
    hostile.hook = lambda path, headers: None
    with pytest.raises(SignatureError, match="is not signed by us.pub: 2 signatures are by another key"):
        events(tmp_path, mirrors=mirrors)[0].run(stage, {})
    assert blobs_asked(mirror, made) == []


def test_nothing_of_an_unsigned_image_is_asked_for(tmp_path: Path, hostile: Fixed, count: Count) -> None:
    """Neither is what an earlier build without a policy brought."""
    made = image(f"{hostile.host}/a/b:1")
    serve(hostile, made)
    engine, _ = events(tmp_path)
    stage = PullImage(made.name, "amd64", trust=trusting(made))
    with pytest.raises(SignatureError, match="is not signed by us.pub: it has no signatures") as caught:
        engine.run(stage, {})
    assert (caught.value.where, blobs_asked(hostile, made)) == (made.name, [])
    assert not list((engine.store.root / "blobs" / "sha256").glob("*"))
    engine.run(PullImage(made.name, "amd64"), {})
    with pytest.raises(SignatureError):
        engine.run(stage, {})
    count("bad signatures refused")


def test_a_server_in_trouble_is_no_server_without_signatures(tmp_path: Path, hostile: Fixed) -> None:
    made = image(f"{hostile.host}/a/b:1")
    made.tagged(signed(made.image.digest, made.repository, US))
    serve(hostile, made)
    for part in (made.tag, "/referrers/"):
        hostile.hook = lambda path, headers, part=part: (500, {}, b"") if part in path else None
        if part != made.tag:
            hostile.answers.pop(f"/v2/a/b/manifests/{made.tag}")
        with pytest.raises(NetworkError, match="status 500"):
            events(tmp_path)[0].run(PullImage(made.name, "amd64", trust=trusting(made)), {})
        assert blobs_asked(hostile, made) == []


def test_a_tag_that_moves_after_the_verification(tmp_path: Path, hostile: Fixed) -> None:
    """The digest that was verified is the one that is used."""
    made, evil = image(f"{hostile.host}/a/b:1"), image(f"{hostile.host}/a/b:1", EVIL)
    made.tagged(signed(made.image.digest, made.repository, US))
    serve(hostile, evil)
    serve(hostile, made)
    moved: Answer = (200, {"Content-Type": MANIFEST}, evil.blobs.data[evil.image.digest])

    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        times = [asked for asked, _ in hostile.asked].count("/v2/a/b/manifests/1")
        return moved if path.endswith("/manifests/1") and times > 1 else None

    hostile.hook = hook
    engine, _ = events(tmp_path)
    result = engine.run(PullImage(made.name, "amd64", trust=trusting(made)), {})
    (layer,) = load(engine.store, result.output).layers
    assert engine.store.read(layer.digest) == PLAIN
    other = PullImage(f"{made.name}", "arm64", trust=trusting(made))
    with pytest.raises(SignatureError, match=str(evil.image.digest)):
        engine.run(other, {})


def test_recipes_without_trust_keep_their_keys() -> None:
    stage = PullImage("a.b/c:1", "amd64")
    assert stage.parameters() == {"reference": "a.b/c:1", "arch": "amd64"}
    assert "trust" not in json.dumps(WholeImage(stage).parameters())
    wanted = [Requirement((US.key,)), Requirement((THEM.key,)), Requirement((US.key,), 1, "a.b/c")]
    trusting = [dataclasses.replace(stage, trust=(item,)) for item in wanted]
    stages = [stage, *trusting, *(WholeImage(item) for item in (stage, *trusting))]
    assert len({key(item, {}) for item in stages}) == len(stages)


def indexed(name: str) -> tuple[Signed, Descriptor]:
    """An index, and the image for amd64 in it."""
    blobs = Blobs()
    below = blobs.image([PLAIN])
    index = blobs.index(Member(blobs.image([EVIL], platform=ARM64), ARM64), Member(below, AMD64))
    return Signed(name, index, blobs), below


def in_layout(made: Signed, folder: Path, trust: tuple[Requirement, ...]) -> LayoutImage:
    source, layouts = Reference.parse(made.name), [Layout.at(made.write(folder))]
    stage = resolve(source, "amd64", layouts, folder, trust=trust).stage
    assert isinstance(stage, LayoutImage)
    return stage


def test_an_index_s_signature_covers_its_images(tmp_path: Path) -> None:
    made, _ = indexed("reg.example/a/b:1")
    made.tagged(signed(made.image.digest, made.repository, US))
    stage = in_layout(made, tmp_path / "layout", trusting(made))
    events(tmp_path, offline=True)[0].run(stage, {})
    events(tmp_path, offline=True)[0].run(WholeImage(stage), {})


def test_the_image_s_own_signature_is_enough_for_one_platform(tmp_path: Path) -> None:
    made, below = indexed("reg.example/a/b:1")
    made.tagged(signed(below.digest, made.repository, US), image=below.digest)
    stage = in_layout(made, tmp_path / "layout", trusting(made))
    engine, _ = events(tmp_path, offline=True)
    engine.run(stage, {})
    with pytest.raises(SignatureError, match=str(made.image.digest)):
        engine.run(dataclasses.replace(stage, arch="arm64"), {})
    with pytest.raises(SignatureError, match=str(made.image.digest)):
        engine.run(WholeImage(stage), {})


def test_a_layout_without_signatures_asks_no_registry(tmp_path: Path, hostile: Fixed) -> None:
    made = image(f"{hostile.host}/a/b:1")
    stage = in_layout(made, tmp_path / "layout", trusting(made))
    with pytest.raises(SignatureError, match="it has no signatures"):
        events(tmp_path)[0].run(stage, {})
    assert hostile.asked == []


def test_one_image_under_two_names_is_signed_for_one(tmp_path: Path) -> None:
    """What was verified under one name is not taken from memory under another."""
    first = image("reg.example/a/b:1")
    second = Signed("reg.example/c/d:1", first.image, first.blobs)
    layer = signed(first.image.digest, first.repository, US)
    first.tagged(layer)
    second.tagged(layer)
    engine, _ = events(tmp_path, offline=True)
    engine.run(in_layout(first, tmp_path / "1", trusting(first)), {})
    with pytest.raises(SignatureError, match="is for reg.example/a/b"):
        engine.run(in_layout(second, tmp_path / "2", trusting(second)), {})


# What is vendored.


def vendored(folder: Path, made: Signed, stage: PullImage) -> set[str]:
    """Vendor the image; build of it what the stage is for, offline; give the digests in the folder."""
    platform = Platform("linux", stage.arch)
    want = (Reference.parse(made.name), WholeImage(stage, (platform,)), Step("images/a", stage))
    vendor(Wanted((want,), ()), folder / "vendored", events(folder)[0])
    layouts = [Layout.at(folder / "vendored")]
    there = resolve(Reference.parse(made.name), stage.arch, layouts, folder, trust=stage.trust).stage
    engine, _ = events(folder / "elsewhere", offline=True)
    (layer,) = load(engine.store, engine.run(there, {}).output).layers
    assert engine.store.read(layer.digest) == PLAIN
    return {f"sha256:{path.name}" for path in (folder / "vendored" / "blobs" / "sha256").iterdir()}


def retold(made: Signed, **changes: object) -> None:
    """Change the manifest of signatures that was added last."""
    item, names = made.members.pop()
    document = {**json.loads(made.blobs.data[item.digest]), **changes}
    made.members.append((made.blobs.add(json.dumps(document).encode(), item.media_type), names))


def test_what_proves_a_signature_is_vendored_and_no_more(tmp_path: Path, hostile: Fixed) -> None:
    made = image(f"{hostile.host}/a/b:1")
    good = signed(made.image.digest, made.repository, US)
    foreign = signed(made.image.digest, f"{made.repository}:old", THEM)
    made.tagged(Layer(b"large", media_type="application/octet-stream", size=200 << 20), foreign, good)
    serve(hostile, made)
    blobs = vendored(tmp_path, made, PullImage(made.name, "amd64", trust=trusting(made)))
    manifest_there = made.members[0][0].digest
    proofs = {manifest_there, Digest.of(good.data), Digest.of(b"{}")}
    assert blobs == {str(item) for item in (made.image.digest, *made.layers(), *proofs)}
    assert not hostile.paths(str(Digest.of(b"large")))


def test_a_large_or_missing_configuration_of_signatures_is_left_out(tmp_path: Path, hostile: Fixed) -> None:
    """The large one is not asked for."""
    for number, size in enumerate((PAYLOAD_LIMIT + 1, 7)):
        made = image(f"{hostile.host}/a/b:1")
        made.tagged(signed(made.image.digest, made.repository, US))
        config = Descriptor("application/octet-stream", Digest.of(b"not there"), size)
        retold(made, config=config.to_json())
        serve(hostile, made)
        stage = PullImage(made.name, "amd64", trust=trusting(made))
        assert str(config.digest) not in vendored(tmp_path / str(number), made, stage)
        assert len(hostile.paths(str(config.digest))) == number


def test_an_index_among_referrers_is_no_hindrance(tmp_path: Path, hostile: Fixed) -> None:
    made = image(f"{hostile.host}/a/b:1")
    value = {"schemaVersion": 2, "mediaType": INDEX, "artifactType": SIGNATURE_ARTIFACT, "manifests": []}
    value |= {"subject": made.image.to_json()}
    index = made.blobs.add(json.dumps(value).encode(), INDEX)
    made.members.append((index, {}))
    made.referring(signed(made.image.digest, made.repository, US))
    serve(hostile, made)
    blobs = vendored(tmp_path, made, PullImage(made.name, "amd64", trust=trusting(made)))
    assert str(made.members[1][0].digest) in blobs
    assert str(index.digest) not in blobs


def test_one_platform_s_own_signature_is_vendored(tmp_path: Path, hostile: Fixed) -> None:
    made, below = indexed(f"{hostile.host}/a/b:1")
    made.tagged(signed(below.digest, made.repository, US), image=below.digest)
    serve(hostile, made)
    for digest, data in made.blobs.data.items():
        hostile.answers[f"/v2/a/b/manifests/{digest}"] = (200, {"Content-Type": MANIFEST}, data)
    answer = (200, {"Content-Type": INDEX}, made.blobs.data[made.image.digest])
    hostile.answers[f"/v2/a/b/manifests/{made.image.digest}"] = answer
    vendored(tmp_path, made, PullImage(made.name, "amd64", trust=trusting(made)))


# What a user sees, with real tools.


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.make(tmp_path_factory.mktemp("trust") / "project")
    (made.root / "us.pub").write_bytes(US.pem)
    (made.root / "them.pub").write_bytes(THEM.pem)
    return made


@contextlib.contextmanager
def before(registry: str) -> Iterator[Fixed]:
    """A server that passes on what is asked, and keeps it."""
    with fixed_server() as proxy:

        def hook(path: str, headers: Mapping[str, str]) -> Answer:
            kept = {name: headers[name] for name in ("Accept",) if name in headers}
            answer = requests.get(f"http://{registry}{path}", headers=kept, timeout=60)
            return (
                answer.status_code,
                {"Content-Type": answer.headers.get("Content-Type", "")},
                answer.content,
            )

        proxy.hook = hook
        yield proxy


def copied(project: Project, registry: str, name: str) -> Descriptor:
    """Push the project's image ``app`` with skopeo; give its manifest."""
    line = [
        *tool("skopeo", "usr/bin/skopeo"),
        *("--insecure-policy", "copy", "-q", "--dest-tls-verify=false"),
        f"oci:{project.root / 'layout'}:docker.io/test/app:1",
        f"docker://{registry}/{name}:1",
    ]
    result = subprocess.run(line, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    address = f"http://{registry}/v2/{name}/manifests/1"
    answer = requests.get(address, headers={"Accept": MANIFEST}, timeout=60)
    return Descriptor(MANIFEST, Digest.of(answer.content), len(answer.content))


def attached(registry: str, name: str, *layers: Layer, subject: Descriptor | None = None) -> Descriptor:
    """Push a manifest with signatures, under its digest; give it."""
    blobs = Blobs()
    found = manifest(blobs, list(layers), subject, SIGNATURE_ARTIFACT if subject else "")
    for digest, data in blobs.data.items():
        if digest != found.digest:
            upload(registry, name, data)
    put(registry, name, str(found.digest), blobs.data[found.digest], MANIFEST)
    return found


def tagged(registry: str, name: str, image: Descriptor, layer: Layer) -> None:
    """Push a signature as cosign does."""
    found = attached(registry, name, layer)
    answer = requests.get(
        f"http://{registry}/v2/{name}/manifests/{found.digest}", headers={"Accept": MANIFEST}, timeout=60
    )
    put(registry, name, f"sha256-{image.digest.hex}.sig", answer.content, MANIFEST)


def moby(project: Project, *arguments: str, status: int = 0, **environment: str) -> str:
    return run(project, "build", "--format=tar", *arguments, status=status, **environment)


def run(project: Project, *arguments: str, status: int = 0, **environment: str) -> str:
    command = [sys.executable, "-m", "linuxkit_rules", *arguments]
    result = subprocess.run(
        command,
        cwd=project.root,
        env={**project.environment(), "LINUXKIT_IMAGE_LAYOUTS": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == status, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def yml(project: Project, name: str, trust: str) -> None:
    text = f"trust: {trust}\nservices:\n  - name: app\n    image: {name}\n    command: [/app]\n"
    (project.root / "app.yml").write_text(text)


def test_what_is_signed_builds_and_what_is_not_stops(project: Project, registry: str, count: Count) -> None:
    policy = "{policy: [{images: ['127.0.0.1:*/trust/**'], keys: [us.pub]}]}"
    by: dict[str, Signer | None] = {"us": US, "them": THEM, "nobody": None}
    with before(registry) as proxy:
        for name, pair in by.items():
            pushed = copied(project, registry, f"trust/{name}")
            if pair:
                layer = signed(pushed.digest, f"{proxy.host}/trust/{name}", pair)
                tagged(registry, f"trust/{name}", pushed, layer)
        yml(project, f"{proxy.host}/trust/us:1", policy)
        assert f"verify-signature {proxy.host}/trust/us:1 us.pub" in moby(project, "app.yml")
        built = (project.root / "app.tar").read_bytes()
        again = moby(project, "app.yml", LINUXKIT_OFFLINE="1", PYTHONPROFILEIMPORTTIME="1")
        assert "is up to date" in again
        assert "linuxkit_rules.scons" in again
        assert "cryptography" not in again, "nothing is to be verified"

        for name, reason, payloads in (
            ("them", "1 signature is by another key", 1),
            ("nobody", "it has no signatures", 0),
        ):
            proxy.asked.clear()
            yml(project, f"{proxy.host}/trust/{name}:1", policy)
            printed = moby(project, "app.yml", status=1)
            assert f"app.yml:4:12: {proxy.host}/trust/{name}:1: sha256:" in printed
            assert f"is not signed by us.pub: {reason}" in printed
            assert (project.root / "app.tar").read_bytes() == built
            blobs = [path for path, _ in proxy.asked if "/blobs/" in path]
            assert len(blobs) == payloads, "no blob is asked for but a signature's payload"
            count("bad signatures refused")


def test_the_site_s_policy_of_option_and_variable(project: Project, registry: str) -> None:
    pushed = copied(project, registry, "site/app")
    tagged(registry, "site/app", pushed, signed(pushed.digest, f"{registry}/site/app", US))
    yml(project, f"{registry}/site/app:1", "{policy: [{images: ['**'], type: accept}]}")
    for name in ("us", "them"):
        (project.root / f"{name}.yml").write_text(f"policy: [{{images: ['**'], keys: [{name}.pub]}}]\n")
    moby(project, "--trust-policy=us.yml", "app.yml")
    assert "is not signed by them.pub" in moby(project, "--trust-policy=them.yml", "app.yml", status=1)
    printed = moby(project, "app.yml", status=1, LINUXKIT_TRUST_POLICY="them.yml")
    assert "is not signed by them.pub" in printed
    assert "--trust-policy: there is no such file" in moby(project, "--trust-policy=no", "app.yml", status=1)
    moby(project, "app.yml")


def test_a_key_that_changes_is_seen(project: Project, registry: str) -> None:
    """The plan is not taken from memory, and the image is verified anew."""
    pushed = copied(project, registry, "rotate/app")
    tagged(registry, "rotate/app", pushed, signed(pushed.digest, f"{registry}/rotate/app", US))
    yml(
        project,
        f"{registry}/rotate/app:1",
        "{image: [XX], keys: [k.pub]}".replace("XX", f"{registry}/rotate/app"),
    )
    (project.root / "k.pub").write_bytes(US.pem)
    moby(project, "app.yml")
    assert "is up to date" in moby(project, "app.yml")
    (project.root / "k.pub").write_bytes(THEM.pem)
    assert "is not signed by k.pub: 1 signature is by another key" in moby(project, "app.yml", status=1)


def test_the_tag_of_referrers_where_the_registry_knows_no_more(
    project: Project, registry: str, tmp_path: Path
) -> None:
    """Docker's registry 2.8 has no referrers API: clients keep the list under a tag."""
    pushed, name = copied(project, registry, "trust/old"), f"{registry}/trust/old"
    found = attached(registry, "trust/old", signed(pushed.digest, name, US), subject=pushed)
    listed = {**found.to_json(), "artifactType": SIGNATURE_ARTIFACT}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}
    put(registry, "trust/old", f"sha256-{pushed.digest.hex}", json.dumps(index).encode(), INDEX)
    stage = PullImage(f"{name}:1", "amd64", trust=(Requirement((US.key,), 1, name),))
    events(tmp_path)[0].run(stage, {})


def upload(registry: str, repository: str, data: bytes) -> None:
    begun = requests.post(f"http://{registry}/v2/{repository}/blobs/uploads/", timeout=60)
    done = requests.put(
        begun.headers["Location"], params={"digest": str(Digest.of(data))}, data=data, timeout=60
    )
    done.raise_for_status()


def put(registry: str, repository: str, name: str, data: bytes, media_type: str) -> None:
    requests.put(
        f"http://{registry}/v2/{repository}/manifests/{name}",
        data=data,
        headers={"Content-Type": media_type},
        timeout=60,
    ).raise_for_status()


def test_what_is_printed_names_the_keys_from_here(project: Project) -> None:
    (project.root / "sub").mkdir(exist_ok=True)
    (project.root / "sub" / "k.pub").write_bytes(US.pem)
    (project.root / "sub" / "s.yml").write_text(
        "trust: {org: [test], keys: [k.pub], policy: [{images: ['docker.io/test/*'], keys: [../us.pub]}]}\n"
        "init: ['test/init:1']\n"
    )
    printed = moby(project, "--dry-run", "sub/s.yml")
    keys = loads(printed, "printed").trust
    assert (keys.keys, keys.policy[0].keys) == (("sub/k.pub",), ("us.pub",))


def test_what_is_vendored_has_its_signatures(project: Project, registry: str) -> None:
    """Signed images build from the folder alone; the same folder without the signatures does not do."""
    name = f"{registry}/trust/vendored"
    pushed = copied(project, registry, "trust/vendored")
    tagged(registry, "trust/vendored", pushed, signed(pushed.digest, name, US))
    yml(project, f"{name}:1", f"{{policy: [{{images: ['{name}'], keys: [us.pub]}}]}}")
    command = [sys.executable, "-m", "linuxkit_rules", "vendor", "--format=tar", "vendored", "app.yml"]
    environment = {**project.environment(), "LINUXKIT_IMAGE_LAYOUTS": ""}
    subprocess.run(command, cwd=project.root, env=environment, check=True)
    empty = {"LINUXKIT_STORE": str(project.root / "empty")}
    moby(project, "--offline", "--vendor=vendored", "app.yml", **empty)
    index = project.root / "vendored" / "index.json"
    value = json.loads(index.read_text())
    assert len(value["manifests"]) == 2
    value["manifests"] = [item for item in value["manifests"] if "sha256-" not in json.dumps(item)]
    index.write_text(json.dumps(value))
    others = {"LINUXKIT_STORE": str(project.root / "another")}
    printed = moby(project, "--offline", "--vendor=vendored", "app.yml", status=1, **others)
    assert "is not signed by us.pub: it has no signatures" in printed


def test_nothing_unsigned_is_vendored(project: Project, registry: str) -> None:
    copied(project, registry, "trust/unsigned")
    name = f"{registry}/trust/unsigned"
    yml(project, f"{name}:1", f"{{policy: [{{images: ['{name}'], keys: [us.pub]}}]}}")
    command = [sys.executable, "-m", "linuxkit_rules", "vendor", "--format=tar", "refused", "app.yml"]
    environment = {**project.environment(), "LINUXKIT_IMAGE_LAYOUTS": ""}
    result = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "app.yml:4:12: " in result.stderr
    assert not (project.root / "refused" / "index.json").exists()


def test_nothing_unsigned_is_locked(project: Project, registry: str, count: Count) -> None:
    """Neither is its configuration asked for; options are those of a build."""
    with before(registry) as proxy:
        name = f"{proxy.host}/trust/locked"
        pushed = copied(project, registry, "trust/locked")
        lock = project.root / "app.lock"
        yml(project, f"{name}:1", f"{{policy: [{{images: ['{name}'], keys: [us.pub]}}]}}")
        printed = run(project, "lock", "--arch=amd64", "app.yml", status=1)
        assert f"app.yml:4:12: {name}:1: sha256:" in printed
        assert "is not signed by us.pub: it has no signatures" in printed
        assert not proxy.paths("/blobs/")
        assert not lock.exists()
        count("bad signatures refused")

        tagged(registry, "trust/locked", pushed, signed(pushed.digest, name, US))
        (project.root / "site.yml").write_text("policy: [{images: ['**'], keys: [them.pub]}]\n")
        for command in (["lock", "--arch=amd64"], ["vendor", "--format=tar", "site"]):
            refused = run(project, *command, "--trust-policy=site.yml", "app.yml", status=1)
            assert "is not signed by them.pub: 1 signature is by another key" in refused
        assert not lock.exists()
        run(project, "lock", "--arch=amd64", "app.yml")
        assert str(pushed.digest) in lock.read_text()

        yml(project, f"{name}:1", f"{{image: ['{name}']}}")
        for command in (["lock", "--arch=amd64"], ["vendor", "--format=tar", "ignored"]):
            assert "no keys are named" in run(project, *command, "app.yml", status=1)
            printed = run(project, *command, "--ignore-trust", "app.yml")
            assert f"warning: app.yml:1:8: trust: the signatures of {name} are not checked" in printed
    lock.unlink()


def test_each_platform_that_is_locked_is_signed(tmp_path: Path) -> None:
    made, below = indexed("reg.example/a/b:1")
    made.tagged(signed(below.digest, made.repository, US), image=below.digest)
    (tmp_path / "us.pub").write_bytes(US.pem)
    section = loads("trust: {image: [reg.example/a/b], keys: [us.pub]}", "f.yml", str(tmp_path)).trust
    settings = Settings(layouts=(made.write(tmp_path / "layout"),))
    trust, _ = policies_of(section, settings, Evidence())
    locking = Locking(events(tmp_path, offline=True)[0], settings, trust, ("amd64",))
    reference = Reference.parse(made.name)
    (pinned,) = locking.lock({reference: "f.yml:1:1"}).images.values()
    assert pinned.platforms["linux/amd64"].manifest.digest == below.digest
    with pytest.raises(SignatureError, match=str(made.image.digest)):
        dataclasses.replace(locking, arches=("amd64", "arm64")).lock({reference: "f.yml:1:1"})
