"""Limits: how they are written, and what a change of them does to a build."""

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from linuxkit_rules import host
from linuxkit_rules.errors import FormatError, ImageError, UsageError
from linuxkit_rules.formats.compression import decompressed
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.oci.layout import REF_NAME, Layout
from linuxkit_rules.oci.manifest import CONFIG, LAYER, MANIFEST, Manifest, Platform
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.stages.image import LayoutImage, resolve
from linuxkit_rules.stages.stage import Engine, Stage, key
from linuxkit_rules.stages.unpack import Unpack
from linuxkit_rules.stages.whole import WholeImage
from linuxkit_rules.store.blobs import Store
from tests.hostile.resources import zstd_zeros
from tests.images import AMD64, Blobs, tar
from tests.project import Project
from tests.test_layout import put


def test_limits_are_numbers_by_name() -> None:
    found = Limits.parse("entries=2M, total=100G,ratio=2000,name=255")
    assert found == Limits(entries=2 << 20, total=100 << 30, ratio=2000, name=255)
    assert found.changed() == {"entries": 2 << 20, "total": 100 << 30, "ratio": 2000, "name": 255}
    assert Limits.parse("") == Limits.parse(" , ") == DEFAULT_LIMITS
    assert Limits.parse("entries=1000000").changed() == {}


@pytest.mark.parametrize(
    "text",
    [
        *("entrys=1", "entries", "entries=", "entries=0", "entries=-1", "entries=1k", "entries=1.5", "=1"),
        *("entries=1,entries=2", "entries=1e6", "entries = 1", "entries=\u0661", "total=9999999999999999"),
        "document=5M",
    ],
)
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Limits.parse(text)


def test_the_environment_sets_them(tmp_path: Path) -> None:
    variables = {"LINUXKIT_STORE": str(tmp_path), "LINUXKIT_LIMITS": "layers=7"}
    assert host.engine(variables).limits == Limits(layers=7)


def test_only_other_limits_are_part_of_a_key() -> None:
    assert key(Unpack(), {}) == key(Unpack(), {}, Limits()) == key(Unpack(), {}, Limits.parse("layers=500"))
    keys = {key(Unpack(), {}, limits) for limits in (Limits(), Limits(layers=7), Limits(depth=7))}
    assert len(keys) == 3


def test_a_build_looks_again_under_other_limits(tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project")
    project.scons()
    before = (project.root / "out" / "tiny-initrd.img").read_bytes()
    strict = project.scons(check=False, LINUXKIT_LIMITS="entries=1")
    assert re.search(r"tiny.yml:2:3: test/kernel:1: layer sha256:\w+: a tar archive of 2 members", strict)
    assert "more than the 1 allowed (if it is to be trusted, LINUXKIT_LIMITS=entries=" in strict
    project.scons(LINUXKIT_LIMITS="entries=50")
    assert "rootfs" in project.ran()
    assert (project.root / "out" / "tiny-initrd.img").read_bytes() == before
    project.scons()
    assert project.ran() == []
    assert "'many=1' is no limit" in project.scons(check=False, LINUXKIT_LIMITS="many=1")


def bombs() -> Iterator[tuple[str, bytes]]:
    packer = zlib.compressobj(9, wbits=31)
    yield "gzip", b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    yield "zstd", zstandard.compress(bytes(1 << 28))
    yield "zstd runs", zstd_zeros(1 << 30)


@pytest.mark.parametrize("name", ["gzip", "zstd", "zstd runs"])
def test_a_bomb_takes_little_memory(name: str) -> None:
    bomb = dict(bombs())[name]
    largest = size = 0
    for piece in decompressed(io.BytesIO(bomb)):
        largest, size = max(largest, len(piece)), size + len(piece)
    assert size >= 1 << 28
    assert largest <= 1 << 20


def test_the_default_ratio_counts_beyond_a_gib() -> None:
    size = 0
    with pytest.raises(FormatError, match="more than the 500 allowed"):
        for piece in decompressed(io.BytesIO(zstd_zeros(2 << 30))):
            size += len(piece)
    assert (1 << 30) - (1 << 20) <= size <= 1 << 30


@pytest.mark.parametrize("platforms", [None, (AMD64,)], ids=["one platform's image", "the image as it is"])
def test_a_document_that_the_store_has_is_held_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platforms: tuple[Platform, ...] | None
) -> None:
    """A configuration that is a layer of another image, there since that was built."""
    blobs = Blobs()
    layer = blobs.add(tar(a=bytes(90_000)), LAYER)
    top = blobs.add(Manifest(replace(layer, media_type=CONFIG), (layer,)).to_bytes(), MANIFEST)
    name = "registry.example/team/app:1"
    layout = Layout.at(put(tmp_path / "layout", blobs.files((top, {REF_NAME: name}))))
    engine = Engine(Store(tmp_path / "store"), limits=Limits(document=9000))
    engine.store.put(blobs.data[layer.digest])
    monkeypatch.setattr(engine.store, "read", lambda digest: pytest.fail(f"read {digest} wholly"))
    stage: Stage = resolve(Reference.parse(name), "amd64", [layout], tmp_path).stage
    if platforms:
        assert isinstance(stage, LayoutImage)
        stage = WholeImage(stage, platforms)
    with pytest.raises(
        ImageError, match=f"a document of {layer.size} bytes is longer than the 9000"
    ) as caught:
        engine.run(stage, {})
    assert str(layer.digest) in str(caught.value)
