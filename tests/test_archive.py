"""Images in one file: ``docker save`` archives and archives of layouts, plain and compressed."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import ImageError
from linuxkit_rules.oci.image import Image, load
from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.oci.reference import parse_source
from linuxkit_rules.plan.graph import LocalFile, ingest
from linuxkit_rules.stages.image import resolve
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.images import ARM64, Blobs, pack, tar

LOWER, UPPER = tar(a=b"1", b=b"2"), tar(b=b"3")


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def fetch(engine: Engine, source: str, base: Path) -> Image:
    found = resolve(parse_source(source), "amd64", [], base)
    archive = ingest(LocalFile(found.archive), engine)
    return load(engine.store, engine.run(found.stage, {"archive": [archive]}).output)


def contents(engine: Engine, image: Image) -> list[bytes]:
    return [engine.store.read(layer.digest) for layer in image.layers]


def saved(*images: tuple[list[str], list[bytes]], how: str = "") -> dict[str, bytes]:
    """The files of an archive as Docker before 25 writes it."""
    files: dict[str, bytes] = {}
    entries = []
    for tags, layers in images:
        config = Blobs().config(layers)
        names = [f"{Digest.of(layer).hex}/layer.tar" for layer in layers]
        files |= {name: pack(layer, how) for name, layer in zip(names, layers, strict=True)}
        files[f"{Digest.of(config).hex}.json"] = config
        entries.append({"Config": f"{Digest.of(config).hex}.json", "RepoTags": tags or None, "Layers": names})
    return {**files, "manifest.json": json.dumps(entries).encode()}


@pytest.mark.parametrize("outer", ["", "gzip", "zstd"])
@pytest.mark.parametrize("how", ["", "gzip"])
def test_docker_archive(tmp_path: Path, engine: Engine, outer: str, how: str) -> None:
    data = tar(**saved((["x/app:1"], [LOWER, UPPER]), how=how))
    (tmp_path / "a.tar").write_bytes(pack(data, outer))
    for source in ("docker-archive:a.tar", "docker-archive:a.tar:docker.io/x/app:1"):
        assert contents(engine, fetch(engine, source, tmp_path)) == [LOWER, UPPER]


@pytest.mark.parametrize("outer", ["", "gzip"])
@pytest.mark.parametrize("ref", ["", ":x/app:1", ":1"])
def test_oci_archive(tmp_path: Path, engine: Engine, outer: str, ref: str) -> None:
    blobs = Blobs()
    data = tar(**blobs.files((blobs.image([LOWER, UPPER]), {REF_NAME: "docker.io/x/app:1"})))
    (tmp_path / "a.tar").write_bytes(pack(data, outer))
    assert contents(engine, fetch(engine, f"oci-archive:a.tar{ref}", tmp_path)) == [LOWER, UPPER]


def test_both_forms_of_an_image_come_out_equal(tmp_path: Path, engine: Engine) -> None:
    blobs = Blobs()
    layout = blobs.files((blobs.image([LOWER]), {REF_NAME: "a/b:1"}))
    (tmp_path / "a.tar").write_bytes(tar(**layout, **saved((["a/b:1"], [LOWER]))))
    found = [fetch(engine, f"{form}-archive:a.tar", tmp_path).manifest for form in ("oci", "docker")]
    assert found[0] == found[1]


def test_a_layer_may_be_a_link_inside_the_archive(tmp_path: Path, engine: Engine) -> None:
    """Older Docker wrote a layer that two images share once, and symbolic links to it."""
    files = saved((["x/app:1"], [LOWER]))
    (name,) = (path for path in files if path.endswith("layer.tar"))
    layer = files.pop(name)
    out = io.BytesIO(tar(**files, **{"real/layer.tar": layer}))
    with tarfile.open(fileobj=out, mode="a") as archive:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, "../real/layer.tar"
        archive.addfile(link)
    (tmp_path / "a.tar").write_bytes(out.getvalue())
    assert contents(engine, fetch(engine, "docker-archive:a.tar", tmp_path)) == [LOWER]


def test_one_of_several_images_is_chosen_by_name(tmp_path: Path, engine: Engine) -> None:
    data = tar(**saved((["x/app:1", "y:2"], [LOWER]), (["x/app:2"], [UPPER]), ([], [LOWER, UPPER])))
    (tmp_path / "a.tar").write_bytes(data)
    assert contents(engine, fetch(engine, "docker-archive:a.tar:y:2", tmp_path)) == [LOWER]
    assert contents(engine, fetch(engine, "docker-archive:a.tar:x/app:2", tmp_path)) == [UPPER]
    for ref, why in (("", "3 images"), (":x/app:3", "there is no image 'x/app:3'")):
        with pytest.raises(ImageError, match=why) as caught:
            fetch(engine, f"docker-archive:a.tar{ref}", tmp_path)
        assert "there are: x/app:1, y:2, x/app:2" in str(caught.value)


def archive_with(change: dict[str, Any]) -> bytes:
    files = saved((["x/app:1"], [LOWER]))
    (entry,) = json.loads(files["manifest.json"])
    return tar(**{**files, "manifest.json": json.dumps([{**entry, **change}]).encode()})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no manifest.json"),
        (b"no archive" * 100, "no archive of images"),
        (gzip.compress(b"x" * 99)[:-9], "no archive of images"),
        (tar(a=b""), "no manifest.json"),
        (tar(**{"manifest.json": b"{}"}), "list of objects"),
        (tar(**{"manifest.json": b"[1]"}), "list of objects"),
        (tar(**{"manifest.json": b"[]"}), "there is no image"),
        (archive_with({"Config": 1}), "as paths"),
        (archive_with({"Config": "../../etc/passwd"}), "lacks ../../etc/passwd"),
        (archive_with({"Layers": "x"}), "a list"),
        (archive_with({"Layers": ["nosuch/layer.tar"]}), "lacks nosuch/layer.tar"),
        (archive_with({"Layers": []}), "has 1 layers, the manifest 0"),
        (archive_with({"Layers": ["manifest.json"]}), "was expected"),
        (archive_with({"Config": "manifest.json"}), "not a JSON object"),
    ],
)
def test_a_malformed_docker_archive_is_refused(tmp_path: Path, engine: Engine, data: bytes, why: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ImageError, match=why) as caught:
        fetch(engine, "docker-archive:a.tar", tmp_path)
    assert str(caught.value).startswith("a.tar")


def test_a_link_that_turns_in_circles_is_refused(tmp_path: Path, engine: Engine) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("manifest.json")
        link.type, link.linkname = tarfile.SYMTYPE, "manifest.json"
        archive.addfile(link)
    (tmp_path / "a.tar").write_bytes(out.getvalue())
    with pytest.raises(ImageError, match="is no file"):
        fetch(engine, "docker-archive:a.tar", tmp_path)


def test_an_oci_archive_is_verified(tmp_path: Path, engine: Engine) -> None:
    blobs = Blobs()
    files = blobs.files((blobs.image([LOWER]), {REF_NAME: "a/b:1"}))
    layer = next(name for name, data in files.items() if data[:2] == b"\x1f\x8b")
    (tmp_path / "a.tar").write_bytes(tar(**{**files, layer: files[layer][:-1] + b"x"}))
    with pytest.raises(ImageError, match="wrong content"):
        fetch(engine, "oci-archive:a.tar", tmp_path)


def test_another_platform_is_refused(tmp_path: Path, engine: Engine) -> None:
    blobs = Blobs()
    files = blobs.files((blobs.image([LOWER], platform=ARM64), {}))
    (tmp_path / "a.tar").write_bytes(tar(**files))
    with pytest.raises(ImageError, match=r"a.tar: the image is for linux/arm64/v8, not for linux/amd64"):
        fetch(engine, "oci-archive:a.tar", tmp_path)
