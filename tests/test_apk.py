"""The package databases of several init images are one; a single one stays as it is."""

import json
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.oci.image import save
from linuxkit_rules.oci.manifest import LAYER
from linuxkit_rules.stages.apk import INSTALLED, ApkDatabase
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.images import tar


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path))


def image(engine: Engine, **files: bytes) -> Descriptor:
    layer = engine.store.put(tar(**files), LAYER)
    rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    return save(engine.store, json.dumps(config).encode(), (layer,)).output


def packed(engine: Engine, *images: Descriptor) -> tuple[str, dict[str, Entry]]:
    stage = ApkDatabase(compression=Compression.NONE)
    blob = engine.run(stage, {"image": images}).output
    with engine.store.open(blob.digest) as file:
        return blob.digest.hex[:16], {item.path: item for item in cpio.read(file)}


def test_two_are_joined_with_two_newlines_after_each(engine: Engine) -> None:
    first, none = image(engine, **{INSTALLED: b"P:a\n"}), image(engine, init=b"")
    second = image(engine, **{INSTALLED: b"P:b\n"})
    digest, tree = packed(engine, first, none, second)
    assert (tree[INSTALLED].content, tree[INSTALLED].mtime) == (b"P:a\n\n\nP:b\n\n\n", 0)
    assert (ApkDatabase.version, digest) == (2, "191ef7789442cde5")


def test_one_alone_is_left_to_its_image(engine: Engine) -> None:
    assert packed(engine, image(engine, **{INSTALLED: b"P:a\n"}), image(engine, init=b""))[1] == {}
