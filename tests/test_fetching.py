"""Fetching as users see it: ``moby build`` and SCons with mirrors, on terminals and in logs."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxkit_rules.digest import Digest
from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.oci.manifest import INDEX, Index, parse
from linuxkit_rules.scons.progress import Display
from tests.images import Blobs
from tests.project import Project
from tests.servers.certificates import Authority
from tests.servers.nginx import tls_mirror
from tests.servers.processes import free_port
from tests.servers.registry import RegistryServer, push

OUTPUTS = ("tiny-cmdline", "tiny-initrd.img", "tiny-kernel")


@pytest.fixture
def project(tmp_path: Path, pushed: None) -> Project:
    """A project whose images, of docker.io by name, a registry on loopback has; the layout is there too."""
    return Project.make(tmp_path / "project")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, pushed: None) -> Project:
    """Such a project that has been built, from the layout."""
    made = Project.make(tmp_path_factory.mktemp("built") / "project")
    made.scons()
    return made


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, registry_server: RegistryServer) -> None:
    """Push the images of the projects' layouts, which are all the same."""
    made = Project.make(tmp_path_factory.mktemp("pushed") / "project")
    layout = made.root / "layout"
    blobs = Blobs({Digest(path.name): path.read_bytes() for path in (layout / "blobs/sha256").iterdir()})
    index = parse((layout / "index.json").read_bytes(), INDEX, "layout")
    assert isinstance(index, Index)
    for member in index.members:
        repository, _, tag = member.annotations[REF_NAME].removeprefix("docker.io/").partition(":")
        push(registry_server.host, blobs, member.descriptor, repository, tag)


@pytest.fixture(scope="module")
def mirror(
    tmp_path_factory: pytest.TempPathFactory, registry_server: RegistryServer
) -> Iterator[tuple[str, Path]]:
    """The URL of a mirror with TLS, and the file of its authority."""
    folder = tmp_path_factory.mktemp("mirror")
    authority = Authority.make(folder)
    with tls_mirror(folder, authority, registry_server.host) as host:
        yield f"https://{host}", authority.file


def variables(project: Project, mirror: tuple[str, Path] | None = None) -> dict[str, str]:
    url, file = mirror or ("", "")
    return {
        **project.environment(),
        "LINUXKIT_IMAGE_LAYOUTS": "",
        "LINUXKIT_MIRRORS": url,
        "LINUXKIT_CA_FILES": str(file),
        "TERM": "xterm",
        "COLUMNS": "100",
    }


def in_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command whose output and errors are one terminal; give all that it wrote there."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    data = bytearray()
    with contextlib.suppress(OSError):  # the end of a terminal whose other side is closed
        while block := os.read(leader, 1 << 16):
            data += block
    os.close(leader)
    assert process.wait() == 0, data.decode()
    return data.decode()


MOBY = [sys.executable, "-m", "linuxkit_rules", "build"]
SCONS = [sys.executable, "-m", "SCons", "-Q"]


def test_moby_build_with_a_mirror(built: Project, project: Project, mirror: tuple[str, Path]) -> None:
    """The same bytes as from a layout; a line for each blob in a log."""
    url, file = mirror
    result = subprocess.run(
        [*MOBY, "--format=kernel+initrd", "--dir=made", f"--mirror={url}", f"--ca-file={file}", "tiny.yml"],
        cwd=project.root,
        env=variables(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    for name in OUTPUTS:
        assert (project.root / "made" / name).read_bytes() == (built.root / "out" / name).read_bytes()
    fetched = [line for line in result.stdout.splitlines() if line.strip().startswith("fetched ")]
    assert {line.split()[1] for line in fetched} == {
        f"docker.io/test/{name}" for name in ("kernel", "init", "app")
    }
    assert all(line.endswith((" bytes)", " kB)")) for line in fetched)
    assert "\x1b" not in result.stdout


def test_silence(project: Project, mirror: tuple[str, Path]) -> None:
    """SCons's -s shows neither steps nor blobs, nor bars on a terminal."""
    assert in_terminal([*SCONS, "-s"], project.root, variables(project, mirror)) == ""
    assert (project.root / "out" / "tiny-kernel").read_bytes() == b"KERNEL"


def in_log(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    result = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_bars_on_a_terminal(project: Project, mirror: tuple[str, Path]) -> None:
    """Bars come and go; the steps' lines stay whole."""
    shown = in_terminal(SCONS, project.root, variables(project, mirror))
    assert "━" in shown
    assert "fetched" not in shown
    assert re.search(r"^pull-image images/docker.io_test_app_1\r$", shown, re.MULTILINE)
    assert len(re.findall(r"  fetch-layer docker.io/test/\w+ [0-9a-f]{12}\r\n", shown)) == 3


def test_lines_above_bars(tmp_path: Path) -> None:
    """A line that is printed while a bar stands takes its place, and the bar is drawn again below."""
    text = """
from linuxkit_rules.scons.progress import Display
display = Display()
with display.blob("a [red]blob", 100) as advance:
    advance(50)
    display.line("a [step] of the build")
    display.warn("a mirror is away")
print("done")
"""
    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    shown = in_terminal([sys.executable, "-c", text], tmp_path, terminal)
    before, _, after = shown.partition("a [step] of the build\r\n")
    assert "a [red]blob" in before
    assert re.search(r"warning: a mirror is away\r\n.*a \[red\]blob", after, re.DOTALL)
    assert shown.endswith("\rdone\r\n")


def test_a_mirror_that_is_away_is_one_line(project: Project, registry: str) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    mirrors = f"{away},http://{registry}"
    shown = in_log(SCONS, project.root, {**variables(project), "LINUXKIT_MIRRORS": mirrors})
    warnings = [line for line in shown.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert f"the mirror {away} is left out" in warnings[0]


def test_a_variable_that_is_no_mirror_is_one_line(project: Project) -> None:
    wrong = {"LINUXKIT_IMAGE_LAYOUTS": "", "LINUXKIT_MIRRORS": "ftp://x"}
    assert "'ftp://x' is no mirror" in project.scons(check=False, **wrong)


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--mirror=ftp://x", "'ftp://x' is no mirror (write REGISTRY=URL"),
        ("--ca-file=nosuch.pem", "nosuch.pem: --ca-file: there is no such file"),
    ],
)
def test_options_that_cannot_be(project: Project, option: str, why: str) -> None:
    result = subprocess.run(
        [*MOBY, option, "tiny.yml"],
        cwd=project.root,
        env=variables(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 1
    assert result.stdout.startswith("moby: ")
    assert why in result.stdout


def test_nothing_heavy_is_imported_where_nothing_is_fetched(built: Project) -> None:
    """Neither for help nor for a build that has nothing to do."""
    probe = "import sys, runpy; sys.argv = {}\ntry: runpy.run_module({!r}, run_name='__main__')\n"
    probe += "finally: print(*(name for name in ('requests', 'cryptography', 'rich') if name in sys.modules))"
    for arguments, module in ((["moby", "--help"], "linuxkit_rules"), (["scons", "-Q"], "SCons")):
        command = [sys.executable, "-c", probe.format(arguments, module)]
        assert in_log(command, built.root, built.environment()).splitlines()[-1] == ""


def test_lines_of_a_display(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    for size in (7, 7_000, 7_654_321):
        with display.blob("x", size) as advance:
            advance(size)
    display.warn("be careful")
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "  fetched x (7 bytes)",
        "  fetched x (7 kB)",
        "  fetched x (7.7 MB)",
    ]
    assert captured.err == "warning: be careful\n"


def test_a_blob_that_fails_is_not_said_to_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(ValueError), Display().blob("x", 7):
        raise ValueError
    assert capsys.readouterr().out == ""
