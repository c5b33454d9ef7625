"""What goes wrong in the world: one clear line, a status that is not 0, and the old output as it was."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxkit_rules import host
from linuxkit_rules.debian import mirror
from linuxkit_rules.debian.lock import LIBRARY_LOCK, load_lock
from tests.project import Project

REDIS = 'services:\n  - name: redis\n    image: "@pkg:redis"\n'


def moby(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``moby build``; whatever happens, no traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "linuxkit_rules", "build", *arguments],
        cwd=folder,
        env={**os.environ, "LINUXKIT_STORE": str(folder / "store"), **environment},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a YAML that needs packages, and the output of an earlier build."""
    kernel = 'kernel:\n  image: "@pkg:kernel"\ninit:\n  - "@pkg:init"\n'
    (tmp_path / "box.yml").write_text(kernel + REDIS)
    (tmp_path / "box.iso").write_text("the old one")
    return tmp_path


@pytest.fixture
def lying_mirror() -> Iterator[str]:
    """A mirror that gives every file the right length and the wrong content."""
    sizes = {
        "/" + pin.filename: pin.size
        for group in load_lock(LIBRARY_LOCK).packages.values()
        for pin in group.values()
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = sizes[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(bytes(size))

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def refused(folder: Path, result: subprocess.CompletedProcess[str], *words: str) -> None:
    """The build has failed, says why in lines of its own, and has left the old output alone."""
    assert result.returncode != 0
    for word in words:
        assert word in result.stderr
    assert (folder / "box.iso").read_text() == "the old one"
    assert sorted(path.name for path in folder.iterdir() if path.name != "store") == ["box.iso", "box.yml"]


def test_unreachable_mirror(folder: Path) -> None:
    result = moby(folder, "box.yml", LINUXKIT_DEBIAN_MIRROR="http://127.0.0.1:1/debian")
    refused(folder, result, "box.yml:2:3: component kernel", "cannot fetch http://127.0.0.1:1/debian/pool/")
    assert "LINUXKIT_DEBIAN_MIRROR" in result.stderr


def test_wrong_content_from_the_mirror(folder: Path, lying_mirror: str) -> None:
    result = moby(folder, "box.yml", LINUXKIT_DEBIAN_MIRROR=lying_mirror)
    refused(folder, result, "component ", "sha256:")
    blobs = folder / "store" / "blobs" / "sha256"
    assert all(b"\0" * 100 not in path.read_bytes()[:100] for path in blobs.iterdir())


def test_machine_without_apt_sources_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="LINUXKIT_DEBIAN_MIRROR"):
        mirror.find(None, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "place", "advice"),
    [
        ("image:", "imag:", "box.yml:2:3: ", "'image'"),
        ('"@pkg:redis"', '"@pkg:reddis"', "box.yml:7:12: ", "redis"),
        ('"@pkg:redis"', '"@pkg:./mine"', "box.yml:7:12: ", "build.yml"),
        ('"@pkg:redis"', "oci:nowhere", "box.yml:7:12: ", "nowhere"),
        ("services:", "files:\n  - {path: a, source: no.txt}\nservices:", "box.yml:6:5: ", "no.txt"),
        ("services:\n", "services: 7\nx:\n", "box.yml:5:11: ", "services"),
    ],
)
def test_fault_in_the_yaml(folder: Path, old: str, new: str, place: str, advice: str) -> None:
    yml = folder / "box.yml"
    yml.write_text(yml.read_text().replace(old, new, 1))
    result = moby(folder, "box.yml")
    refused(folder, result, place, advice)


def test_changed_component_wants_its_lock_again(folder: Path) -> None:
    mine = folder / "store" / "mine"
    mine.mkdir(parents=True)
    (mine / "build.yml").write_text("image: mine\npackages: [hello]\n")
    yml = folder / "box.yml"
    yml.write_text(yml.read_text().replace("@pkg:redis", "@pkg:./store/mine"))
    refused(folder, moby(folder, "box.yml"), "mine", "moby lock")


def test_missing_yaml(folder: Path) -> None:
    refused(folder, moby(folder, "nosuch.yml"), "nosuch.yml: cannot be read")


def test_unknown_format_architecture_and_compression(folder: Path) -> None:
    refused(folder, moby(folder, "--format", "vhs", "box.yml"), "'vhs'", "iso")
    refused(folder, moby(folder, "--arch", "mips", "box.yml"), "'mips'", "amd64")
    refused(folder, moby(folder, "box.yml", LINUXKIT_COMPRESSION="rar"), "'rar'", "zstd")
    refused(folder, moby(folder, "box.yml", LINUXKIT_COMPRESSION="zstd:99"), "99", "22")


def test_full_disk(tmp_path: Path) -> None:
    """A disk of 64 KiB, made in a user namespace of its own: no root is needed."""
    project = Project.make(tmp_path / "project")
    project.scons()
    before = (project.root / "out" / "tiny-initrd.img").read_bytes()
    full = tmp_path / "full"
    full.mkdir()
    project.edit('["/app", "one"]', '["/app", "' + "long " * 20_000 + '"]')
    script = f"mount -t tmpfs -o size=64k none {full} && exec {sys.executable} -m SCons -Q"
    result = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=project.root,
        env={**project.environment(), "LINUXKIT_STORE": str(full / "store")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    assert (project.root / "out" / "tiny-initrd.img").read_bytes() == before


def test_host_s_architecture_is_one_of_ours() -> None:
    assert host.checked_arch("") == host.host_arch()
