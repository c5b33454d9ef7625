"""OCI image layouts as a source of images, and as what the store's images are written to."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError
from linuxkit_rules.oci.image import load
from linuxkit_rules.oci.layout import CONTAINERD_NAME, REF_NAME, Layout, write_layout
from linuxkit_rules.oci.manifest import LAYER, MANIFEST, Member, Platform
from linuxkit_rules.oci.reference import Reference, parse_source
from linuxkit_rules.stages.image import ArchiveImage, LayoutImage, PullImage, resolve
from linuxkit_rules.stages.stage import Engine, Event, key
from linuxkit_rules.store.blobs import Store
from tests.images import AMD64, ARM64, Blobs, tar

LOWER, UPPER = tar(a=b"1", b=b"2"), tar(b=b"3")
NAME = "docker.io/x/app:1"
CONFORMANCE = Path(__file__).resolve().parents[2] / "shared" / "conformance" / "images"


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def fetch(root: Path, engine: Engine, text: str, arch: str = "amd64") -> Descriptor:
    return engine.run(resolve(parse_source(text), arch, [Layout.at(root)], root.parent).stage, {}).output


def one(tmp_path: Path, layers: list[bytes] | None = None, how: str = "gzip", **more: bool) -> Path:
    blobs = Blobs()
    image = blobs.image([LOWER, UPPER] if layers is None else layers, how, **more)
    return put(tmp_path / "layout", blobs.files((image, {REF_NAME: NAME})))


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
def test_layers_come_out_plain_and_the_manifest_normal(
    tmp_path: Path, engine: Engine, how: str, docker: bool
) -> None:
    found = fetch(one(tmp_path, how=how, docker=docker), engine, NAME)
    image = load(engine.store, found)
    assert found.media_type == image.manifest.media_type == MANIFEST
    assert [layer.media_type for layer in image.layers] == [LAYER, LAYER]
    assert [engine.store.read(layer.digest) for layer in image.layers] == [LOWER, UPPER]
    assert image.config["config"] == {"Cmd": ["/a"]}
    assert image.settings.cmd == ("/a",)
    assert image.platform == AMD64


def test_equal_images_come_out_equal_however_they_are_packed(tmp_path: Path, engine: Engine) -> None:
    found = {
        fetch(one(tmp_path / f"{how}{docker}", how=how, docker=docker), engine, NAME)
        for how in ("", "gzip", "zstd")
        for docker in (False, True)
    }
    assert len(found) == 1


def test_an_image_without_layers(tmp_path: Path, engine: Engine) -> None:
    assert load(engine.store, fetch(one(tmp_path, layers=[]), engine, NAME)).layers == ()


def test_an_index_gives_the_platform_s_image(tmp_path: Path, engine: Engine) -> None:
    blobs = Blobs()
    members = [Member(blobs.image([tar(a=p.architecture.encode())], platform=p), p) for p in (ARM64, AMD64)]
    nested = blobs.index(Member(blobs.index(*members)))
    root = put(tmp_path / "layout", blobs.files((nested, {REF_NAME: NAME})))
    for arch in ("amd64", "arm64"):
        (layer,) = load(engine.store, fetch(root, engine, NAME, arch)).layers
        assert engine.store.read(layer.digest) == tar(a=arch.encode())


def test_an_endless_index_is_refused(tmp_path: Path, engine: Engine) -> None:
    blobs = Blobs()
    image = blobs.image([])
    for _ in range(10):
        image = blobs.index(Member(image))
    root = put(tmp_path / "layout", blobs.files((image, {REF_NAME: NAME})))
    with pytest.raises(ImageError, match="nested"):
        fetch(root, engine, NAME)


def test_another_platform_is_refused_though_nothing_announced_it(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(ImageError, match=r"app:1: the image is for linux/amd64, not for linux/arm64"):
        fetch(one(tmp_path), engine, NAME, "arm64")


def test_where_the_layout_lies_is_no_part_of_the_key(tmp_path: Path, engine: Engine) -> None:
    stages = [
        resolve(Reference.parse(NAME), "amd64", [Layout.at(one(tmp_path / at))], tmp_path).stage
        for at in ("here", "there")
    ]
    assert key(stages[0], {}) == key(stages[1], {})


def test_a_shared_layer_is_fetched_once(tmp_path: Path) -> None:
    events: list[Event] = []
    engine = Engine(Store(tmp_path / "store"), events.append)
    fetch(one(tmp_path / "a", [LOWER, LOWER]), engine, NAME)
    fetch(one(tmp_path / "b", [LOWER, UPPER]), engine, NAME)
    layers = [event.how for event in events if event.stage == "fetch-layer"]
    assert sorted(layers) == ["hit", "hit", "run", "run"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[:-1], "ends after"),
        (lambda data: data + b"x", "longer than"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "wrong content"),
        (None, "is missing"),
    ],
    ids=["short", "long", "changed", "gone"],
)
@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_a_damaged_blob_is_refused(
    tmp_path: Path, engine: Engine, which: str, change: Callable[[bytes], bytes] | None, why: str
) -> None:
    blobs = Blobs()
    image = blobs.image([LOWER])
    config = blobs.config([LOWER])
    layer = next(digest for digest in blobs.data if digest not in (image.digest, Digest.of(config)))
    victim = {"manifest": image.digest, "config": Digest.of(config), "layer": layer}[which]
    root = put(tmp_path / "layout", blobs.files((image, {REF_NAME: NAME})))
    path = root / "blobs" / "sha256" / victim.hex
    data = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(data))
    with pytest.raises(ImageError, match=why) as caught:
        fetch(root, engine, NAME)
    assert victim.hex in str(caught.value)
    assert not engine.store.path(Digest.of(LOWER)).exists()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"rootfs": {"diff_ids": [str(Digest.of(UPPER))]}}, "was expected"),
        ({"rootfs": {"diff_ids": []}}, "has 0 layers, the manifest 1"),
        ({"rootfs": {"diff_ids": ["md5:00"]}}, "not a digest"),
        ({"rootfs": {"diff_ids": [1]}}, "no list"),
        ({"rootfs": []}, "no list"),
        ({"os": None}, "needs os"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    tmp_path: Path, engine: Engine, config: dict[str, object], why: str
) -> None:
    blobs = Blobs()
    image = blobs.image([LOWER], config=blobs.config([LOWER], **config))
    root = put(tmp_path / "layout", blobs.files((image, {REF_NAME: NAME})))
    with pytest.raises(ImageError, match=why):
        fetch(root, engine, NAME)


def test_a_layer_that_is_cut_inside_its_compression(tmp_path: Path, engine: Engine) -> None:
    blobs = Blobs()
    cut = blobs.image([tar(a=os.urandom(4096))])
    layer = next(d for d, data in blobs.data.items() if data[:2] == b"\x1f\x8b")
    short = blobs.add(blobs.data[layer][:-20], f"{LAYER}+gzip")
    old = blobs.data[cut.digest]
    assert len(blobs.data[layer]) > 100
    new = old.replace(layer.hex.encode(), short.digest.hex.encode())
    new = new.replace(f'"size":{len(blobs.data[layer])}'.encode(), f'"size":{short.size}'.encode())
    root = put(tmp_path / "layout", blobs.files((blobs.add(new, MANIFEST), {REF_NAME: NAME})))
    with pytest.raises(ImageError, match="ends too early"):
        fetch(root, engine, NAME)


def named(tmp_path: Path) -> tuple[Path, dict[str, Descriptor]]:
    """A layout of images with names of all kinds."""
    blobs = Blobs()
    images = {name: blobs.image([tar(a=name.encode())]) for name in ("full", "other", "tag", "contained")}
    files = blobs.files(
        (images["full"], {REF_NAME: NAME}),
        (images["other"], {REF_NAME: "reg.example.com/x/app:2"}),
        (images["tag"], {REF_NAME: "v9"}),
        (images["contained"], {REF_NAME: "v10", CONTAINERD_NAME: "docker.io/library/c:v10"}),
    )
    return put(tmp_path / "layout", files), images


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("x/app:1", "full"),
        ("docker.io/x/app:1", "full"),
        ("reg.example.com/x/app:2", "other"),
        ("c:v10", "contained"),
        ("x/app", None),
        ("x/app:2", None),
        ("v9", None),
        ("library/v9", None),
    ],
)
def test_full_references_are_found(tmp_path: Path, name: str, which: str | None) -> None:
    root, images = named(tmp_path)
    assert Layout.at(root).find(Reference.parse(name)) == (images[which] if which else None)


def test_a_digest_decides_inside_its_repository(tmp_path: Path) -> None:
    root, images = named(tmp_path)
    layout = Layout.at(root)
    digest = images["full"].digest
    for name in ("x/app", "x/app:1", "x/app:nosuch"):
        assert layout.find(Reference.parse(f"{name}@{digest}")) == images["full"]
    assert layout.find(Reference.parse(f"reg.example.com/x/app:2@{digest}")) is None
    assert layout.find(Reference.parse(f"x/app:1@sha256:{'0' * 64}")) is None


@pytest.mark.parametrize(
    ("ref", "which"),
    [
        ("docker.io/x/app:1", "full"),
        ("x/app:1", "full"),
        ("1", "full"),
        ("2", "other"),
        ("v9", "tag"),
        ("v10", "contained"),
        ("c:v10", "contained"),
    ],
)
def test_a_layout_s_own_refs_are_found(tmp_path: Path, ref: str, which: str) -> None:
    root, images = named(tmp_path)
    stage = resolve(parse_source(f"oci:layout:{ref}"), "amd64", [], tmp_path).stage
    assert isinstance(stage, LayoutImage)
    assert (stage.digest, stage.directory) == (images[which].digest, root)


def test_a_digest_is_a_ref_too(tmp_path: Path) -> None:
    root, images = named(tmp_path)
    assert Layout.at(root).find_ref(str(images["tag"].digest)) == images["tag"]
    assert Layout.at(root).find_ref(f"x/app@{images['full'].digest}") == images["full"]


@pytest.mark.parametrize(("ref", "why"), [("nosuch", "no image 'nosuch'"), ("", "4 images match")])
def test_what_a_layout_has_instead_is_told(tmp_path: Path, ref: str, why: str) -> None:
    root, _ = named(tmp_path)
    with pytest.raises(ImageError, match=why) as caught:
        Layout.at(root).find_ref(ref)
    assert "docker.io/x/app:1, reg.example.com/x/app:2, v10, v9" in str(caught.value)


def test_the_only_image_needs_no_name(tmp_path: Path) -> None:
    blobs = Blobs()
    image = blobs.image([LOWER])
    root = put(tmp_path / "layout", blobs.files((image, {})))
    assert Layout.at(root).find_ref("") == image


def test_no_layout_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no OCI image layout: oci-layout: No such file"):
        Layout.at(tmp_path).find_ref("")
    put(tmp_path, {"oci-layout": b'{"imageLayoutVersion":"2.0.0"}'})
    with pytest.raises(ImageError, match="unknown version"):
        Layout.at(tmp_path).find_ref("")


def test_what_no_layout_has_comes_from_its_registry(tmp_path: Path) -> None:
    root, _ = named(tmp_path)
    stage = resolve(Reference.parse("x/nosuch"), "amd64", [Layout.at(root)], tmp_path).stage
    assert stage == PullImage("docker.io/x/nosuch:latest", "amd64")


def test_an_archive_is_an_input_and_not_opened_at_planning_time(tmp_path: Path) -> None:
    found = resolve(parse_source("docker-archive:a.tar:x"), "amd64", [], tmp_path)
    assert found.archive == tmp_path / "a.tar"
    assert isinstance(found.stage, ArchiveImage)


def test_an_image_written_to_a_layout_is_read_back(tmp_path: Path, engine: Engine) -> None:
    image = fetch(one(tmp_path), engine, NAME)
    written = tmp_path / "written"
    write_layout(written, engine.store, [(NAME, image, AMD64)])
    again = Engine(Store(tmp_path / "second"))
    assert fetch(written, again, NAME) == image
    with pytest.raises(ImageError, match="empty directory"):
        write_layout(written, engine.store, [])


@pytest.mark.skipif(not CONFORMANCE.is_dir(), reason="the conformance suite is not beside this repository")
def test_every_image_of_the_conformance_suite(engine: Engine) -> None:
    layout = Layout.at(CONFORMANCE)
    refused = []
    for member in layout.index.members:
        name = member.annotations[REF_NAME]
        try:
            image = load(engine.store, fetch(CONFORMANCE, engine, name))
        except ImageError:
            refused.append(name)
            continue
        assert image.platform == Platform("linux", "amd64")
        for layer in image.layers:
            with engine.store.open(layer.digest) as file, tarfile.open(fileobj=file) as archive:
                archive.getnames()
    assert refused == ["docker.io/conformance/man-arm-only:1", "docker.io/conformance/man-single-arm:1"]
