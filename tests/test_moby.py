"""The command ``moby build`` on tiny images of a local layout; ``moby lock`` where nothing is to be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linuxkit_rules.debian.lock import LIBRARY_LOCK
from tests.project import Project

OUTPUTS = ["tiny-cmdline", "tiny-initrd.img", "tiny-kernel"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path / "project")


def moby(project: Project, *arguments: str, status: int = 0, **environment: str) -> str:
    """Run ``moby`` in the project, without its image layouts; give what it printed."""
    variables = {**project.environment(), "LINUXKIT_IMAGE_LAYOUTS": "", **environment}
    result = subprocess.run(
        [sys.executable, "-m", "linuxkit_rules", *arguments],
        cwd=project.root,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="surrogateescape",
    )
    assert result.returncode == status, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_build_is_the_same_engine(project: Project) -> None:
    project.scons()
    (project.root / "made").mkdir()
    moby(project, "build", "--format=kernel+initrd", "--dir=made", "--image-layout=layout", "tiny.yml")
    assert names(project.root / "made") == OUTPUTS
    for name in OUTPUTS:
        assert (project.root / "made" / name).read_bytes() == (project.root / "out" / name).read_bytes()
    assert not list(project.root.glob(".sconsign*.moby"))


def test_second_build_has_nothing_to_do(project: Project) -> None:
    line = ("build", "--format", "kernel+initrd", "--image-layout", "layout", "tiny.yml")
    moby(project, *line)
    (notes,) = (project.root / "store").rglob("sconsign.dblite")
    assert "is up to date" in moby(project, *line)
    before = notes.stat()
    assert "is up to date" in moby(project, *line)
    assert (notes.stat().st_ino, notes.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_name_and_several_files(project: Project) -> None:
    (project.root / "more.yml").write_text("files:\n  - path: etc/more\n    contents: more\n")
    line = ("build", "--format=kernel+initrd", "--image-layout=layout")
    moby(project, *line, "tiny.yml")
    moby(project, *line, "--name=both", "tiny.yml", "more.yml")
    one, both = (project.root / f"{name}-initrd.img" for name in ("tiny", "both"))
    assert both.stat().st_size > one.stat().st_size
    assert (project.root / "both-cmdline").read_text() == "console=ttyS0"


def test_reference_that_no_layout_has_is_asked_of_its_registry(project: Project) -> None:
    printed = moby(project, "build", "tiny.yml", status=1, LINUXKIT_OFFLINE="1")
    assert "docker.io/test/kernel:1: the image is not in the store, and nothing may be fetched" in printed


def test_folder_of_outputs_is_made(project: Project) -> None:
    moby(project, "build", "--format=kernel+initrd", "--image-layout=layout", "--dir=a/b", "tiny.yml")
    assert names(project.root / "a" / "b") == OUTPUTS


def test_folder_that_cannot_be_written_is_one_line(project: Project) -> None:
    (project.root / "file").write_text("")
    line = ("build", "--format=kernel+initrd", "--image-layout=layout", "--dir=file", "tiny.yml")
    assert "file" in moby(project, *line, status=1)


def test_folder_in_the_place_of_a_yaml_is_one_line(project: Project) -> None:
    assert "layout: is a folder, where a file is needed" in moby(project, "build", "layout", status=1)


def test_folder_and_name_mean_what_they_say(project: Project) -> None:
    line = ("build", "--format=kernel+initrd", "--image-layout=layout", "tiny.yml")
    assert "--dir names a folder" in moby(project, *line, "--dir=", status=1)
    assert "--dir names a folder" in moby(project, *line, "--name=../away", status=1)
    moby(project, *line, "--name=a $HOME b")
    assert (project.root / "a $HOME b-kernel").is_file()


def test_two_builds_of_one_image_at_once(project: Project) -> None:
    line = [
        sys.executable,
        "-m",
        "linuxkit_rules",
        "build",
        "--format=kernel+initrd",
        "--image-layout=layout",
    ]
    started = [
        subprocess.Popen([*line, "tiny.yml"], cwd=project.root, env=project.environment()) for _ in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert (project.root / "tiny-kernel").read_bytes() == b"KERNEL"


def test_store_that_cannot_be_made_is_one_line(project: Project) -> None:
    printed = moby(project, "build", "tiny.yml", status=1, LINUXKIT_STORE="/proc/none/store")
    assert "cannot make the store" in printed
    assert "LINUXKIT_STORE" in printed


def test_variable_of_the_user_s_scons_does_not_count(project: Project) -> None:
    line = ("build", "--format=kernel+initrd", "--image-layout=layout", "tiny.yml")
    moby(project, *line, SCONSFLAGS="-n")
    assert (project.root / "tiny-kernel").read_bytes() == b"KERNEL"


@pytest.mark.parametrize(
    ("first", "second", "format_of", "made"),
    [
        ("kernel+initrd", "tar", (), ["tiny-cmdline", "tiny-initrd.img", "tiny-kernel", "tiny.tar"]),
        ("tar", "kernel+initrd", ("--format=tar",), ["tiny.tar"]),
        ("tar", "tar", (), ["tiny.tar"]),
    ],
)
def test_outputs_of_yamls_are_the_formats(
    project: Project, first: str, second: str, format_of: tuple[str, ...], made: list[str]
) -> None:
    (project.root / "more.yml").write_text(f"outputs: [{{format: {second}}}]\n")
    with (project.root / "tiny.yml").open("a") as file:
        file.write(f"outputs: [{{format: {first}}}]\n")
    line = ("build", "--image-layout=layout", "--dir=made", "--name=tiny", *format_of, "tiny.yml", "more.yml")
    moby(project, *line)
    assert names(project.root / "made") == made
    assert "deliver" not in moby(project, *line)


def test_outputs_are_read_again_when_they_change(project: Project) -> None:
    with (project.root / "tiny.yml").open("a") as file:
        file.write("outputs: [{format: kernel+initrd}]\n")
    line = ("build", "--image-layout=layout", "--dir=made", "tiny.yml")
    moby(project, *line)
    project.edit("kernel+initrd", "tar")
    moby(project, *line)
    assert names(project.root / "made") == [*OUTPUTS, "tiny.tar"]
    project.edit("format: tar", "format: none")
    assert "tiny.yml:18:20: there is no format 'none' (one of docker" in moby(project, *line, status=1)
    assert "there is no format 'none'" in project.scons(check=False)


def test_trust_without_keys_must_be_ignored_and_is_warned_of_each_time(project: Project) -> None:
    with (project.root / "tiny.yml").open("a") as file:
        file.write("trust: {org: [linuxkit]}\n")
    line = ("build", "--image-layout=layout", "--format=kernel+initrd", "tiny.yml")
    refusal = "tiny.yml:18:8: trust: linuxkit must be signed, but no keys are named"
    assert refusal in moby(project, *line, status=1)
    warning = "warning: tiny.yml:18:8: trust: the signatures of linuxkit are not checked"
    assert warning in moby(project, *line, "--ignore-trust")
    again = moby(project, *line, "--ignore-trust")
    assert warning in again
    assert "is up to date" in again
    assert refusal in moby(project, *line, status=1)
    assert warning in project.scons(LINUXKIT_IGNORE_TRUST="1")
    assert refusal in project.scons(check=False, LINUXKIT_IGNORE_TRUST="0")


@pytest.mark.parametrize(
    ("line", "environment", "message"),
    [
        (("--image-layout=none", "tiny.yml"), {}, "none: --image-layout: there is no such folder"),
        (("tiny.yml",), {"LINUXKIT_IMAGE_LAYOUTS": "none"}, "/none: there is no such folder"),
        (("tiny.yml",), {"LINUXKIT_COMPRESSION": "zstd:99"}, "zstd cannot be written at level 99"),
        (("tiny.yml",), {"LINUXKIT_COMPRESSION": "xz"}, "xz cannot be written"),
        (("tiny.yml",), {"LINUXKIT_COMPRESSION": "lzw"}, "is no way of packing"),
        (("pipe",), {}, "pipe: is no regular file"),
        (("--dry-run", "pipe"), {}, "pipe: is no regular file"),
        (("--dry-run", "layout"), {}, "layout: is a folder, where a file is needed"),
        (("none.yml",), {}, "none.yml: cannot be read: No such file"),
        (("--name=taken", "tiny.yml"), {}, "taken.iso: is a folder, where a file is needed"),
        (("archive.yml",), {}, "archive.yml:1:8: 'docker-archive:.' names a folder"),
        (("optional.yml",), {}, "optional.yml:1:9: 'layout' is a folder, where a file is needed"),
    ],
)
def test_wrong_use_is_one_line(
    project: Project, line: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    os.mkfifo(project.root / "pipe")
    (project.root / "taken.iso").mkdir()
    (project.root / "archive.yml").write_text("init: ['docker-archive:.']\n")
    (project.root / "optional.yml").write_text("files: [{path: a, source: layout, optional: true}]\n")
    printed = moby(project, "build", *line, status=1, **environment)
    assert message in printed
    assert printed.count("\n") == 1


def test_file_that_becomes_a_folder_is_seen(project: Project) -> None:
    """The plan remembered is of a file that was not there, and need not be."""
    project.edit("source: local.txt", "source: absent.txt\n    optional: true")
    line = ("build", "--format=kernel+initrd", "--image-layout=layout", "tiny.yml")
    moby(project, *line)
    (project.root / "absent.txt").mkdir()
    assert "'absent.txt' is a folder, where a file is needed" in moby(project, *line, status=1)


def test_folder_of_the_image_s_name_is_in_nobody_s_way(project: Project) -> None:
    (project.root / "tiny").mkdir()
    moby(project, "build", "--format=kernel+initrd", "--image-layout=layout", "tiny.yml")
    assert (project.root / "tiny-kernel").is_file()


@pytest.mark.parametrize("text", ["7", "[7]", '{"refers": 7}', '{"refers": [7]}', '{"refers": {"a": 7}}'])
def test_damaged_descriptor_target_is_made_anew(project: Project, text: str) -> None:
    project.scons()
    for path in (project.root / "out" / ".linuxkit").rglob("*.json"):
        path.write_text(text)
    (project.root / "out" / "tiny-kernel").unlink()
    project.scons()
    assert (project.root / "out" / "tiny-kernel").read_bytes() == b"KERNEL"


def test_names_that_are_no_text_of_the_locale(project: Project) -> None:
    folder = os.fsdecode(b"\xff\xfe")
    line = ("build", "--format=kernel+initrd", "--image-layout=layout", f"--dir={folder}", "tiny.yml")
    moby(project, *line, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert names(project.root / folder) == OUTPUTS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("build - <&-", "moby: -: standard input is closed"),
        ("run none <&-", "moby: "),
        ("build --dry-run --image-layout=layout tiny.yml >&-", "moby: standard output is closed"),
        ("build --dry-run --image-layout=layout tiny.yml >/dev/full", "moby: standard output: No space left"),
    ],
)
def test_closed_streams_are_one_line(project: Project, line: str, message: str) -> None:
    command = f'"{sys.executable}" -m linuxkit_rules {line}'
    environment = {**project.environment(), "LINUXKIT_OFFLINE": "1"}
    result = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=project.root,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_reader_that_goes_away_is_no_fault(project: Project) -> None:
    command = f'"{sys.executable}" -m linuxkit_rules build --dry-run --image-layout=layout tiny.yml | true'
    result = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=project.root,
        env=project.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert result.stderr == ""


QEMU = """\
#!{python}
import json, re, socket, sys
console, monitor = (
    socket.socket(fileno=int(re.search(f"id={{name}},fd=([0-9]+)", " ".join(sys.argv))[1]))
    for name in ("console", "monitor")
)
monitor.sendall(b'{{"QMP": {{}}}}\\n')
monitor.recv(1000)
monitor.sendall(b'{{"return": {{}}}}\\n')
console.sendall(b"hello\\n")
"""


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-", ""])
def test_run_needs_no_standard_input(project: Project, closed: str) -> None:
    """A program stands for QEMU: it greets, writes to the console, and ends."""
    folder = project.root / "bin"
    folder.mkdir()
    (folder / "qemu-system-x86_64").write_text(QEMU.format(python=sys.executable))
    (folder / "qemu-system-x86_64").chmod(0o755)
    (project.root / "tiny.iso").touch()
    result = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m linuxkit_rules run --qemu-from-path tiny {closed}'],
        cwd=project.root,
        env={**project.environment(), "PATH": f"{folder}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello\n", "")


@pytest.mark.network
def test_lock_stays_where_the_mirror_cannot_be_reached(project: Project, tmp_path: Path) -> None:
    """The tools that verify come from the lock first, from the real mirror; then the mirror is gone."""
    store = os.environ["LINUXKIT_STORE"]
    fetched = tmp_path / "fetched.lock"
    line = ("lock", "--output", str(fetched))
    moby(project, *line, LINUXKIT_STORE=store)
    again = fetched.read_bytes()
    assert again.count(b"\n") > 100
    dead = {"LINUXKIT_STORE": store, "LINUXKIT_DEBIAN_MIRROR": "http://127.0.0.1:1/debian"}
    assert "cannot fetch http://127.0.0.1:1/debian/dists/" in moby(project, *line, status=1, **dead)
    assert fetched.read_bytes() == again
    assert b'"suites"' in LIBRARY_LOCK.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dir=tiny.yml", "tiny.yml"), "tiny.yml: --dir: there is a file where a folder should be"),
        (("--dir=tiny.yml/below", "tiny.yml"), "tiny.yml: --dir: there is a file where a folder should be"),
        (("/dev/zero",), "/dev/zero: is no regular file (moby build - reads standard input)"),
        (("--compression=xz", "tiny.yml"), "xz cannot be written"),
        (("--compression=fast", "tiny.yml"), "(auto, release; or zstd, gzip or none, and :LEVEL)"),
    ],
)
def test_calls_that_cannot_work_say_so(project: Project, arguments: tuple[str, ...], said: str) -> None:
    assert said in moby(project, "build", *arguments, status=1)


def test_a_release_says_how_it_is_compressed(project: Project) -> None:
    said = moby(project, "build", "--release", "--compression=zstd", "tiny.yml", status=2)
    assert "argument --compression: not allowed with argument --release" in said


def test_a_full_device_is_no_crash(project: Project) -> None:
    with Path("/dev/full").open("w") as full:
        line = [sys.executable, "-m", "linuxkit_rules", "schema"]
        result = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, cwd=project.root)
    assert (result.returncode, result.stderr) == (1, "moby: standard output: No space left on device\n")
