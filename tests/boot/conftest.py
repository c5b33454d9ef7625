"""QEMU for the boot tests, and the images that they boot."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules import host
from linuxkit_rules.debian.lock import load_lock
from linuxkit_rules.run.locked import locked
from linuxkit_rules.run.qemu import Qemu

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def qemu() -> Qemu:
    """The QEMU of the locked packages: nothing on the host counts."""
    return locked(host.engine(), load_lock(host.package_lock()), "amd64", host.host_arch())


@pytest.fixture(scope="session")
def artefact() -> Callable[..., Path]:
    """Build the files ``out/NAME`` as a user does, and give the path of the first."""

    def build(*names: str) -> Path:
        targets = [f"out/{name}" for name in names]
        command = [sys.executable, "-m", "SCons", "-Q", *targets]
        result = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert result.returncode == 0, result.stdout
        return ROOT / targets[0]

    return build
