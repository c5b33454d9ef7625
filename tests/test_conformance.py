"""Builds every case of the conformance suite, in all formats recorded; the suite's own judge compares."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.outputs.registry import by_name
from linuxkit_rules.plan.graph import realise
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.contents import whole

SUITE = Path(__file__).resolve().parents[2] / "shared" / "conformance"
_COMMANDED = (
    "linuxkit",
    "ex-platform-hetzner",
    "files-forms",
    "format-docker",
    "kernel-bz-decompressed",
    "kernel-ucode",
    "linuxkit-arm64",
    "merge-two",
    "volumes-oci",
)
_REFUSED = ("bind-relative", "image-missing", "label-badjson", "kernel-not-compressed", "template-unknown")
CASES = sorted(path.name for path in (SUITE / "cases").glob("*")) if SUITE.is_dir() else []
INVALID = sorted(path.name for path in (SUITE / "invalid").glob("*")) if SUITE.is_dir() else []
COMMANDED = [case for case in CASES if case in _COMMANDED]
REFUSED = [case for case in INVALID if case in _REFUSED]
FORMATS = ("kernel+initrd", "tar-kernel-initrd")

pytestmark = pytest.mark.skipif(not CASES, reason=f"the conformance suite is not at {SUITE}")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(Store(tmp_path_factory.mktemp("store")), access=Access(offline=True))


def settings(folder: Path, record: dict) -> Settings:
    return Settings(
        arch=record["arch"],
        compression=Compression.GZIP,
        level=0,
        layouts=(SUITE / "images",),
        home=folder / record["home"] if record.get("home") else None,
        decompress_kernel="--decompress-kernel" in record["flags"],
    )


def build(engine: Engine, folder: Path, record: dict, formats: list[str], out: Path) -> None:
    """Build the case's YAMLs into ``out``, named as the judge wants them."""
    files = {name: folder / name for name in record["inputs"]}
    parts = plan(files, folder.name, settings(folder, record))
    for name in formats:
        for suffix, step in by_name(name).steps(parts).items():
            made = realise(step, engine).output
            target = out / f"{folder.name}{'.tar' if suffix == '.docker' else suffix}"
            target.write_bytes(whole(engine.store, made))


def judge(out: Path, *arguments: str) -> str:
    """Give what the judge has to say against what lies in ``out``: nothing where all is right."""
    spec = importlib.util.spec_from_file_location("check", SUITE / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = check.main([str(out), str(SUITE), *arguments, "--deviations", "correct"])
    return said.getvalue() if status else ""


@pytest.mark.parametrize("case", CASES)
def test_the_judge_finds_no_difference(engine, tmp_path, case):
    folder = SUITE / "cases" / case
    record = json.loads((folder / "golden.json").read_text())
    more = [name for name in FORMATS if (folder / f"golden.{name}.json").exists()]
    build(engine, folder, record, [record["format"], *more], tmp_path)
    required = [text for name in more for text in ("--require", name)]
    assert judge(tmp_path, case, *required) == ""


@pytest.mark.parametrize("case", INVALID)
def test_what_is_wrong_is_refused_and_what_is_right_is_not(engine, tmp_path, case):
    folder = SUITE / "invalid" / case
    record = json.loads((folder / "golden.json").read_text())
    said = ""
    try:
        build(engine, folder, record, ["tar"], tmp_path)
    except LinuxKitError as error:
        said = str(error)
    (tmp_path / f"{case}.rc").write_text(str(int(said != "")))
    assert judge(tmp_path, case, "--require", "invalid") == ""
    assert all(record["inputs"][0].partition(".")[0] in line or ": " in line for line in said.splitlines())


@pytest.mark.parametrize("case", COMMANDED)
def test_the_command_gives_the_same(tmp_path, case):
    folder = SUITE / "cases" / case
    record = json.loads((folder / "golden.json").read_text())
    more = [name for name in FORMATS if (folder / f"golden.{name}.json").exists()]
    moby(folder, record, tmp_path, "--format", ",".join([record["format"], *more]), "--compression", "gzip")
    for file in tmp_path.glob("*.docker"):
        file.rename(file.with_suffix(".tar"))
    required = [text for name in more for text in ("--require", name)]
    assert judge(tmp_path, case, *required) == ""


@pytest.mark.parametrize("case", REFUSED)
def test_the_command_refuses_and_leaves_the_old_output_alone(tmp_path, case):
    folder = SUITE / "invalid" / case
    (tmp_path / f"{case}.tar").write_text("old")
    status, said = moby(folder, json.loads((folder / "golden.json").read_text()), tmp_path, "--format", "tar")
    assert (status, (tmp_path / f"{case}.tar").read_text()) == (1, "old")
    assert "Traceback" not in said
    assert "linuxkit.yml:" in said


def moby(folder: Path, record: dict, out: Path, *more: str) -> tuple[int, str]:
    """Run ``moby build`` in the case's folder; give its status and what it said."""
    home = {"HOME": str(folder / record["home"])} if record.get("home") else {}
    result = subprocess.run(
        [
            *(sys.executable, "-m", "linuxkit_rules", "build", "--arch", record["arch"]),
            *("--name", folder.name, "--dir", str(out), "--image-layout", str(SUITE / "images")),
            *(*more, *record["flags"], *record["inputs"]),
        ],
        cwd=folder,
        env={**os.environ, **home, "LINUXKIT_STORE": str(out / "store"), "LINUXKIT_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.returncode, result.stdout
