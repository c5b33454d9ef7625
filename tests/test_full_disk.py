"""A disk that fills up at any stage of a build, and one that has room again.

It is a tmpfs in a user namespace, so that no root is needed; a host program cannot see it, so all that is
looked at is looked at from within.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.digest import Digest
from tests.builds import SUFFIXES, expected
from tests.project import Project

SIZES = (32, 96, 160, 192, 384, 768)
"""Of the disk, in KiB; the build takes about 800."""

WITHIN = """
set -e
mount -t tmpfs -o size=SIZEk none full
set +e
for name in STEPS; do echo old > out/tiny$name; done
export LINUXKIT_STORE=$PWD/full/store
moby() { PYTHON -m linuxkit_rules "$@"; }
moby build --format=kernel+initrd --image-layout=layout --dir=out tiny.yml >first 2>&1; echo $? >status
cp out/* kept/
mount -o remount,size=64m full
moby store verify >verified 2>&1; echo $? >sound
moby build --format=kernel+initrd --image-layout=layout --dir=out tiny.yml >second 2>&1
"""


@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk_is_one_clear_line_and_nothing_is_corrupt(
    tmp_path: Path, size: int, count: Callable[..., None]
) -> None:
    project = Project.make(tmp_path / "project", program=os.urandom(64) + b"x" * 40)
    root = project.root
    project.edit("contents: hello", f"contents: {json.dumps(os.urandom(40_000).hex())}")
    for name in ("full", "kept", "out"):
        (root / name).mkdir()
    script = (
        WITHIN.replace("SIZE", str(size))
        .replace("STEPS", " ".join(SUFFIXES))
        .replace("PYTHON", sys.executable)
    )
    line = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    result = subprocess.run(line, cwd=root, env=project.environment(), capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr + (root / "second").read_text()
    printed = (root / "first").read_text()
    right = expected(root / "tiny.yml", tmp_path / "alone", root / "layout")
    if (root / "status").read_text() == "0\n":
        assert size == max(SIZES)
    else:
        assert (root / "status").read_text() == "1\n"
        assert "Traceback" not in printed
        faults = [text for text in printed.splitlines() if "No space left on device" in text]
        assert faults, printed
        for fault in faults:  # of several steps at once each can have one
            assert str(root / "full" / "store") in fault
        assert any("moby store gc" in fault for fault in faults)
        assert {path.read_bytes() for path in (root / "kept").iterdir()} == {b"old\n"}
        count("full disks met")
    assert (root / "sound").read_text() == "0\n", (root / "verified").read_text()
    for suffix, data in right.items():
        assert Digest.of((root / "out" / f"tiny{suffix}").read_bytes()) == Digest.of(data)
