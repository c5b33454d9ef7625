import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxkit_rules.debian.lock import LIBRARY_LOCK, Lock, load_lock
from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import PackageError, SpecError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.image import load
from linuxkit_rules.plan.update import Update
from linuxkit_rules.spec.component import load_component
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.component import ComponentImage, LaidOver, overlay
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.stages.tool import Program, install
from linuxkit_rules.store.blobs import Store
from tests.debs import INTERPRETER, LIB, Archive, Unsigned, program, served

BUILD = """\
image: web
arch: [amd64]
packages:
  - web: [usr/sbin/web]
  - web-data
  - certs: ["usr/share/ca-certificates/**"]
exclude: ["usr/share/ca-certificates/**", "usr/share/web/big*"]
users:
  - {name: www, uid: 33, gid: 34, home: /srv, gecos: Web}
groups:
  - {name: staff, gid: 50, members: [www]}
directories:
  - {path: tmp, mode: "1777"}
  - {path: srv/www, mode: "0750", user: www, group: staff}
links:
  bin/httpd: ../sbin/web
generate: [ca-bundle]
cmd: [/usr/sbin/web, -f]
env: [A=b]
workdir: /srv
user: www
config:
  net: host
"""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "mirror")
    real = f"{LIB}/ld-linux-x86-64.so.2"
    archive.add(
        "libc6",
        {
            f"{real[4:]}": program(),
            INTERPRETER[1:]: f"/{real}",
            f"{LIB}/libc.so.6": program(),
            f"{LIB}/other.so": program(),
        },
    )
    archive.add(
        "web",
        {"sbin/web": program(["libc.so.6"], interpreter=INTERPRETER), "usr/bin/else": b""},
        depends="libc6",
    )
    archive.add(
        "web-data",
        {
            "usr/share/": b"",
            "usr/share/doc/": b"",
            "usr/share/doc/web-data/": b"",
            "usr/share/doc/web-data/copyright": b"c",
            "usr/share/web/": b"",
            "usr/share/web/index": b"hello",
            "usr/share/web/big.iso": b"x",
            "var/": b"",
            "var/web/": b"",
            "etc/init.d/": b"",
            "etc/init.d/web": b"#!/bin/sh",
        },
    )
    certificates = {"usr/share/ca-certificates/z/b.crt": b"BBB\n", "usr/share/ca-certificates/a.crt": b"AAA"}
    archive.add("certs", {**certificates, "usr/share/ca-certificates/readme": b"no"})
    archive.publish()
    with served(archive) as found:
        yield found


def _folder(tmp_path: Path, build: str = BUILD) -> Path:
    folder = tmp_path / "web"
    (folder / "rootfs/etc/web").mkdir(parents=True)
    (folder / "build.yml").write_text(build)
    (folder / "rootfs/etc/web/conf").write_text("listen 80\n")
    (folder / "rootfs/etc/web/run").write_text("#!/bin/sh\n")
    (folder / "rootfs/etc/web/run").chmod(0o700)
    (folder / "rootfs/etc/web/empty").touch()
    (folder / "rootfs/etc/web/now").symlink_to("conf")
    return folder


def _make(archive: Archive, folder: Path, store: Path) -> tuple[Engine, Descriptor]:
    engine = Engine(Store(store), access=Access(debian_mirror=archive.url))
    component = load_component(folder / "build.yml")
    lock = Update(engine, Unsigned(), arches=("amd64",)).lock([component])
    laid, paths = overlay(folder)
    files = [engine.store.put_file(path) for path in paths]
    stage = ComponentImage(component, lock.pins(component, "amd64"), "amd64", laid)
    return engine, engine.run(stage, {"file": files}).output


def _text(engine: Engine, entry: Entry) -> str:
    path = engine.store.root / "text"
    with path.open("wb") as out:
        engine.store.copy(entry.content, out)
    return path.read_text()


def test_files_are_those_that_the_component_needs(archive: Archive, tmp_path: Path) -> None:
    engine, image = _make(archive, _folder(tmp_path), tmp_path / "store")
    tree = image_tree(image, engine)
    assert sorted(path for path, item in tree.items() if item.kind is not Kind.DIRECTORY) == [
        "bin", "etc/group", "etc/nsswitch.conf", "etc/passwd", "etc/shadow",
        "etc/ssl/certs/ca-certificates.crt", "etc/web/conf", "etc/web/empty", "etc/web/now", "etc/web/run",
        "lib", "lib64", "sbin", "usr/bin/httpd", f"{LIB}/ld-linux-x86-64.so.2", f"{LIB}/libc.so.6",
        "usr/lib64/ld-linux-x86-64.so.2", "usr/sbin/web", "usr/share/web/index",
    ]  # fmt: skip
    assert "var/web" in tree
    assert "usr/share/doc" not in tree
    assert {item.mtime for item in tree.values()} == {1492533000}


def test_what_maintainer_scripts_would_have_made_is_there(archive: Archive, tmp_path: Path) -> None:
    engine, image = _make(archive, _folder(tmp_path), tmp_path / "store")
    tree = image_tree(image, engine)
    assert _text(engine, tree["etc/passwd"]) == (
        "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:Web:/srv:/usr/sbin/nologin\n"
    )
    assert _text(engine, tree["etc/group"]) == "root:x:0:\nwww:x:34:\nstaff:x:50:www\n"
    assert tree["etc/shadow"].mode == 0o600
    assert _text(engine, tree["etc/ssl/certs/ca-certificates.crt"]) == "AAA\nBBB\n"
    assert (tree["srv/www"].mode, tree["srv/www"].uid, tree["srv/www"].gid) == (0o750, 33, 50)
    assert tree["tmp"].mode == 0o1777
    assert tree["usr/bin/httpd"].link == "../sbin/web"
    assert (tree["etc/web/run"].mode, tree["etc/web/conf"].mode) == (0o755, 0o644)
    assert _text(engine, tree["etc/web/conf"]) == "listen 80\n"


def test_the_configuration_is_an_oci_images_with_linuxkits_label(archive: Archive, tmp_path: Path) -> None:
    engine, image = _make(archive, _folder(tmp_path), tmp_path / "store")
    found = load(engine.store, image)
    assert found.config["config"] == {
        "Cmd": ["/usr/sbin/web", "-f"],
        "Env": ["A=b"],
        "Labels": {"org.mobyproject.config": '{"net":"host"}'},
        "User": "www",
        "WorkingDir": "/srv",
    }
    origins = [item["created_by"] for item in found.config["history"]]
    assert origins == ["usr-merge", "web=1.0-1", "web-data=1.0-1", "libc6=1.0-1", "build.yml", "rootfs/"]
    assert found.config["rootfs"]["diff_ids"] == [str(layer.digest) for layer in found.layers]


def test_another_store_folder_and_umask_give_the_same_image(archive: Archive, tmp_path: Path) -> None:
    _, one = _make(archive, _folder(tmp_path), tmp_path / "store")
    old = os.umask(0o077)
    try:
        (tmp_path / "else").mkdir()
        _, other = _make(archive, _folder(tmp_path / "else"), tmp_path / "other")
    finally:
        os.umask(old)
    assert one == other


def test_the_version_moves_with_the_bytes(archive: Archive, tmp_path: Path) -> None:
    _, image = _make(archive, _folder(tmp_path), tmp_path / "store")
    assert (ComponentImage.version, image.digest.hex[:16]) == (2, "b9663901f0ee7abd")


def test_a_changed_label_keeps_every_layer(archive: Archive, tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    engine, one = _make(archive, folder, tmp_path / "store")
    (folder / "build.yml").write_text(BUILD.replace("net: host", "net: none"))
    _, other = _make(archive, folder, tmp_path / "store")
    assert one != other
    assert load(engine.store, one).layers == load(engine.store, other).layers


def test_a_library_that_is_not_locked_is_named(archive: Archive, tmp_path: Path) -> None:
    engine, _ = _make(archive, _folder(tmp_path), tmp_path / "store")
    component = load_component(tmp_path / "web/build.yml")
    lock = Update(engine, Unsigned(), arches=("amd64",)).lock([component])
    pins = tuple(pin for pin in lock.pins(component, "amd64") if pin.name != "libc6")
    with pytest.raises(
        PackageError, match=r"component web, package web: (libc.so.6|/lib64/ld-linux\S+), which usr/sbin/web"
    ):
        engine.run(ComponentImage(component, pins, "amd64"), {})


def test_only_files_folders_and_links_can_be_laid_over(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    os.mkfifo(tmp_path / "rootfs/pipe")
    with pytest.raises(SpecError, match="rootfs/pipe: is neither"):
        overlay(tmp_path)


def test_a_folder_without_rootfs_lays_nothing_over(tmp_path: Path) -> None:
    assert overlay(tmp_path) == ((), ())


def test_what_is_laid_over_is_usr_merged(tmp_path: Path) -> None:
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    (tmp_path / "rootfs/bin/sh").symlink_to("busybox")
    assert overlay(tmp_path)[0] == (LaidOver("usr/bin/sh", 0o777, "busybox"),)


def _library_lock() -> Lock:
    return load_lock(LIBRARY_LOCK)


@pytest.mark.network
def test_a_locked_tool_runs_by_its_own_libraries(tmp_path: Path) -> None:
    engine = Engine(Store(tmp_path))
    root = install(engine, "gpgv", _library_lock())
    assert root == install(engine, "gpgv", _library_lock())
    command = Program(root, "usr/bin/gpgv").command
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("gpgv (GnuPG)")
    assert command[0].startswith(str(tmp_path))
    with pytest.raises(PackageError, match="no program usr/bin/none"):
        _ = Program(root, "usr/bin/none").command


@pytest.mark.network
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_redis_is_made_of_few_files(tmp_path: Path, arch: str) -> None:
    engine = Engine(Store(tmp_path))
    folder = LIBRARY_LOCK.parent / "pkg/redis"
    component = load_component(folder / "build.yml")
    image = engine.run(ComponentImage(component, _library_lock().pins(component, arch), arch), {}).output
    tree = image_tree(image, engine)
    assert sum(item.size for item in tree.values()) < 20_000_000
    assert not [path for path in tree if path.startswith(("usr/share/doc", "usr/share/man", "etc/init.d"))]
    libraries = [path.rpartition("/")[2] for path in tree]
    assert {"libc.so.6", "libssl.so.3", "libjemalloc.so.2"} <= set(libraries)
