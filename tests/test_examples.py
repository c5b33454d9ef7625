"""The examples as a user builds them: sizes, what runs again after a change, the same bytes everywhere."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules import host
from linuxkit_rules.outputs.registry import outputs

pytestmark = pytest.mark.network
ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.yml"))
SMALLEST = """\
kernel:
  image: "@pkg:kernel"
  cmdline: console=ttyS0
init:
  - "@pkg:init"
  - "@pkg:crun"
"""


def scons(folder: Path, *arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "SCons", "-Q", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def copy(folder: Path, examples: Path) -> Path:
    shutil.copytree(examples, folder, ignore=shutil.ignore_patterns("out", ".sconsign*", "__pycache__"))
    return folder


def names(example: str) -> list[str]:
    """Every file of every format; of two formats that make the same file, the first."""
    return sorted({name for output in outputs().values() for name in output.files(example)})


def digests(folder: Path, example: str) -> dict[str, str]:
    return {name: hashlib.sha256((folder / "out" / name).read_bytes()).hexdigest() for name in names(example)}


def test_there_are_the_two_examples() -> None:
    assert EXAMPLES == ["linuxkit", "redisos"]


def test_redisos_is_small(artefact: Callable[..., Path], examples: Path, tmp_path: Path) -> None:
    assert artefact("redisos.iso").stat().st_size <= 26 * MIB
    folder = copy(tmp_path / "clone", examples)
    scons(folder, "out/redisos.iso", LINUXKIT_COMPRESSION="release")
    assert (folder / "out" / "redisos.iso").stat().st_size <= 24 * MIB


def test_the_smallest_system_is_small(tmp_path: Path) -> None:
    (tmp_path / "smallest.yml").write_text(SMALLEST)
    command = [sys.executable, "-m", "linuxkit_rules", "build", "--format=kernel+initrd", "--arch=amd64"]
    subprocess.run([*command, "--release", "smallest.yml"], cwd=tmp_path, check=True)
    sizes = [(tmp_path / f"smallest-{name}").stat().st_size for name in ("kernel", "initrd.img")]
    assert sum(sizes) <= 18_000_000


def test_a_changed_command_runs_four_steps(examples: Path, tmp_path: Path) -> None:
    folder, trace = copy(tmp_path / "clone", examples), tmp_path / "trace"
    scons(folder, "out/redisos.iso")
    before = digests_of(folder / "out" / "redisos.iso")
    assert "is up to date" in scons(folder, "out/redisos.iso")
    yml = folder / "examples" / "redisos.yml"
    text = yml.read_text()
    changed = '\n    command: ["/usr/bin/redis-server", "/etc/redis/redis.conf", "--databases", "1"]\n'
    yml.write_text(text.rstrip() + changed)
    scons(folder, "out/redisos.iso", LINUXKIT_TRACE=str(trace))
    assert ran(trace) == [
        "bundle services/redis/bundle",
        "segment services/redis/segment",
        "join initrd",
        "iso iso",
    ]
    assert digests_of(folder / "out" / "redisos.iso") != before
    trace.unlink()
    yml.write_text(text)
    scons(folder, "out/redisos.iso", LINUXKIT_TRACE=str(trace))
    assert ran(trace) == []
    assert digests_of(folder / "out" / "redisos.iso") == before


def ran(trace: Path) -> list[str]:
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    return [
        f"{item['stage']} {item['label']}" for item in events if item["how"] == "run" and item["depth"] == 0
    ]


def digests_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("example", EXAMPLES)
def test_two_builds_give_the_same_bytes(examples: Path, tmp_path: Path, example: str) -> None:
    """Two folders and stores, other umask, time zone, locale and -j; packages are copied, not results."""
    first = copy(tmp_path / "a", examples)
    scons(first, *(f"out/{name}" for name in names(example)))
    second = copy(tmp_path / "b" / "a longer path", examples)
    packages_only(tmp_path / "store")
    old = os.umask(0o077)
    try:
        scons(
            second,
            "-j3",
            *(f"out/{name}" for name in names(example)),
            LINUXKIT_STORE=str(tmp_path / "store"),
            TZ="Pacific/Chatham",
            LC_ALL="tr_TR.UTF-8",
            PYTHONHASHSEED="7",
        )
    finally:
        os.umask(old)
    assert digests(first, example) == digests(second, example)


def packages_only(target: Path) -> None:
    """Make a store that has the packages which the session's store has fetched, and no results."""
    blobs = target / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for path in (host.engine().store.root / "blobs" / "sha256").iterdir():
        with path.open("rb") as file:
            if file.read(8) == b"!<arch>\n":
                os.link(path, blobs / path.name)
