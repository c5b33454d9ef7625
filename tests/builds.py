"""Builds for tests of the store: in this process for what should come out, as programs for what does."""

import os
import subprocess
import sys
from pathlib import Path

from linuxkit_rules.errors import DamagedError
from linuxkit_rules.outputs.registry import by_name
from linuxkit_rules.plan.graph import Step, realise
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.contents import whole

FORMAT = "kernel+initrd"
SUFFIXES = ("-kernel", "-initrd.img", "-cmdline")


def expected(yml: Path, store: Path, *layouts: Path) -> dict[str, bytes]:
    """What a build of ``yml`` gives, by suffix, worked out here, against ``store``."""
    engine = Engine(Store(store))
    steps = by_name(FORMAT).steps(plan({yml.name: yml}, yml.stem, Settings(layouts=layouts)))
    return {suffix: _bytes(step, engine) for suffix, step in steps.items()}


def _bytes(step: Step, engine: Engine) -> bytes:
    """What a step gives; made again where it has rotted since."""
    try:
        return whole(engine.store, realise(step, engine).output)
    except DamagedError:
        return whole(engine.store, realise(step, engine).output)


def start(yml: Path, store: Path, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """Begin ``moby build`` of ``yml`` in its folder."""
    line = [sys.executable, "-m", "linuxkit_rules", "build", f"--format={FORMAT}", "--jobs=2", *arguments]
    return subprocess.Popen(
        [*line, yml.name],
        cwd=yml.parent,
        env={**os.environ, "LINUXKIT_STORE": str(store), "LINUXKIT_ARCH": "amd64"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def finished(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for a program; give what it printed."""
    printed, _ = process.communicate()
    assert process.returncode == status, printed
    assert "Traceback" not in printed
    return printed


def made(yml: Path) -> dict[str, bytes]:
    """The outputs that lie beside ``yml``, by suffix."""
    paths = {suffix: yml.with_name(yml.stem + suffix) for suffix in SUFFIXES}
    return {suffix: path.read_bytes() for suffix, path in paths.items() if path.exists()}
