"""``moby vendor``: all that a build needs in one folder, and builds from it where there is no network."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from linuxkit_rules.oci.layout import Layout
from linuxkit_rules.oci.manifest import Member
from linuxkit_rules.oci.reference import Reference
from tests.images import AMD64, ARM64, Blobs, tar
from tests.project import Project
from tests.servers.processes import await_
from tests.servers.registry import push
from tests.test_moby import moby

YML = """\
kernel:
  image: {host}/v/kernel:1
init:
  - {host}/v/init:1
  - "@pkg:ca-certificates"
services:
  - name: app
    image: "@pkg:./mine"
volumes:
  - name: all
    image: {host}/v/init:1
    format: oci
"""
FORMATS = "--format=iso,kernel+initrd,tar"
NAMES = ("box.iso", "box-kernel", "box-initrd.img", "box.tar")

# Runs its arguments where there is no network at all, not even a loopback that is up (unshare(2)).
UNSHARED = """\
import ctypes, os, sys
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
if libc.unshare(flags):
    sys.exit(os.strerror(ctypes.get_errno()))
assert not [line for line in open("/proc/net/route")][1:]
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def project(tmp_path: Path, registry: str) -> Project:
    """An image of a registry's images, of the library's, and of a component of the project's own."""
    root = tmp_path / "project"
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "build.yml").write_text("image: mine\npackages: []\ncmd: [/run]\n")
    (root / "box.yml").write_text(YML.format(host=registry))
    blobs = Blobs()
    modules = tar(**{"lib/modules/1/modules.order": b""})
    kernel = [tar(**{"kernel": b"K", "kernel.tar": modules})]
    for name, layers in (("kernel", kernel), ("init", [tar(init=b"i"), tar(a=b"1")])):
        images = [blobs.image(layers, platform=item) for item in (AMD64, ARM64)]
        index = blobs.index(Member(images[0], AMD64), Member(images[1], ARM64))
        push(registry, blobs, index, f"v/{name}", "1")
    return Project(root)


def vendored(project: Project, *arguments: str) -> Path:
    """Vendor with the store that all tests share, which has the packages."""
    folder = project.root / "vendored"
    command = [sys.executable, "-m", "linuxkit_rules", "vendor", str(folder), *arguments, "box.yml"]
    subprocess.run(command, cwd=project.root, check=True)
    return folder


def without_network(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``moby`` with an empty store in a namespace without a network."""
    command = [sys.executable, "-c", UNSHARED, sys.executable, "-m", "linuxkit_rules", *arguments]
    environment = {**project.environment(), "LINUXKIT_IMAGE_LAYOUTS": "", "CI": "true"}
    return subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_machine_without_a_network_builds_the_same_bytes(project: Project) -> None:
    moby(project, "lock", "box.yml")
    command = [sys.executable, "-m", "linuxkit_rules", "build", FORMATS, "--arch=amd64", "--dir=there"]
    subprocess.run([*command, "box.yml"], cwd=project.root, check=True)
    folder = vendored(project, "--arch=amd64")
    line = ("build", FORMATS, "--arch=amd64", "--dir=here", "--offline", "box.yml")
    refused = without_network(project, *line)
    assert refused.returncode == 1
    assert "nothing may be fetched" in refused.stdout + refused.stderr
    done = without_network(project, *line, "--vendor=vendored")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in NAMES:
        assert (project.root / "here" / name).read_bytes() == (project.root / "there" / name).read_bytes()
    before = files(folder)
    assert {name.partition("/")[0] for name in before} == {"blobs", "index.json", "oci-layout", "packages"}
    assert not list(folder.rglob(".*"))
    assert files(vendored(project, "--arch=amd64")) == before


def test_one_folder_serves_several_machines(project: Project, registry: str) -> None:
    folder = vendored(project, "--arch=amd64", "--format=tar")
    amd64 = set(files(folder))
    vendored(project, "--arch=arm64", "--format=tar")
    both = set(files(folder))
    assert amd64 < both
    assert Layout.at(folder).find(Reference.parse(f"{registry}/v/init:1")) is not None
    assert len(Layout.at(folder).index.members) == 2
    assert {name.rpartition("_")[2] for name in both if name.endswith(".deb")} >= {"all.deb"}


@pytest.mark.parametrize("what", ["blobs/sha256", "packages"])
def test_a_damaged_folder_is_told(project: Project, what: str) -> None:
    folder = vendored(project, "--arch=amd64", "--format=tar")
    for path in (folder / what).iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    done = without_network(
        project, "build", "--format=tar", "--arch=amd64", "--offline", "--vendor=vendored", "box.yml"
    )
    assert done.returncode == 1
    told = "is not the package" if what == "packages" else "has the wrong content"
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.root / "box.tar").exists()


def test_vendoring_again_repairs_the_folder(project: Project) -> None:
    folder = vendored(project, "--arch=amd64", "--format=tar")
    before = files(folder)
    for name, data in before.items():
        if name.startswith(("blobs/", "packages/")):
            (folder / name).write_bytes(data[:-1] + b"?")
    assert files(vendored(project, "--arch=amd64", "--format=tar")) == before


def test_two_that_vendor_into_one_folder_wait_for_each_other(project: Project, registry: str) -> None:
    blobs = Blobs()
    names = [f"{registry}/v/at{number}:1" for number in range(4)]
    for name in names:
        image = blobs.image([tar(init=name.encode())])
        push(registry, blobs, image, name.removeprefix(f"{registry}/").removesuffix(":1"), "1")
    lines = []
    for number, name in enumerate(names):
        (project.root / f"{number}.yml").write_text(f"init:\n  - {name}\n")
        lines.append(
            [sys.executable, "-m", "linuxkit_rules", "vendor", "--arch=amd64", "together", f"{number}.yml"]
        )
    started = [subprocess.Popen(line, cwd=project.root) for line in lines]
    assert [process.wait() for process in started] == [0] * 4
    layout = Layout.at(project.root / "together")
    assert all(layout.find(Reference.parse(name)) for name in names)


def test_a_folder_that_another_writes_to_is_not_looked_into(project: Project, registry: str) -> None:
    folder = project.root / "held"
    folder.mkdir()
    command = [sys.executable, "-m", "linuxkit_rules", "vendor", "held", "--format=tar", "box.yml"]
    with subprocess.Popen(command, cwd=project.root) as waits:
        with locked(folder):
            inode = folder.stat().st_ino
            await_(lambda: waits.poll() is not None or is_waited_for(inode), "the folder is waited for")
            assert waits.poll() is None
            assert not list(folder.iterdir())
            (folder / "blobs").mkdir()
            (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        assert waits.wait() == 0
    assert Layout.at(folder).find(Reference.parse(f"{registry}/v/init:1"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def is_waited_for(inode: int) -> bool:
    """Whether a process waits for a lock on a file (proc_locks(5))."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f":{inode} " in line for line in lines)


def test_a_folder_left_half_made_is_gone_on_with(project: Project, registry: str) -> None:
    (project.root / "vendored").mkdir()
    left = project.root / "vendored" / ".oci-layout.moby-killed"
    left.touch()
    folder = vendored(project, "--format=tar")
    assert not left.exists()
    assert Layout.at(folder).find(Reference.parse(f"{registry}/v/init:1"))


def test_another_folder_is_left_alone(project: Project) -> None:
    (project.root / "full").mkdir()
    (project.root / "full" / "file").write_text("mine")
    printed = moby(project, "vendor", "full", "box.yml", status=1)
    assert "full: is neither empty nor an OCI image layout" in printed
    assert files(project.root / "full") == {"file": b"mine"}
    assert "there is no such folder" in moby(project, "build", "--vendor=gone", "box.yml", status=1)
    assert "is no OCI image layout" in moby(project, "build", "--vendor=full", "box.yml", status=1)
