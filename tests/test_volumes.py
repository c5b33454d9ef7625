"""Volumes: trees and OCI image layouts, held against LinuxKit's own, recorded; and images copied whole."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ErrorList, ImageError, LinuxKitError, NetworkError
from linuxkit_rules.formats import cpio, tar
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.layout import REF_NAME, Layout
from linuxkit_rules.oci.manifest import (
    CONFIG,
    DOCKER_MANIFEST,
    INDEX,
    LAYER,
    MANIFEST,
    Index,
    Manifest,
    Member,
    Platform,
    parse,
)
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.plan.graph import Step, realise
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.sources import Sources
from linuxkit_rules.plan.volume import volume_step
from linuxkit_rules.spec.linuxkit import Spec, Volume
from linuxkit_rules.spec.merge import load_all
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.image import resolve
from linuxkit_rules.stages.pack import FIXED_TIME, PackingStage
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.stages.volume import FilesVolume, LayoutVolume
from linuxkit_rules.stages.whole import WholeImage
from linuxkit_rules.store.blobs import Store
from tests.images import AMD64, ARM64, Blobs, pack
from tests.images import tar as archive
from tests.servers.registry import push

SUITE = Path(__file__).resolve().parents[2] / "shared" / "conformance"
CASES = (
    sorted(
        path.parent.name
        for path in (SUITE / "cases").glob("*/golden.json")
        if '"containers/volumes' in path.read_text()
    )
    if SUITE.is_dir()
    else []
)
conformance = pytest.mark.skipif(not CASES, reason=f"the conformance suite is not at {SUITE}")
KINDS = {"dir": Kind.DIRECTORY, "file": Kind.FILE, "symlink": Kind.SYMLINK, "hardlink": Kind.HARDLINK}
KINDS |= {"char": Kind.CHAR, "block": Kind.BLOCK, "fifo": Kind.FIFO}
UNKNOWN = Platform("unknown", "unknown")
NAME = "docker.io/x/app:1"
Source = tuple[str, set[Digest], str]
"""What ``image:`` says, digests of what is there, and the name in the volume's index."""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def step_of(volume: Volume, *layouts: Path, base: Path = Path(), arch: str = "amd64") -> Step:
    sources = Sources(Settings(arch=arch, layouts=layouts))
    return volume_step(volume, sources, base, compression=Compression.NONE, level=0)


def members(engine: Engine, step: Step) -> dict[str, Entry]:
    """What the step packs, as members of an archive of the whole system: they keep every time."""
    assert isinstance(step.stage, PackingStage)
    packed = realise(replace(step, stage=step.stage.as_members()), engine).output
    with engine.store.open(packed.digest) as file:
        return {entry.path: entry for entry in tar.read(file, packed.digest)}


def content(engine: Engine, entry: Entry) -> bytes:
    out = io.BytesIO()
    engine.store.copy(entry.content, out)
    return out.getvalue()


def files(engine: Engine, step: Step) -> dict[str, bytes]:
    """The files of a volume's layout, by their paths in it."""
    made = members(engine, step)
    return {
        path.partition("/lower/")[2]: content(engine, entry)
        for path, entry in made.items()
        if entry.kind is Kind.FILE
    }


def digests(found: dict[str, bytes]) -> set[Digest]:
    return {Digest(path.rpartition("/")[2]) for path in found if path.startswith("blobs/")}


def read_spec(folder: Path) -> tuple[Spec, dict[str, Any]]:
    record = json.loads((folder / "golden.json").read_text())
    return load_all([folder / name for name in record["inputs"]]), record


def expected(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The last record of each path of a volume, with the right ones where upstream strays."""
    wanted = {
        item["path"].rstrip("/"): item
        for item in record["entries"]
        if item["path"].startswith("containers/volumes")
    }
    for deviation in record["deviations"]:
        if deviation["path"].startswith("containers/volumes"):
            wanted.pop(deviation["path"], None)
            if deviation["correct"]:
                wanted[deviation["path"]] = deviation["correct"]
    return wanted


def same(engine: Engine, folder: Path, made: dict[str, Entry], path: str, want: dict[str, Any]) -> None:
    entry = made[path]
    if entry.kind is Kind.HARDLINK and want["type"] == "file":
        entry = made[entry.link]
    assert entry.kind is KINDS[want["type"]]
    if entry.kind is Kind.HARDLINK:
        assert entry.link == want["link"]
        return
    if entry.kind is not Kind.SYMLINK:
        assert entry.mode == int(want["mode"], 8)
    mtime = int(str(want["mtime"]).partition(".")[0])
    assert (entry.uid, entry.gid, entry.mtime) == (want.get("uid", 0), want.get("gid", 0), mtime)
    assert entry.link == want.get("link", "")
    assert {name: value.hex() for name, value in entry.xattrs} == want.get("xattrs", {})
    if entry.kind is not Kind.FILE:
        return
    if want.get("semantic") == "json":
        document = json.loads((folder / want["content"]).read_text())
        assert json.loads(content(engine, entry)) == document
    else:
        assert hashlib.sha256(content(engine, entry)).hexdigest() == want["sha256"]


@pytest.mark.parametrize("case", CASES)
@conformance
def test_volumes_are_those_of_linuxkit(engine: Engine, case: str) -> None:
    folder = SUITE / "cases" / case
    spec, record = read_spec(folder)
    made: dict[str, Entry] = {}
    for volume in spec.volumes:
        step = step_of(volume, SUITE / "images", base=folder, arch=record["arch"])
        made |= members(engine, step)
    wanted = expected(record)
    assert wanted
    assert made.keys() - {"containers"} == wanted.keys()
    for path, want in wanted.items():
        same(engine, folder, made, path, want)


def test_there_are_cases_to_be_held_against() -> None:
    assert CASES or not SUITE.is_dir()


def segment(engine: Engine, step: Step) -> list[Entry]:
    packed = realise(step, engine).output
    return list(cpio.read(io.BytesIO(engine.store.read(packed.digest))))


def test_an_empty_volume_is_four_directories(engine: Engine) -> None:
    found = segment(engine, step_of(Volume("v", readonly=True)))
    paths = ["", "/volumes", "/volumes/v", "/volumes/v/lower", "/volumes/v/tmp", "/volumes/v/merged"]
    assert found == [Entry(f"containers{path}", Kind.DIRECTORY, 0o755, mtime=FIXED_TIME) for path in paths]


def put(root: Path, stored: dict[str, bytes]) -> Path:
    for name, data in stored.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def attested(blobs: Blobs, how: str = "gzip") -> Descriptor:
    """An index of two platforms and an attestation of the first."""
    images = [
        blobs.image([archive(a=platform.architecture.encode() * 99)], how, platform=platform)
        for platform in (AMD64, ARM64)
    ]
    config = blobs.add(b'{"architecture":"unknown","os":"unknown"}', CONFIG)
    statement = Manifest(config, (blobs.add(b'{"_type":"statement"}', "application/vnd.in-toto+json"),))
    about = {"vnd.docker.reference.type": "attestation-manifest"}
    member = Member(blobs.add(statement.to_bytes(), MANIFEST), UNKNOWN, about)
    return blobs.index(Member(images[0], AMD64), Member(images[1], ARM64), member)


def layout(tmp_path: Path, blobs: Blobs, top: Descriptor, name: str = NAME) -> Path:
    return put(tmp_path / "layout", blobs.files((top, {REF_NAME: name})))


def below(blobs: Blobs, image: Descriptor) -> set[Digest]:
    value = parse(blobs.data[image.digest], image.media_type, "test")
    assert isinstance(value, Manifest)
    return {image.digest, value.config.digest, *(item.digest for item in value.layers)}


def oci(image: str = NAME, *platforms: str) -> Volume:
    return Volume("v", image, format="oci", platforms=platforms, where="a.yml:3:5")


def test_a_layout_is_read_back_by_our_own_reader(engine: Engine, tmp_path: Path) -> None:
    blobs = Blobs()
    top = attested(blobs)
    found = files(engine, step_of(oci(), layout(tmp_path, blobs, top)))
    back = Layout.at(put(tmp_path / "back", found))
    assert back.find(Reference.parse("x/app:1")) == back.find_ref(NAME) == top
    assert digests(found) == blobs.data.keys()
    for arch, words in (("amd64", b"amd64"), ("arm64", b"arm64")):
        stage = resolve(Reference.parse(NAME), arch, [back], tmp_path).stage
        (layer,) = (item for item in engine.run(stage, {}).refers if item.media_type == LAYER)
        assert words * 99 in engine.store.read(layer.digest)


@pytest.mark.parametrize("written", ["linux/arm64", "linux/arm64/v8"])
def test_platforms_leave_out_the_others_and_attestations(
    engine: Engine, tmp_path: Path, written: str
) -> None:
    blobs = Blobs()
    top = attested(blobs)
    index = parse(blobs.data[top.digest], INDEX, "test")
    assert isinstance(index, Index)
    found = files(engine, step_of(oci(NAME, written), layout(tmp_path, blobs, top)))
    assert digests(found) == {top.digest} | below(blobs, index.members[1].descriptor)
    assert found[f"blobs/sha256/{top.digest.hex}"] == blobs.data[top.digest]


def test_both_platforms_of_two(engine: Engine, tmp_path: Path) -> None:
    blobs = Blobs()
    top = attested(blobs)
    step = step_of(oci(NAME, "linux/arm64", "linux/amd64"), layout(tmp_path, blobs, top))
    assert len(digests(files(engine, step))) == 7


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(LinuxKitError) as caught:
        action()
    return str(caught.value)


def test_a_missing_platform_is_named_with_those_there_are(engine: Engine, tmp_path: Path) -> None:
    blobs = Blobs()
    root = layout(tmp_path, blobs, attested(blobs))
    step = step_of(oci(NAME, "linux/s390x", "linux/amd64"), root)
    assert refusal(lambda: realise(step, engine)) == (
        f"a.yml:3:5: volume v: {NAME}: there is no image for linux/s390x; there are: "
        "linux/amd64, linux/arm64/v8"
    )
    (image,) = step.inputs
    assert isinstance(image.source, Step)
    assert image.source.where == "a.yml:3:5"


@pytest.mark.parametrize(
    "platform", ["linux", "linux/", "/amd64", "linux/arm/v7/x", "Linux/amd64", "", "linux amd64"]
)
def test_what_is_no_platform_is_refused_before_anything_is_fetched(platform: str) -> None:
    message = refusal(lambda: step_of(oci("x/app:1", platform)))
    assert message.startswith(f"a.yml:3:5: volume 'v': {platform!r} is not a platform (write os/architecture")


def test_all_faults_of_a_volume_are_told_at_once() -> None:
    volume = Volume("v", "@pkg:nothing", format="oci", platforms=("a", "linux/amd64", "b"), where="a.yml:3:5")
    with pytest.raises(ErrorList) as caught:
        step_of(volume)
    assert [error.where for error in caught.value.errors] == ["a.yml:3:5"] * 3
    assert "nothing" in str(caught.value)


def test_a_layout_of_no_image_is_refused() -> None:
    message = refusal(lambda: step_of(oci("")))
    assert message.startswith("a.yml:3:5: volume 'v': format oci needs an image (add image")


@conformance
@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "volume-oci-bad-platform",
            "there is no image for linux/s390x; there are: linux/amd64, linux/arm64/v8",
        ),
        ("volume-oci-blank", "format oci needs an image"),
        ("volume-oci-single", ""),
    ],
)
def test_what_linuxkit_refuses_or_fails_at(engine: Engine, case: str, words: str) -> None:
    folder = SUITE / "invalid" / case
    (volume,) = read_spec(folder)[0].volumes

    def made() -> dict[str, Entry]:
        return members(engine, step_of(volume, SUITE / "images", base=folder))

    if words:
        assert words in refusal(made)
    else:
        assert len([path for path in made() if "/blobs/sha256/" in path]) >= 2


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_a_single_manifest_stays_what_it_is(engine: Engine, tmp_path: Path, docker: bool) -> None:
    blobs = Blobs()
    top = blobs.image([archive(a=b"1"), archive(b=b"2")], "gzip", docker=docker)
    found = files(engine, step_of(oci(NAME, "linux/amd64"), layout(tmp_path, blobs, top)))
    (line,) = json.loads(found["index.json"])["manifests"]
    assert line == {**top.to_json(), "annotations": {REF_NAME: NAME}}
    assert line["mediaType"] == (DOCKER_MANIFEST if docker else MANIFEST)
    assert digests(found) == blobs.data.keys()
    step = step_of(oci(NAME, "linux/arm64"), tmp_path / "layout")
    assert "no image for linux/arm64; there are: linux/amd64" in refusal(lambda: realise(step, engine))


def test_indexes_in_indexes_and_members_without_a_platform(engine: Engine, tmp_path: Path) -> None:
    blobs = Blobs()
    arm, amd = (blobs.image([archive(a=b"x" * n)], platform=p) for n, p in ((1, ARM64), (2, AMD64)))
    inner = blobs.index(Member(arm), Member(amd))
    other = blobs.add(b"anything", "application/x-something")
    top = blobs.index(Member(inner), Member(other, AMD64))
    root = layout(tmp_path, blobs, top)
    assert digests(files(engine, step_of(oci(), root))) == blobs.data.keys()
    chosen = digests(files(engine, step_of(oci(NAME, "linux/amd64"), root)))
    assert chosen == {top.digest, inner.digest} | below(blobs, amd)


def test_indexes_have_an_end(engine: Engine, tmp_path: Path) -> None:
    blobs = Blobs()
    top = blobs.image([])
    for _ in range(6):
        top = blobs.index(Member(top))
    step = step_of(oci(), layout(tmp_path, blobs, top))
    assert "nested more than" in refusal(lambda: realise(step, engine))


def test_a_layer_that_is_not_what_it_says_stays_byte_for_byte(engine: Engine, tmp_path: Path) -> None:
    blobs = Blobs()
    layers = (
        blobs.add(pack(archive(a=b"1"), "zstd"), f"{LAYER}+gzip"),
        blobs.add(b"no tar", LAYER),
        blobs.add(b"", LAYER),
    )
    manifest = Manifest(blobs.add(blobs.config([]), CONFIG), layers)
    top = blobs.add(manifest.to_bytes(), MANIFEST)
    found = files(engine, step_of(oci(), layout(tmp_path, blobs, top)))
    assert {
        Digest(path.rpartition("/")[2]): data for path, data in found.items() if "/" in path
    } == blobs.data


@pytest.mark.parametrize("which", ["layer", "config", "manifest", "index"])
@pytest.mark.parametrize("how", ["other", "short", "long", "missing"])
def test_a_corrupted_blob_is_refused(engine: Engine, tmp_path: Path, which: str, how: str) -> None:
    blobs = Blobs()
    image = blobs.image([archive(a=b"1" * 1000)], "")
    value = parse(blobs.data[image.digest], MANIFEST, "test")
    assert isinstance(value, Manifest)
    top = blobs.index(Member(image, AMD64))
    victim = {"layer": value.layers[0], "config": value.config, "manifest": image, "index": top}[which]
    root = layout(tmp_path, blobs, top)
    path = root / "blobs" / "sha256" / victim.digest.hex
    data = path.read_bytes()
    changed = {"other": b" " + data[1:], "short": data[:-1], "long": data + b" "}
    path.write_bytes(changed[how]) if how in changed else path.unlink()
    with pytest.raises(ImageError, match=victim.digest.hex):
        realise(step_of(oci(), root), engine)
    assert not engine.store.has(victim)
    assert all(
        Digest.of(blob.read_bytes()).hex == blob.name for blob in engine.store.root.glob("blobs/sha256/*")
    )


def test_what_is_in_the_store_is_not_fetched_again(engine: Engine, tmp_path: Path) -> None:
    blobs = Blobs()
    root = layout(tmp_path, blobs, attested(blobs))
    before = realise(step_of(oci(), root), engine).output
    for path in (root / "blobs" / "sha256").iterdir():
        path.unlink()
    events: list[Event] = []
    engine.report = events.append
    assert realise(step_of(oci(), root), engine).output == before
    assert {(event.stage, event.how) for event in events} == {
        ("whole-image", "hit"),
        ("layout-volume", "hit"),
    }


def as_archive(stored: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, data in stored.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return out.getvalue()


def saved(tmp_path: Path) -> Source:
    """What docker save writes, in short."""
    layer, config = archive(a=b"1"), Blobs().config([archive(a=b"1")])
    listing = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l/layer.tar"]}]
    stored = {"c.json": config, "l/layer.tar": layer, "manifest.json": json.dumps(listing).encode()}
    (tmp_path / "app.tar").write_bytes(as_archive(stored))
    return "docker-archive:app.tar:app:1", {Digest.of(layer), Digest.of(config)}, "app:1"


def oci_archive(tmp_path: Path) -> Source:
    blobs = Blobs()
    named = blobs.files((attested(blobs), {REF_NAME: "1"}))
    (tmp_path / "app.tar").write_bytes(as_archive(named))
    return "oci-archive:app.tar", set(blobs.data), ""


def oci_folder(tmp_path: Path) -> Source:
    blobs = Blobs()
    layout(tmp_path, blobs, attested(blobs), "1")
    return "oci:layout:1", set(blobs.data), "1"


def component(tmp_path: Path) -> Source:
    put(
        tmp_path / "mine", {"build.yml": b"image: mine\npackages: []\ncmd: [/app]\n", "rootfs/app": b"mine\n"}
    )
    return "@pkg:./mine", set(), "mine"


@pytest.mark.parametrize("make", [saved, oci_archive, oci_folder, component])
def test_every_kind_of_image(engine: Engine, tmp_path: Path, make: Callable[[Path], Source]) -> None:
    text, there, name = make(tmp_path)
    found = files(engine, step_of(oci(text), base=tmp_path))
    assert there <= digests(found)
    chosen = files(engine, step_of(oci(text, "linux/amd64"), base=tmp_path))
    assert digests(chosen) <= digests(found)
    root = put(tmp_path / "back", chosen)
    (member,) = Layout.at(root).index.members
    assert member.annotations == ({REF_NAME: name} if name else {})
    trees = [members(engine, step_of(Volume("v", image), base=tmp_path)) for image in (text, "oci:back")]
    assert trees[0] == trees[1]


def test_a_registry_gives_everything(registry: str, engine: Engine, tmp_path: Path) -> None:
    blobs = Blobs()
    top = attested(blobs)
    push(registry, blobs, top, "v/app", "1")
    name = f"{registry}/v/app:1"
    found = files(engine, step_of(oci(name)))
    assert digests(found) == blobs.data.keys()
    assert {
        Digest(path.rpartition("/")[2]): data for path, data in found.items() if "/" in path
    } == blobs.data
    assert Layout.at(put(tmp_path / "back", found)).find(Reference.parse(name)) == top
    chosen = files(engine, step_of(oci(name, "linux/amd64")))
    assert len(digests(chosen)) == 4
    pinned = f"{registry}/v/app@{top.digest}"
    assert digests(files(engine, step_of(oci(pinned)))) == blobs.data.keys()


def test_without_a_network_a_registry_is_not_asked(tmp_path: Path) -> None:
    engine = Engine(Store(tmp_path / "store"), access=Access(offline=True))
    with pytest.raises(NetworkError, match="nothing may be fetched"):
        realise(step_of(oci("127.0.0.1:1/v/app:1")), engine)


def test_bytes_move_only_with_the_stages_versions(engine: Engine, tmp_path: Path) -> None:
    """Where this fails, raise the ``version`` of the stage, then put the new pair here."""
    blobs = Blobs()
    root = layout(tmp_path, blobs, attested(blobs, ""))
    laid_out = step_of(oci(), root)
    (image,) = laid_out.inputs
    assert isinstance(image.source, Step)
    steps = {FilesVolume: step_of(Volume("v", NAME), root), LayoutVolume: laid_out, WholeImage: image.source}
    found = {
        kind.name: (kind.version, realise(step, engine).output.digest.hex[:16])
        for kind, step in steps.items()
    }
    assert found == {
        "volume": (3, "6614e3d8e4340ad2"),
        "layout-volume": (1, "03a257bfc06ee2ea"),
        "whole-image": (2, "72513578106a49f2"),
    }


def test_names_of_steps_say_the_volume(tmp_path: Path) -> None:
    blobs = Blobs()
    step = step_of(oci(), layout(tmp_path, blobs, attested(blobs)))

    def names(item: Step) -> Iterator[str]:
        yield item.name
        for given in item.inputs:
            if isinstance(given.source, Step):
                yield from names(given.source)

    assert list(names(step)) == ["volumes/v/segment", "volumes/v/image"]
