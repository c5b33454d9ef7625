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
env.Command("sum.txt", [kernel, rest[0]], "cat $SOURCES | wc -c > $TARGET")
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path / "project", SCONSTRUCT, kernel=LARGE)


def kernel(project: Project) -> Path:
    return project.root / "out" / "tiny-kernel"


def test_a_delivered_file_is_not_read_to_sign_it(project: Project) -> None:
    printed = project.scons()
    assert "wc -c >" in printed
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
    assert "wc -c >" in printed


def note(project: Project) -> Path:
    return project.root / "out" / ".linuxkit" / "tiny" / "delivered-tiny-kernel"


def lines(project: Project) -> list[str]:
    """The note's digest, stamp, and boot of the machine."""
    return note(project).read_text().split("\n")


def spoil(project: Project) -> None:
    """Change bytes of the kernel that was delivered, and neither its size nor its time."""
    made = kernel(project).stat()
    kernel(project).write_bytes(LARGE.replace(b"K", b"k"))
    os.utime(kernel(project), ns=(made.st_atime_ns, made.st_mtime_ns))


def test_a_note_of_a_build_that_was_cut_off_vouches_for_no_bytes(project: Project) -> None:
    project.scons()
    digest, stamp, boot = lines(project)
    for text in (digest, f"{digest}\n\n{boot}"):
        note(project).write_text(text)
        assert "is up to date" in project.scons(".")
        assert lines(project) == [digest, stamp, boot]
        note(project).write_text(text)
        spoil(project)
        assert f"deliver {kernel(project).relative_to(project.root)}" in project.scons()
        assert kernel(project).read_bytes() == LARGE
        digest, stamp, boot = lines(project)


def test_a_file_that_may_be_lost_with_the_power_is_read_after_the_next_start(project: Project) -> None:
    project.scons()
    digest, stamp, boot = lines(project)
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    note(project).write_text(f"{digest}\n{stamp}\nanother")
    spoil(project)
    assert "deliver out/tiny-kernel" in project.scons()
    assert kernel(project).read_bytes() == LARGE


def test_a_file_that_outlived_the_next_start_is_read_once(project: Project) -> None:
    project.scons()
    digest, stamp, boot = lines(project)
    note(project).write_text(f"{digest}\n{stamp}\nanother")
    for option in ("-n", "-q"):
        project.scons(option)
        assert lines(project) == [digest, stamp, "another"]
    assert "note: out/tiny-kernel is read, as the machine was started anew" in project.scons(".")
    assert lines(project) == [digest, stamp, boot]
    assert "is read" not in project.scons(".")


def test_a_file_is_read_if_it_is_asked_for(project: Project) -> None:
    project.scons()
    digest, stamp, _ = lines(project)
    note(project).write_text(f"{digest}\n{stamp}\nanother")
    assert "is read" not in project.scons("out/tiny-cmdline")
    assert lines(project) == [digest, stamp, "another"]


@pytest.mark.parametrize("where", ["this", "another"])
def test_what_a_user_has_changed_stays_after_the_next_start(project: Project, where: str) -> None:
    project.scons()
    digest, stamp, _ = lines(project)
    kernel(project).write_bytes(b"mine")
    if where == "another":
        note(project).write_text(f"{digest}\n{stamp}\nanother")
        later = note(project).stat().st_mtime_ns + 1
        os.utime(kernel(project), ns=(later, later))
    project.scons(".")
    assert lines(project) == [digest, stamp, ""]
    assert kernel(project).read_bytes() == b"mine"


def test_a_file_is_found_on_the_disk_after_a_minute(project: Project) -> None:
    project.scons()
    digest, stamp, boot = lines(project)
    project.scons(".")
    assert lines(project) == [digest, stamp, boot]
    before = kernel(project).stat().st_mtime_ns - 61 * 10**9
    os.utime(kernel(project), ns=(before, before))
    size = kernel(project).stat().st_size
    note(project).write_text(f"{digest}\n{size} {before}\n{boot}")
    assert "is up to date" in project.scons(".")
    assert lines(project) == [digest, f"{size} {before}", ""]


def test_a_file_without_a_note_is_read(project: Project) -> None:
    project.scons()
    text = note(project).read_text()
    note(project).unlink()
    assert "is up to date" in project.scons(".")
    assert note(project).read_text() == text
    note(project).unlink()
    spoil(project)
    assert "deliver out/tiny-kernel" in project.scons(".")
    assert kernel(project).read_bytes() == LARGE


@pytest.mark.parametrize("duplicate", [0, 1])
def test_scons_keeps_the_notes_of_a_variant_folder(project: Project, duplicate: int) -> None:
    sconstruct = project.root / "SConstruct"
    (project.root / "src").mkdir()
    sconstruct.rename(project.root / "src" / "SConscript")
    sconstruct.write_text(f'SConscript("src/SConscript", variant_dir="build", duplicate={duplicate})\n')
    for name in ("tiny.yml", "local.txt"):
        (project.root / name).rename(project.root / "src" / name)
    project.scons()
    found = sorted((project.root / "build" / "out" / ".linuxkit" / "tiny").glob("delivered-*"))
    assert len(found) == 3
    for arguments in ((), ("-n",), ("build",)):
        project.scons(*arguments)
        assert all(path.exists() for path in found)


def test_a_source_with_an_include_is_no_dependency_after_a_build_alone(project: Project) -> None:
    project.edit("tools=[linuxkit]", 'tools=["default", linuxkit]', "SConstruct")
    project.edit("local.txt", "local.c")
    (project.root / "local.c").write_text('#include "local.h"\n')
    (project.root / "local.h").write_text("")
    project.scons()
    assert "is up to date" in project.scons(".")


def test_a_touched_file_makes_nothing_downstream(project: Project) -> None:
    project.scons()
    for name in ("tiny-kernel", "tiny-initrd.img"):
        os.utime(project.root / "out" / name, (1, 1))
    assert "is up to date" in project.scons(".")


def test_an_empty_note_is_not_trusted(project: Project) -> None:
    """A process that is killed while it writes the note, and before SCons writes its own."""
    image, notes = project.root / "out" / "tiny-initrd.img", project.root / ".sconsign.dblite"
    project.scons()
    first, known = image.read_bytes(), notes.read_bytes()
    project.edit("hello", "goodbye")
    project.scons()
    notes.write_bytes(known)
    (project.root / "out" / ".linuxkit" / "tiny" / "delivered-tiny-initrd.img").write_bytes(b"")
    project.edit("goodbye", "hello")
    project.scons("out/.linuxkit/tiny/initrd.json")
    project.scons()
    assert image.read_bytes() == first


def test_one_image_in_two_folders(project: Project) -> None:
    project.edit(
        "kernel, *rest =",
        'env.LinuxKitImage("two/tiny", "tiny.yml", formats=["kernel+initrd"])\nkernel, *rest =',
        "SConstruct",
    )
    project.scons()
    names = ("tiny-kernel", "tiny-initrd.img", "tiny-cmdline")
    assert all(
        (project.root / "out" / name).read_bytes() == (project.root / "two" / name).read_bytes()
        for name in names
    )
    assert "is up to date" in project.scons(".")


def test_two_files_of_one_content_have_one_signature(project: Project) -> None:
    project.scons()
    kernel(project).unlink()
    printed = project.scons()
    assert "deliver" in printed
    assert "wc -c >" not in printed
