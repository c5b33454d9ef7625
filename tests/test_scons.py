"""The SCons tool as a user meets it, on tiny images of a local layout."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.project import Project

OUTPUTS = ("tiny-kernel", "tiny-initrd.img", "tiny-cmdline")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path / "project")


def files(project: Project, folder: str = "out") -> dict[str, bytes]:
    return {name: (project.root / folder / name).read_bytes() for name in OUTPUTS}


def test_first_build_makes_the_files_and_the_next_has_nothing_to_do(project: Project) -> None:
    project.scons()
    built = files(project)
    assert built["tiny-kernel"] == b"KERNEL"
    assert built["tiny-cmdline"] == b"console=ttyS0"
    assert "is up to date" in project.scons(".")
    assert project.events == []
    assert files(project) == built


def test_changed_command_runs_bundle_segment_and_join_alone(project: Project) -> None:
    project.scons()
    before = files(project)
    project.edit('"/app", "one"', '"/app", "three"')
    project.scons()
    assert project.ran() == ["bundle", "segment", "join"]
    assert [label for how, stage, label in project.events if stage == "bundle"] == ["services/app/bundle"]
    assert files(project)["tiny-initrd.img"] != before["tiny-initrd.img"]
    project.edit('"/app", "three"', '"/app", "one"')
    project.scons()
    assert project.ran() == []
    assert files(project) == before


def test_container_is_one_target_in_each_form_and_only_the_wanted_form_is_packed(project: Project) -> None:
    project.edit('["kernel+initrd"]', '["kernel+initrd", "tar"]', "SConstruct")
    project.scons("out/tiny.tar")
    labels = [label for how, _, label in project.events if label.startswith("services/app/")]
    assert labels == ["services/app/bundle", "services/app/rootfs.tar", "services/app/segment.tar"]
    project.scons()
    state = project.root / "out" / ".linuxkit" / "tiny" / "services"
    names = {str(path.relative_to(state)) for path in state.rglob("*.json")}
    assert names == {
        f"{name}{suffix}.json" for name in ("app", "other") for suffix in ("", ".tar", "/bundle")
    }
    assert "is up to date" in project.scons(".")


def test_comment_in_the_yaml_changes_nothing(project: Project) -> None:
    project.scons()
    project.edit("\ninit:", "\n# a comment that moves every line below it\ninit:")
    assert "is up to date" in project.scons(".")


def test_changed_local_file_runs_files_and_join_alone(project: Project) -> None:
    project.scons()
    (project.root / "local.txt").write_text("changed\n")
    project.scons()
    assert project.ran() == ["files", "join"]


def test_fresh_output_folder_comes_from_the_store(project: Project) -> None:
    project.scons()
    before = files(project)
    shutil.rmtree(project.root / "out")
    project.scons()
    assert project.ran() == []
    assert files(project) == before


def test_lost_blob_is_made_again(project: Project) -> None:
    project.scons()
    before = files(project)
    shutil.rmtree(project.root / "store")
    project.scons()
    assert "join" in project.ran()
    assert files(project) == before


def test_lost_output_is_delivered_again(project: Project) -> None:
    project.scons()
    (project.root / "out" / "tiny-kernel").unlink()
    project.scons()
    assert project.events == []
    assert (project.root / "out" / "tiny-kernel").read_bytes() == b"KERNEL"


def test_clean_removes_all_that_was_made(project: Project) -> None:
    project.scons()
    project.scons("-c")
    assert [path for path in (project.root / "out").rglob("*") if path.is_file()] == []


def test_dry_run_makes_nothing_and_says_what_it_would(project: Project) -> None:
    printed = project.scons("-n")
    assert "join initrd" in printed
    assert not (project.root / "out").exists()
    assert not (project.root / "store").exists()


def test_tree_and_explain_show_the_steps(project: Project) -> None:
    assert "initrd.json" in project.scons("--tree=all", "-n")
    project.scons()
    project.edit('"/app", "one"', '"/app", "four"')
    assert "four" in project.scons("--debug=explain")


def test_parallel_build_gives_the_same_bytes(project: Project, tmp_path: Path) -> None:
    project.scons()
    other = Project.make(tmp_path / "elsewhere")
    old = os.umask(0o077)
    try:
        other.scons("-j4", TZ="Asia/Tokyo", LC_ALL="C")
    finally:
        os.umask(old)
    assert files(project) == files(other)


def test_silent_build_prints_nothing(project: Project) -> None:
    assert project.scons("-s") == ""


@pytest.mark.parametrize("duplicate", [0, 1])
def test_variant_folder(project: Project, duplicate: int) -> None:
    (project.root / "src").mkdir()
    for name in ("tiny.yml", "local.txt"):
        (project.root / name).rename(project.root / "src" / name)
    (project.root / "src" / "SConscript").write_text(
        'Import("env")\nenv.LinuxKitImage("tiny", "tiny.yml", formats="kernel+initrd")\n'
    )
    (project.root / "SConstruct").write_text(
        "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
        f'SConscript("src/SConscript", variant_dir="build", duplicate={duplicate}, exports="env")\n'
    )
    project.scons()
    assert files(project, "build")["tiny-kernel"] == b"KERNEL"
    assert not list((project.root / "src").glob("tiny-*"))
    assert "is up to date" in project.scons(".")


def test_clone_keeps_the_tool_and_may_have_other_settings(project: Project) -> None:
    with (project.root / "SConstruct").open("a") as file:
        file.write('other = env.Clone(LINUXKIT_COMPRESSION="zstd")\n')
        file.write('other.LinuxKitImage("zstd/tiny", "tiny.yml", formats="kernel+initrd")\n')
    project.scons()
    assert (project.root / "zstd" / "tiny-initrd.img").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    assert (project.root / "out" / "tiny-initrd.img").read_bytes()[:2] == b"\x1f\x8b"


def test_two_images_share_the_steps_that_are_the_same(project: Project) -> None:
    (project.root / "second.yml").write_text(
        (project.root / "tiny.yml").read_text().replace('"/app", "one"', '"/app", "five"')
    )
    with (project.root / "SConstruct").open("a") as file:
        file.write('env.LinuxKitImage("out/second", "second.yml", formats="kernel+initrd")\n')
    project.scons()
    assert project.ran().count("layout-image") == 3
    assert "fetch-layer" not in project.ran()
    assert project.ran().count("bundle") == 3
    assert project.ran().count("join") == 2


def test_yaml_that_is_built_itself(project: Project) -> None:
    (project.root / "tiny.yml").rename(project.root / "template")
    with (project.root / "SConstruct").open("a") as file:
        file.write('env.Command("tiny.yml", "template", Copy("$TARGET", "$SOURCE"))\n')
    (project.root / "SConstruct").write_text(
        "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
        'yml = env.Command("tiny.yml", "template", Copy("$TARGET", "$SOURCE"))\n'
        'env.LinuxKitImage("out/tiny", yml, formats="kernel+initrd")\n'
    )
    project.scons()
    assert files(project)["tiny-kernel"] == b"KERNEL"
    assert "is up to date" in project.scons(".")
    (project.root / "local.txt").write_text("changed\n")
    project.scons()
    assert project.ran() == ["files", "join"]
    project.edit('"/app", "one"', '"/app", "six"', "template")
    project.scons()
    assert project.ran() == ["bundle", "segment", "join"]


def test_built_yaml_sees_what_else_it_reads(project: Project) -> None:
    (project.root / "tiny.yml").rename(project.root / "template")
    (project.root / "SConstruct").write_text(
        "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
        'yml = env.Command("tiny.yml", "template", Copy("$TARGET", "$SOURCE"))\n'
        'env.LinuxKitImage("out/tiny", yml, formats="kernel+initrd")\n'
    )
    project.scons()
    before = files(project)
    Project.make(tmp := project.root / "other", program=b"another program")
    shutil.rmtree(project.root / "layout")
    (tmp / "layout").rename(project.root / "layout")
    project.scons()
    assert files(project)["tiny-initrd.img"] != before["tiny-initrd.img"]


def test_two_images_whose_names_look_alike_are_two(project: Project) -> None:
    """Different images stay two where their targets are named alike; one image of two names is one."""
    other = Project.make(project.root / "other", program=b"another program")
    text = (project.root / "tiny.yml").read_text()
    first, second = (
        f"oci:{project.root}/layout:docker.io/test/app:1",
        f"oci:{other.root}/layout:docker.io/test/app:1",
    )
    one, two = text.split("  - name: other")
    (project.root / "tiny.yml").write_text(
        one.replace("test/app:1", first) + "  - name: other" + two.replace("test/app:1", second)
    )
    project.scons()
    assert project.ran().count("container-rootfs") == 2
    (project.root / "tiny.yml").write_text(
        one + "  - name: other" + two.replace("test/app:1", "docker.io/test/app:1")
    )
    project.scons(LINUXKIT_STORE=str(project.root / "fresh"))
    assert project.ran().count("container-rootfs") == 1


def test_rotten_blob_is_not_delivered_but_made_again(project: Project) -> None:
    project.scons()
    before = files(project)
    listed = json.loads((project.root / "out" / ".linuxkit" / "tiny" / "initrd.json").read_text())
    digest = listed["refers"][-1]["digest"].removeprefix("sha256:")
    segment = project.root / "store" / "blobs" / "sha256" / digest
    segment.chmod(0o644)
    segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    (project.root / "out" / "tiny-initrd.img").unlink()
    assert "was damaged and has been dropped: it is made again" in project.scons()
    assert files(project) == before


def test_microcode_that_the_kernel_image_has_not_is_named(project: Project) -> None:
    text = (project.root / "tiny.yml").read_text()
    (project.root / "tiny.yml").write_text(text.replace("kernel:\n", "kernel:\n  ucode: x.cpio\n", 1))
    said = project.scons(check=False)
    assert "the kernel image has no file /x.cpio (it has kernel, kernel.tar)" in said


@pytest.mark.parametrize(
    "call", ['LinuxKitImage("out/tiny.iso", "tiny.yml")', 'LinuxKitOutputs("out", "tiny.yml")']
)
def test_folder_in_the_place_of_an_output_is_refused(tmp_path: Path, call: str) -> None:
    text = f"from linuxkit_rules import linuxkit\nEnvironment(tools=[linuxkit]).{call}\n"
    project = Project.make(tmp_path / "project", text)
    (project.root / "out" / "tiny.iso").mkdir(parents=True)
    assert "out/tiny.iso: is a folder, where a file is needed" in project.scons(check=False)


def test_folder_in_the_place_of_a_file_is_refused(project: Project) -> None:
    (project.root / "local.txt").unlink()
    (project.root / "local.txt").mkdir()
    assert "tiny.yml:16:5: 'local.txt' is a folder, where a file is needed" in project.scons(check=False)


def test_a_pipe_in_the_place_of_a_file_is_refused(project: Project) -> None:
    (project.root / "local.txt").unlink()
    os.mkfifo(project.root / "local.txt")
    assert "tiny.yml:16:5: 'local.txt' is a pipe, socket or device" in project.scons(check=False)


def test_failed_build_leaves_the_old_output(project: Project) -> None:
    project.scons()
    before = files(project)
    (project.root / "local.txt").unlink()
    printed = project.scons(check=False)
    assert "local.txt" in printed
    assert files(project) == before


def test_bad_yaml_is_one_line_with_its_place(project: Project) -> None:
    project.scons()
    before = files(project)
    project.edit("cmdline:", "comandline:")
    printed = project.scons(check=False)
    assert "tiny.yml:3:3: " in printed
    assert "cmdline" in printed
    assert files(project) == before


def test_unknown_image_names_its_place(project: Project) -> None:
    project.edit("test/init:1", '"@pkg:nosuch"')
    assert "tiny.yml:5:5: " in project.scons(check=False)


def test_two_formats_that_make_the_same_file_are_refused(project: Project) -> None:
    (project.root / "SConstruct").write_text(
        "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
        'env.LinuxKitImage("out/tiny", "tiny.yml", formats=["iso", "iso-bios"])\n'
    )
    printed = project.scons(check=False)
    assert "out/tiny.iso: formats iso and iso-bios both make this file" in printed


def test_target_of_no_format_says_which_names_there_are(project: Project) -> None:
    project.edit(
        '"out/tiny", "tiny.yml", formats=["kernel+initrd"]', '"out/tiny.img", "tiny.yml"', "SConstruct"
    )
    printed = project.scons(check=False)
    assert "tiny.img" in printed
    assert ".iso" in printed


def test_full_disk_is_one_clear_line(project: Project) -> None:
    project.scons()
    before = files(project)
    project.edit('"/app", "one"', '"/app", "seven"')
    printed = project.scons(check=False, LINUXKIT_STORE="/proc/no-store")
    assert "cannot make the store" in printed
    assert files(project) == before


def test_a_command_line_that_is_no_longer_there_leaves_no_file(project: Project) -> None:
    project.scons()
    text = (project.root / "tiny.yml").read_text()
    (project.root / "tiny.yml").write_text(text.replace("  cmdline: console=ttyS0\n", ""))
    assert "remove out/tiny-cmdline" in project.scons()
    assert not (project.root / "out" / "tiny-cmdline").exists()
    assert "is up to date" in project.scons("out/tiny-kernel")
    (project.root / "tiny.yml").write_text(text)
    project.scons()
    assert files(project)["tiny-cmdline"] == b"console=ttyS0"


def test_a_file_of_the_user_s_own_is_left_alone(project: Project) -> None:
    project.scons()
    own = project.root / "out" / "tiny-cmdline"
    own.unlink()
    own.write_text("my own words")
    text = (project.root / "tiny.yml").read_text()
    (project.root / "tiny.yml").write_text(text.replace("  cmdline: console=ttyS0\n", ""))
    assert "remove" not in project.scons()
    assert own.read_text() == "my own words"


def test_a_failed_build_replaces_no_file_of_a_set(project: Project) -> None:
    project.scons()
    before = files(project)
    text = (project.root / "tiny.yml").read_text()
    text = text.replace("kernel:\n", "kernel:\n  binary: kernel.tar\n", 1)
    (project.root / "tiny.yml").write_text(text.replace("test/app:1", "test/absent:1"))
    assert "test/absent:1" in project.scons("-k", check=False, LINUXKIT_OFFLINE="1")
    assert files(project) == before


def test_a_built_yaml_without_a_command_line_gives_no_file_of_it(project: Project) -> None:
    (project.root / "SConstruct").write_text(
        "from linuxkit_rules import linuxkit\n"
        "env = Environment(tools=[linuxkit])\n"
        "yml = env.Command('made.yml', 'tiny.yml', 'sed /cmdline/d $SOURCE > $TARGET')\n"
        "env.LinuxKitImage('out/tiny', yml, formats=['kernel+initrd'])\n"
    )
    project.scons()
    assert {path.name for path in (project.root / "out").glob("tiny-*")} == {"tiny-kernel", "tiny-initrd.img"}


def test_what_a_sconstruct_has_open_is_written_at_the_end(project: Project) -> None:
    """The globals of a file with a function are a cycle, which only the collector ends."""
    text = (project.root / "SConstruct").read_text()
    own = "log = open('user.log', 'w')\ndef note(text):\n    log.write(text)\nnote('kept')\n"
    (project.root / "SConstruct").write_text(own + text)
    project.scons()
    assert (project.root / "user.log").read_text() == "kept"


def test_what_scons_notes_of_descriptors_is_written_where_that_is_new(project: Project) -> None:
    with (project.root / "SConstruct").open("a") as file:
        file.write("import atexit, SCons.SConsign as notes\n")
        file.write("dirty = lambda: [str(item.dir) for item in notes.sig_files if item.dirty]\n")
        file.write("atexit.register(lambda: print('written:', *dirty()))\n")

    def written() -> list[str]:
        """Folders of descriptors alone."""
        (line,) = (line for line in project.scons().splitlines() if line.startswith("written:"))
        return [folder for folder in line.split() if ".linuxkit/tiny/" in folder]

    assert "out/.linuxkit/tiny/services" in written()
    assert written() == []
    project.edit('"/app", "one"', '"/app", "three"')
    assert "out/.linuxkit/tiny/services" in written()
    assert written() == []


@pytest.mark.parametrize("decider", ["timestamp-match", "MD5-timestamp"])
def test_a_user_s_decider_is_for_local_files_alone(project: Project, decider: str) -> None:
    """Times count in whole seconds, and a descriptor can be written twice in one."""
    project.edit("env.LinuxKitImage", f"env.Decider('{decider}')\nenv.LinuxKitImage", "SConstruct")
    descriptor = project.root / "out" / ".linuxkit" / "tiny" / "files" / "segment.json"
    project.scons()
    second = int(descriptor.stat().st_mtime)
    (project.root / "local.txt").write_text("other\n")
    os.utime(project.root / "local.txt", (1, 1))
    project.scons(str(descriptor))
    assert project.ran() == ["files"]
    os.utime(descriptor, (second, second))
    project.scons()
    assert project.ran() == ["join"]
    assert "is up to date" in project.scons(".")
