"""What a policy asks to be signed is verified before anything of it is used, pulled or vendored."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import NetworkError, SignatureError
from linuxkit_rules.oci.image import load
from linuxkit_rules.oci.layout import REF_NAME, Layout
from linuxkit_rules.oci.manifest import INDEX, MANIFEST, Member, Platform
from linuxkit_rules.oci.mirrors import Mirror
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.signature import BUNDLE, LIMIT, PAYLOAD_LIMIT, SIGNATURE_ARTIFACT
from linuxkit_rules.oci.verify import Requirement
from linuxkit_rules.plan.graph import Step
from linuxkit_rules.plan.vendor import Wanted, vendor
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.image import LayoutImage, PullImage, resolve
from linuxkit_rules.stages.stage import Engine, Event, key
from linuxkit_rules.stages.verify import VERIFIED
from linuxkit_rules.stages.whole import WholeImage
from linuxkit_rules.store.blobs import Store
from tests.images import AMD64, ARM64, Blobs, tar
from tests.servers.fixed import Answer, Fixed, fixed_server
from tests.servers.pulling import Slept
from tests.signing import (
    THEM,
    US,
    Layer,
    Signed,
    bundle,
    signed,
    statement,
)

PLAIN = tar(a=b"what is signed" * 1000)
EVIL = tar(a=b"what is not" * 1000)
Count = Callable[..., None]


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
