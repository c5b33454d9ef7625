"""Layered mode where the store has lost something, or a remote cache has it: what is needed is made again."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.layers import SAVING
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.project import Project
from tests.servers.dav import dav_server
from tests.test_gc import moby
from tests.test_layered import initrd, planned, write


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return _project(tmp_path)


def _project(folder: Path) -> Project:
    """A project whose layers are compressed: their plain archives are the store's alone."""
    project = Project.make(folder)
    project.edit('"kernel+initrd"]', '"kernel+initrd"], layered=True', "SConstruct")
    return project


def test_any_blob_can_be_lost(tmp_path: Path, count: Callable[..., None]) -> None:
    """Trees of layers are read only when one has to be packed, which may be long after they were made."""
    yml = write(tmp_path)
    store = Store(tmp_path / "store")
    before = initrd(planned(yml), Engine(store))
    packed = Settings(layouts=(tmp_path / "layout",), layered=True, compression=Compression.GZIP)
    for path in sorted((store.root / "blobs/sha256").iterdir()):
        shutil.copytree(store.root, tmp_path / "copy")
        (tmp_path / "copy/blobs/sha256" / path.name).unlink()
        assert initrd(plan({yml.name: yml}, yml.stem, packed), Engine(Store(tmp_path / "copy"))) == before
        shutil.rmtree(tmp_path / "copy")
        count("blobs of layered builds lost, and made again")


def test_another_compression_after_old_things_were_dropped(project: Project) -> None:
    project.scons()
    month = time.time() - 40 * 86400
    for folder in ("blobs/sha256", "entries"):
        for path in (project.root / "store" / folder).iterdir():
            os.utime(path, (month, month))
    project.scons()
    assert not moby(project.root / "store", "gc", "--max-age", "30d").startswith("removed 0 blobs")
    project.scons()
    assert project.ran() == []
    for compression in ("gzip", "zstd:7"):
        project.scons(LINUXKIT_COMPRESSION=compression)
        assert "layers" in project.ran()


def test_another_compression_of_what_a_remote_cache_has(tmp_path: Path) -> None:
    with dav_server(tmp_path) as dav:
        first, second = _project(tmp_path / "1"), _project(tmp_path / "2")
        first.scons(LINUXKIT_REMOTE_CACHE=dav.url, LINUXKIT_REMOTE_CACHE_MODE="rw")
        assert "tiny: 2 layers, used 2 times" in second.scons(LINUXKIT_REMOTE_CACHE=dav.url)
        assert {("remote", "layering"), ("remote", "layers")} <= {item[:2] for item in second.events}
        for compression in ("gzip", "zstd:7"):
            second.scons(LINUXKIT_REMOTE_CACHE=dav.url, LINUXKIT_COMPRESSION=compression)
            assert "layers" in second.ran()


def test_a_build_does_not_fail_for_want_of_the_saving(project: Project) -> None:
    """What is told at the end is read when all has been built."""
    project.scons()
    refers = json.loads((project.root / "out/.linuxkit/tiny/containers/layers.json").read_text())["refers"]
    (saving,) = [item["digest"].removeprefix("sha256:") for item in refers if item["mediaType"] == SAVING]
    blob = project.root / "store/blobs/sha256" / saving
    blob.chmod(0o644)
    blob.write_bytes(bytes(blob.stat().st_size))
    project.edit("hello", "hi")
    assert "layers, used" not in project.scons()
    assert project.ran() == ["files", "join"]
    project.edit("hi", "hello again")
    assert "2 layers, used 2 times" in project.scons()
