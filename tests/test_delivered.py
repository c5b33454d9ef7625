"""Delivered files as sources of other targets: signed without being read, and seen where they are changed."""

import os
from pathlib import Path

import pytest

from tests.project import Project

LARGE = b"KERNEL" * 30_000
"""More than one of SCons's chunks."""

SCONSTRUCT = """\
import SCons.Node.FS
read = SCons.Node.FS.hash_file_signature
def told(path, chunksize):
    print("hashed", path)
    return read(path, chunksize)
SCons.Node.FS.hash_file_signature = told
SetOption("hash_chunksize", 1)
from linuxkit_rules import linuxkit
env = Environment(tools=[linuxkit])
kernel, *rest = env.LinuxKitImage("out/tiny", "tiny.yml", formats=["kernel+initrd"])
env.Command("sum.txt", kernel, "wc -c < $SOURCE > $TARGET")
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path / "project", SCONSTRUCT, kernel=LARGE)


def kernel(project: Project) -> Path:
    return project.root / "out" / "tiny-kernel"


def test_a_delivered_file_is_not_read_to_sign_it(project: Project) -> None:
    printed = project.scons()
    assert "wc -c" in printed
    assert f"hashed {kernel(project)}" not in printed
    printed = project.scons(".")
    assert "is up to date" in printed
    assert f"hashed {kernel(project)}" not in printed


def test_a_changed_file_of_another_time_is_read_and_seen(project: Project) -> None:
    project.scons()
    kernel(project).write_bytes(LARGE.replace(b"K", b"k"))
    os.utime(kernel(project), ns=(1, 1 + kernel(project).stat().st_mtime_ns))
    printed = project.scons()
    assert f"hashed {kernel(project)}" in printed
    assert "wc -c" in printed


def test_a_note_of_a_build_that_was_cut_off_signs_nothing(project: Project) -> None:
    project.scons()
    note = project.root / "out" / ".linuxkit" / "tiny" / "delivered-tiny-kernel"
    note.write_text(note.read_text().splitlines()[0])
    assert f"hashed {kernel(project)}" in project.scons()


def test_two_files_of_one_content_have_one_signature(project: Project) -> None:
    project.scons()
    kernel(project).unlink()
    printed = project.scons()
    assert "deliver" in printed
    assert "wc -c" not in printed
