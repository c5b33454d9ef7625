"""Remembered plans: trusted while nothing that they were made from has changed, and then only."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.plan.memo import Evidence, Memo
from tests.project import Project

PROBE = """
import atexit, sys
HEAVY = {"yaml", "zstandard", "linuxkit_rules.plan.image"}
HEAVY |= {"http.client", "linuxkit_rules.oci.registry", "linuxkit_rules.stages.layering"}  # not even to plan
atexit.register(lambda: print("imported:", sorted(HEAVY & set(sys.modules))))
"""
SCONSTRUCT = """\
from linuxkit_rules import linuxkit
env = Environment(tools=[linuxkit])
env.LinuxKitImage("out/tiny", "tiny.yml", formats=["kernel+initrd"])
"""
NOTHING, ALL = "imported: []", "imported: ['linuxkit_rules.plan.image', 'yaml', 'zstandard']"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose first service is a component of its own, of files alone; built once."""
    made = Project.make(tmp_path / "project", SCONSTRUCT + PROBE)
    mine = made.root / "mine" / "rootfs"
    mine.mkdir(parents=True)
    (mine / "app").write_text("mine\n")
    (mine.parent / "build.yml").write_text("image: mine\ncmd: [/app]\n")
    made.edit('test/app:1\n    command: ["/app", "one"]', '"@pkg:./mine"')
    assert ALL in made.scons()
    assert NOTHING in made.scons()
    return made


def changed_component(project: Project) -> None:
    project.edit("cmd: [/app]", "cmd: [/app, more]", "mine/build.yml")


def edited_overlay(project: Project) -> None:
    (project.root / "mine" / "rootfs" / "app").write_text("changed\n")


def added_overlay(project: Project) -> None:
    (project.root / "mine" / "rootfs" / "added").write_text("")


def executable_overlay(project: Project) -> None:
    (project.root / "mine" / "rootfs" / "app").chmod(0o755)


def removed_overlay(project: Project) -> None:
    (project.root / "mine" / "rootfs" / "app").unlink()


def changed_layout(project: Project) -> None:
    other = Project.make(project.root / "other", program=b"another")
    shutil.rmtree(project.root / "layout")
    (other.root / "layout").rename(project.root / "layout")


def changed_yaml(project: Project) -> None:
    project.edit("contents: hello", "contents: goodbye")


@pytest.mark.parametrize(
    "change",
    [
        changed_component,
        edited_overlay,
        added_overlay,
        executable_overlay,
        removed_overlay,
        changed_layout,
        changed_yaml,
    ],
)
def test_change_of_what_was_read_changes_the_image(
    project: Project, change: Callable[[Project], None]
) -> None:
    before = (project.root / "out" / "tiny-initrd.img").read_bytes()
    change(project)
    project.scons()
    assert (project.root / "out" / "tiny-initrd.img").read_bytes() != before
    project.scons()
    assert NOTHING in project.scons()


def test_change_of_a_setting_is_another_question(project: Project) -> None:
    before = (project.root / "out" / "tiny-initrd.img").read_bytes()
    assert ALL in project.scons(LINUXKIT_COMPRESSION="zstd")
    assert (project.root / "out" / "tiny-initrd.img").read_bytes() != before


def test_null_build_declares_few_targets_and_runs_nothing(project: Project) -> None:
    printed = project.scons("--debug=count", ".")
    assert project.events == []
    assert NOTHING in printed
    assert len(list((project.root / "out" / ".linuxkit").rglob("*.json"))) <= 20


@pytest.mark.parametrize("text", [b"", b"{}", b"0" * 64 + b"\n{}", b"\xff\xfe"])
def test_damaged_memo_is_made_anew(project: Project, text: bytes) -> None:
    for path in (project.root / "store" / "plans").iterdir():
        path.write_bytes(text)
    assert ALL in project.scons()
    assert NOTHING in project.scons()


def test_evidence_is_contents_not_times(tmp_path: Path) -> None:
    """Whatever is read counts so, a package lock too."""
    lock, memo = tmp_path / "packages.lock", Memo(tmp_path / "store")
    lock.write_text("one")
    evidence = Evidence()
    evidence.file(lock)
    evidence.file(tmp_path / "absent")
    memo.keep("question", ["answer"], evidence)
    os.utime(lock, (1, 1))
    recalled = memo.recall("question")
    assert recalled is not None
    assert recalled.answer == ["answer"]
    assert memo.recall("another question") is None
    status = lock.stat()
    lock.write_text("two")
    os.utime(lock, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert memo.recall("question") is None
    lock.write_text("one")
    assert memo.recall("question") is not None
    (tmp_path / "absent").write_text("")
    assert memo.recall("question") is None


def test_run_that_builds_nothing_keeps_nothing(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "store", keep=False)
    memo.keep("question", ["answer"], Evidence())
    assert not (tmp_path / "store").exists()


def test_planning_imports_nothing_of_what_makes_components_and_modules() -> None:
    names = "stages.component_image", "stages.deb", "debian.select", "debian.closure", "formats.elf"
    program = "import sys, linuxkit_rules.plan.image; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    imported = found.stdout.split()
    assert "linuxkit_rules.stages.component" in imported
    assert [name for name in names if f"linuxkit_rules.{name}" in imported] == []
