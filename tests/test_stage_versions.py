"""A stage whose bytes move for fixed inputs must raise its version, or stores go on giving the old bytes.

When this fails: raise ``version`` in the stage's class, then put the new pair below.
"""

import dataclasses
import importlib
import pkgutil
from contextvars import ContextVar
from pathlib import Path

import pytest

import linuxkit_rules.stages
from linuxkit_rules.digest import Digest
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.outputs.registry import by_name
from linuxkit_rules.plan.graph import realise
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from tests.contents import whole
from tests.project import Project

RECORDED = {
    "archive": (2, "278bc781c51aabf2"),
    "boot": (2, "b6ab06f4b40fb85b"),
    "bundle": (2, "9fcd148cc82cb906"),
    "container-rootfs": (5, "1ce1d0b7187c044e"),
    "files": (1, "d8843053616d3efb"),
    "image-layers": (2, "79e81d2124838eb0"),
    "join": (3, "910352bdb9cd6d7e"),
    "kernel-tar": (2, "38724c20a1c98d4f"),
    "kernel": (2, "50e4dd034c969f54"),
    "layer": (1, "d43aab3db64889bd"),
    "layer-digests": (1, "c6469e45476e76ec"),
    "layering": (2, "989945745133a5c2"),
    "layers": (1, "42a6385fac4f07ef"),
    "layout-image": (2, "54e51ed79138e761"),
    "rootfs": (5, "7fe53f6c4ea02623"),
    "segment": (1, "5e3a085f3186b4a7"),
    "shared-layers": (1, "285c48f980bd30e9"),
    "text": (1, "a9d14375b5c322f5"),
    "unpack": (2, "3a16918474b13077"),
}

READERS = {
    "apk": 2,
    "archive-image": 2,
    "boot": 2,
    "container-rootfs": 5,
    "deb": 2,
    "fetch-layer": 2,
    "image-layers": 2,
    "kernel": 2,
    "layering": 2,
    "layout-image": 2,
    "modules": 5,
    "pull-image": 2,
    "ramdisk-support": 2,
    "rootfs": 5,
    "unpack": 2,
    "volume": 3,
    "whole-image": 2,
}
"""Stages that read images, or have them read, and keep what came of it.

Where a reader refuses more than before, raise them all, or stores go on giving what it let in.
"""

TRUSTED = {"component", "iso", "iso-head"}
"""Stages that have only Debian's packages read so, which are signed and pinned."""

ELSEWHERE = {
    "apk": "test_apk.py",
    "archive-image": "its bytes are the archive's, verified by digest",
    "component": "test_component_image.py",
    "deb": "its bytes are the archive's, verified by digest",
    "fetch-layer": "its bytes are the image's, verified by digest",
    "iso": "test_iso.py",
    "iso-head": "test_iso.py",
    "layout-volume": "test_volumes.py",
    "module-index": "test_modules.py",
    "modules": "test_modules.py",
    "ramdisk-support": "test_ramdisk.py",
    "part": "test_parts.py",
    "pull-image": "its bytes are the registry's, verified by digest",
    "verify-signature": "test_trust.py",
    "volume": "test_volumes.py",
    "whole-image": "test_volumes.py",
}


_OUTER: ContextVar[tuple[str, ...]] = ContextVar("outer", default=())


class Recorder(Engine):
    """An engine that notes every result, by stage, and within which stages others ran."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.seen: dict[str, list[str]] = {}
        self.versions: dict[str, int] = {}
        self.readers: set[str] = set()

    def run(self, stage: Stage, inputs: Inputs, label: str = "") -> Result:
        outer = _OUTER.get()
        token = _OUTER.set((*outer, stage.name))
        try:
            result = super().run(stage, inputs, label)
        finally:
            _OUTER.reset(token)
        if stage.name in ("unpack", "fetch-layer"):
            self.readers |= {*outer, stage.name}
        self.seen.setdefault(stage.name, []).append(str(Digest.of(whole(self.store, result.output))))
        self.versions[stage.name] = stage.version
        return result


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    project = Project.make(tmp_path_factory.mktemp("project"))
    engine = Recorder(Store(project.root / "store"))
    settings = Settings(compression=Compression.NONE, level=0, layouts=(project.root / "layout",))
    for name in ("kernel+initrd", "tar", "tar-kernel-initrd"):
        build(engine, project, name, settings)
    layered = Recorder(engine.store)
    build(layered, project, "kernel+initrd", dataclasses.replace(settings, layered=True))
    engine.seen = layered.seen | engine.seen
    engine.versions |= layered.versions
    engine.readers |= layered.readers
    return engine


def build(engine: Engine, project: Project, name: str, settings: Settings) -> None:
    parts = plan({"tiny.yml": project.root / "tiny.yml"}, "tiny", settings)
    for step in by_name(name).steps(parts).values():
        realise(step, engine)


@pytest.fixture(scope="module")
def found(engine: Recorder) -> dict[str, tuple[int, str]]:
    return {
        name: (engine.versions[name], Digest.of("\n".join(sorted(set(digests))).encode()).hex[:16])
        for name, digests in engine.seen.items()
    }


def stages() -> dict[str, int]:
    for module in pkgutil.iter_modules(linuxkit_rules.stages.__path__):
        importlib.import_module(f"linuxkit_rules.stages.{module.name}")
    kinds, waiting = {}, [Stage]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__.startswith("linuxkit_rules.") and hasattr(kind, "name"):
                kinds[kind.name] = kind.version
    return kinds


def test_every_stage_is_held() -> None:
    assert set(stages()) == set(RECORDED) | set(ELSEWHERE)


def test_what_a_laxer_reader_let_in_is_not_trusted(engine: Recorder) -> None:
    assert {"unpack", "rootfs", "container-rootfs", "kernel", "layout-image"} <= engine.readers
    assert engine.readers <= set(READERS) | TRUSTED
    versions = stages()
    assert {name: versions[name] for name in READERS} == READERS


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_bytes_move_only_with_the_version(found: dict[str, tuple[int, str]], name: str) -> None:
    assert found[name] == RECORDED[name]


def test_sources_of_the_tests_are_where_they_are_said_to_be() -> None:
    files = {text for text in ELSEWHERE.values() if text.endswith(".py")}
    assert all((Path(__file__).parent / name).is_file() for name in files)
