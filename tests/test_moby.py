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
    assert "is up to date" in moby(project, *line)


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
