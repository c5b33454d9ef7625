import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxkit_rules.debian.globs import matches
from linuxkit_rules.debian.index import parse_packages, parse_release
from linuxkit_rules.debian.lock import LIBRARY_LOCK, Lock, format_lock, load_lock
from linuxkit_rules.errors import ErrorList, LinuxKitError, NetworkError, PackageError
from linuxkit_rules.plan.update import Update, locked_gpgv, update_folder
from linuxkit_rules.spec.component import parse_component
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.debs import INTERPRETER, LIB, Archive, Unsigned, program, served


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "mirror")
    linker = {
        f"lib/{LIB[8:]}/ld-linux-x86-64.so.2": program(),
        "lib64/ld-linux-x86-64.so.2": f"/{LIB}/ld-linux-x86-64.so.2",
    }
    archive.add("libc6", {**linker, f"lib/{LIB[8:]}/libc.so.6": program()})
    archive.add(
        "libnew1",
        {f"{LIB}/libx.so.1": "libx.so.1.2", f"{LIB}/libx.so.1.2": program(["libc.so.6", "libz.so.1"])},
        depends="libc6 (>= 2.36), zlib1g",
        provides="libx1 (= 1.0-1)",
    )
    archive.add("zlib1g", {f"{LIB}/libz.so.1": program(["libc.so.6"])}, depends="libc6")
    archive.add("perl", {"usr/bin/perl": program()})
    archive.add(
        "tool",
        {"usr/bin/tool": program(["libx.so.1"], interpreter=INTERPRETER), "usr/share/doc/tool/x": b""},
        depends="perl, libother | libx1, libc6",
    )
    archive.add("tool", {"usr/bin/old": b""}, version="1.0~rc1-1")
    archive.add(
        "broken", {"usr/bin/broken": program(["libnone.so.9"], interpreter=INTERPRETER)}, depends="libc6"
    )
    archive.add("linux-meta", {"usr/share/doc/linux-meta/x": b""}, depends="linux-image-6.1-cloud")
    archive.add("linux-image-6.1-cloud", {"boot/vmlinuz-6.1": b"kernel"})
    archive.publish()
    with served(archive) as found:
        yield found


def _update(archive: Archive, tmp_path: Path) -> Update:
    engine = Engine(Store(tmp_path / "store"), access=Access(debian_mirror=archive.url))
    return Update(engine, Unsigned(), arches=("amd64",))


def _lock(archive: Archive, tmp_path: Path, text: str) -> Lock:
    return _update(archive, tmp_path).lock([parse_component(f"image: it\n{text}", "build.yml")])


def test_packages_are_those_that_programs_need(archive: Archive, tmp_path: Path) -> None:
    lock = _lock(archive, tmp_path, "packages: [tool]\n")
    assert lock.components["it"].packages == {"amd64": ("libc6", "libnew1", "tool", "zlib1g")}
    assert lock.packages["amd64"]["tool"].version == "1.0-1"
    assert lock.suites == ("bookworm",)


def test_without_closure_only_the_named_package_counts(archive: Archive, tmp_path: Path) -> None:
    lock = _lock(archive, tmp_path, "packages: [tool]\nclosure: false\n")
    assert lock.components["it"].packages == {"amd64": ("tool",)}


def test_a_kernel_is_found_through_its_meta_package(archive: Archive, tmp_path: Path) -> None:
    lock = _lock(archive, tmp_path, "packages: [linux-meta]\nkernel: {package: 'linux-image-*'}\n")
    assert lock.components["it"].packages == {"amd64": ("linux-image-6.1-cloud",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "packages: [broken]\n",
            r"component it, package broken: libnone.so.9, which usr/bin/broken needs, is in none",
        ),
        ("packages: [absent]\n", "there is no package absent for amd64"),
        ("packages: [libx1]\n", "there is no package libx1 for amd64 .take one of libnew1"),
        (
            "packages: [{perl: [usr/sbin/perl]}]\n",
            r"package perl has no file usr/sbin/perl .it has usr/bin/perl",
        ),
        ("packages: [perl]\nkernel: {package: 'linux-image-*'}\n", "leads to a package"),
    ],
)
def test_what_cannot_be_resolved_is_said(archive: Archive, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ErrorList, match=message):
        _lock(archive, tmp_path, text)


def test_a_suite_that_is_not_there_is_named(archive: Archive, tmp_path: Path) -> None:
    update = dataclasses.replace(_update(archive, tmp_path), suites=("bokworm",))
    with pytest.raises(NetworkError, match=r"bokworm/InRelease: .*404.*is the suite's name right"):
        update.lock([])


def test_an_excluded_library_is_not_looked_for(archive: Archive, tmp_path: Path) -> None:
    lock = _lock(archive, tmp_path, "packages: [broken]\nexclude: [libnone.so.9]\n")
    assert lock.components["it"].packages == {"amd64": ("broken", "libc6")}


def test_a_component_of_ones_own_gets_a_lock_beside_it(archive: Archive, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "build.yml").write_text("image: own\npackages: [tool]\n")
    lock = update_folder(_update(archive, tmp_path), folder)
    assert (folder / "packages.lock").read_text() == format_lock(lock)
    assert [path.name for path in sorted(folder.iterdir())] == ["build.yml", "packages.lock"]


def test_another_suite_in_the_place_of_the_one_asked_for_is_refused(archive: Archive, tmp_path: Path) -> None:
    archive.suite = "trixie"
    archive.publish()
    (archive.folder / "dists/bookworm/InRelease").write_bytes(
        (archive.folder / "dists/trixie/InRelease").read_bytes()
    )
    with pytest.raises(PackageError, match="describes trixie, not bookworm"):
        _lock(archive, tmp_path, "packages: [tool]\n")


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("usr/share/**", "usr/share/a/b", True),
        ("usr/share/**", "usr/share", True),
        ("usr/share/**", "usr/shared", False),
        ("usr/*/x", "usr/a/x", True),
        ("usr/*/x", "usr/a/b/x", False),
        ("**/x.so", "x.so", True),
        ("**/x.so", "a/b/x.so", True),
        ("a**z", "a/b/z", True),
        ("lib?.so", "liba.so", True),
        ("lib[a-c].so", "libb.so", True),
        ("lib[!a].so", "liba.so", False),
        ("c++.so", "c++.so", True),
        ("a.so", "abso", False),
    ],
)
def test_globs(glob: str, path: str, expected: bool) -> None:
    assert matches((glob,), path) is expected


def test_damaged_indexes_are_refused() -> None:
    with pytest.raises(PackageError, match="no sha256 digests"):
        parse_release("Suite: x\n")
    with pytest.raises(PackageError, match="damaged line"):
        parse_release("Codename: x\nSHA256:\n abc 1 f\n")
    with pytest.raises(PackageError, match="no filename for a"):
        list(parse_packages("Package: a\nSize: 1\nSHA256: b\nVersion: 1\nArchitecture: all\n"))
    stanza = f"Package: a1\nSize: 1\nSHA256: {'a' * 64}\nVersion: 1\nArchitecture: all\nFilename: ../a\n"
    with pytest.raises(PackageError, match="damaged stanza"):
        list(parse_packages(stanza))


@pytest.mark.network
def test_debians_signature_is_verified_with_the_locked_gpgv(tmp_path: Path) -> None:
    from linuxkit_rules.debian import mirror
    from linuxkit_rules.debian.fetch import read

    gpgv = locked_gpgv(Engine(Store(tmp_path)), load_lock(LIBRARY_LOCK))
    signed = read(f"{mirror.release_url(mirror.find(None), 'bookworm')}/InRelease")
    assert parse_release(gpgv.verify(signed, "InRelease")).codename == "bookworm"
    forged = signed.replace(b"Codename: bookworm", b"Codename: bookwurm")
    with pytest.raises(LinuxKitError, match=r"InRelease: the signature does not verify: BADSIG"):
        gpgv.verify(forged, "InRelease")
    with pytest.raises(LinuxKitError, match="does not verify"):
        gpgv.verify(b"Codename: bookworm\n", "InRelease")
