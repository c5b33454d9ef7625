"""Bits that rot in a store, and notes that are not what SCons believes: never wrong bytes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import DamagedError
from linuxkit_rules.formats.buffers import sha256_of
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.stages import unpack
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.stages.unpack import Unpack, load
from linuxkit_rules.store import blobs
from linuxkit_rules.store import verify as verify_module
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Entry, Memory, Result
from linuxkit_rules.store.survey import survey
from linuxkit_rules.store.verify import verify
from tests.builds import expected
from tests.images import tar
from tests.project import Project
from tests.test_gc import moby


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path / "project")


def flip(path: Path, place: int = -1) -> None:
    """Change one bit of a blob."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def files(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project.root / "out").iterdir() if path.is_file()}


def test_a_flipped_bit_in_any_blob_never_gives_wrong_bytes(
    project: Project, tmp_path: Path, count: Callable[..., None]
) -> None:
    """A changed image is built from a store of which one blob has rotted, in the middle or at its end."""
    yml, layout = project.root / "tiny.yml", project.root / "layout"
    built, changed = tmp_path / "built", tmp_path / "changed"
    expected(yml, built, layout)
    project.edit("name: app", "name: renamed")
    right = expected(yml, changed, layout)
    for name, blob in survey(built).blobs.items():
        for place in (-1, blob.size // 2):
            rotten = tmp_path / "rotten"
            shutil.copytree(built, rotten)
            flip(rotten / "blobs" / "sha256" / name, place)
            unpack._INDEXES.clear()  # what an earlier build of this process has read
            assert expected(yml, rotten, layout) == right
            shutil.rmtree(rotten)
            count("flipped bits built over")


def test_a_lost_blob_is_made_again_wherever_it_is_missed(project: Project, tmp_path: Path) -> None:
    yml, layout, built = project.root / "tiny.yml", project.root / "layout", tmp_path / "built"
    right = expected(yml, built, layout)
    for name in survey(built).blobs:
        (built / "blobs" / "sha256" / name).unlink()
        assert expected(yml, built, layout) == right


def test_scons_makes_again_what_has_rotted_in_the_same_build(project: Project, tmp_path: Path) -> None:
    """Layers and images are read when a service is renamed; SCons thinks that they are up to date."""
    project.scons()
    named = {
        blob.digest.hex
        for item in survey(project.root / "store").entries
        if item.entry and item.entry.stage in ("fetch-layer", "layout-image", "unpack")
        for blob in item.entry.result.blobs
    }
    yml, name = project.root / "tiny.yml", "app"
    for number, blob in enumerate(sorted(named)):
        flip(project.root / "store" / "blobs" / "sha256" / blob)
        project.edit(f"services:\n  - name: {name}\n", f"services:\n  - name: app{number}\n")
        name = f"app{number}"
        project.scons()
        right = expected(yml, tmp_path / "alone", project.root / "layout")
        assert files(project) == {f"tiny{suffix}": data for suffix, data in right.items()}


def test_a_part_of_a_container_that_has_rotted_is_made_again_and_then_the_others(project: Project) -> None:
    project.scons()
    (bundle,) = (
        item.entry.result.output
        for item in survey(project.root / "store").entries
        if item.entry and item.entry.stage == "bundle" and item.entry.label.endswith("/app")
    )
    flip(project.root / "store" / "blobs" / "sha256" / bundle.digest.hex)
    said = project.scons(LINUXKIT_COMPRESSION="gzip")
    assert "was damaged and has been dropped: it is made again" in said
    assert [label for how, stage, label in project.events if (how, stage) == ("run", "segment")].count(
        "services/app/segment"
    ) == 1 + 1  # the one that failed, and the one that has it made again
    found = files(project)
    shutil.rmtree(project.root / "out")
    project.scons(LINUXKIT_COMPRESSION="gzip", LINUXKIT_STORE=str(project.root / "fresh"))
    assert files(project) == found
    assert "is up to date" in project.scons(
        ".", LINUXKIT_COMPRESSION="gzip", LINUXKIT_STORE=str(project.root / "fresh")
    )


@pytest.mark.parametrize("name", ["initrd", "services/app"])
def test_a_descriptor_that_lacks_a_part_is_written_again(project: Project, name: str) -> None:
    """A killed run can leave a descriptor cut short, and no notes."""
    project.scons()
    before = files(project)
    target = project.root / "out" / ".linuxkit" / "tiny" / f"{name}.json"
    lines = target.read_bytes().splitlines(keepends=True)
    target.write_bytes(b"".join(lines[:-1]))
    (project.root / ".sconsign.dblite").unlink()
    project.scons()
    assert target.read_bytes().splitlines(keepends=True) == lines
    assert files(project) == before
    assert "is up to date" in project.scons(".")


def test_what_is_no_descriptor_is_written_again(project: Project) -> None:
    """Whatever it is, and though SCons knows nothing of the file."""
    project.scons()
    target = project.root / "out" / ".linuxkit" / "tiny" / "files" / "segment.json"
    good = target.read_bytes()
    row = json.loads(good)
    digests = ({"digest": digest} for digest in (1, [1], "x", "sha256:zz", None))
    sizes = ({"size": size} for size in ([1], str(row["size"]), float(row["size"]), -1, True))
    others = {"refers": 1}, {"refers": [[]]}, {"mediaType": None}
    rows = (json.dumps({**row, **change}).encode() for change in (*digests, *sizes, *others))
    for number, data in enumerate((b"", b"[]", b"1", b"\xff", b"{", b"[" * 100_000, *rows)):
        target.write_bytes(data)
        (project.root / ".sconsign.dblite").unlink(missing_ok=True)
        if number % 5 == 0:
            project.scons("-c")
        project.scons()
        assert target.read_bytes() == good
    assert "is up to date" in project.scons(".")


def test_a_blob_that_rotted_is_found_before_a_slice_of_it_is_used(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    blob = store.put(b"0123456789")
    flip(store.path(blob.digest))
    again = Store(tmp_path / "store")
    with (tmp_path / "out").open("wb") as out, pytest.raises(DamagedError, match="was damaged"):
        again.copy(Slice(blob.digest, 0, 5), out)
    assert (tmp_path / "out").read_bytes() == b""
    assert not again.has(blob)


def test_a_blob_is_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Store(tmp_path / "store")
    blob = written.put(b"0123456789")
    reads = []
    monkeypatch.setattr(blobs, "sha256_of", lambda file: reads.append(file) or sha256_of(file))
    for store in (written, Store(tmp_path / "store")):
        for _ in range(3):
            store.open(blob.digest).close()
    assert len(reads) == 1


def test_an_index_is_read_once_and_not_given_to_be_changed(tmp_path: Path) -> None:
    engine = Engine(Store(tmp_path / "store"))
    layer = engine.store.put(tar(a=b"1", b=b"2"))
    index = engine.run(Unpack(), {"layer": [layer]}).output
    first = load(engine.store, index)
    assert isinstance(first, tuple)
    assert load(engine.store, index) is first
    assert unpack._INDEXES.currsize >= index.size


def test_an_index_larger_than_the_memory_for_them_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "_INDEXES", unpack.LRUCache(10, getsizeof=lambda item: item[0]))
    engine = Engine(Store(tmp_path / "store"))
    index = engine.run(Unpack(), {"layer": [engine.store.put(tar(a=b"1"))]}).output
    assert load(engine.store, index) == load(engine.store, index)
    assert len(unpack._INDEXES) == 0


def test_what_a_gc_removes_meanwhile_is_no_finding(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.scons()
    store = project.root / "store"
    seen = survey(store)
    first, second, *_ = seen.entries
    for item in (first, second):
        item.file.path.unlink()
    entries = (replace(first, entry=None), *seen.entries[1:])
    assert second.entry
    gone = named(second.entry)
    others = [item for item in seen.entries[2:] if item.entry and gone.isdisjoint(named(item.entry))]
    blobs_left = {name: blob for name, blob in seen.blobs.items() if name not in gone}
    survived = replace(seen, entries=(*entries[:2], *others), blobs=blobs_left)
    monkeypatch.setattr(verify_module, "survey", lambda root: survived)
    found = verify(store)
    assert others
    assert (found.is_sound, found.incomplete) == (True, 0)


def named(entry: Entry) -> set[str]:
    return {blob.digest.hex for blob in entry.result.blobs}


def test_verify_finds_and_drops(tmp_path: Path, project: Project) -> None:
    root = project.root / "store"
    project.scons()
    before = files(project)
    store, memory = Store(root), Memory(Store(root))
    sound = verify(root)
    assert (sound.is_sound, sound.incomplete) == (True, 0)
    rotten = sorted(survey(root).blobs.values(), key=lambda blob: blob.size)[-2:]
    for blob in rotten:
        flip(blob.path)
    memory.put("0" * 64, Result(store.put(b"sound"), (Descriptor("x", sound_digest(store), 7),)))
    (root / "entries" / ("1" * 64)).write_bytes(b"{")
    (root / "index.json").write_bytes(b"{}")
    names = len(survey(root).entries)
    printed = moby(root, "verify", status=1)
    for blob in rotten:
        assert f"blob sha256:{blob.path.name} had rotted and has been dropped" in printed
        assert not blob.path.exists()
    assert f"entry {'1' * 64} was damaged and has been dropped" in printed
    assert "index.json was damaged and has been written again" in printed
    assert len(survey(root).entries) <= names - 4
    assert "verified" in moby(root, "verify")
    shutil.rmtree(project.root / "out")
    project.scons()
    assert files(project) == before


def sound_digest(store: Store) -> object:
    """Of a blob that is no longer there."""
    gone = store.put(b"missing")
    store.path(gone.digest).unlink()
    return gone.digest


@pytest.mark.parametrize("notes", [b"", b"garbage", None])
def test_notes_of_scons_that_are_damaged_are_no_harm(project: Project, notes: bytes | None) -> None:
    project.scons()
    before = files(project)
    project.edit("hello", "changed")
    project.scons()
    project.edit("changed", "hello")
    path = project.root / ".sconsign.dblite"
    path.write_bytes(path.read_bytes()[:-100] if notes is None else notes)
    project.scons()
    assert files(project) == before


@pytest.mark.parametrize("subfolder", [False, True])
def test_a_killed_run_s_files_are_newer_than_scons_s_notes(tmp_path: Path, subfolder: bool) -> None:
    """SCons writes its notes at the end: a kill before that leaves those of the run before."""
    project = Project.make(tmp_path / "project")
    image = 'env.LinuxKitImage("out/tiny", "tiny.yml", formats=["kernel+initrd"])\n'
    folder = project.root / "sub" if subfolder else project.root
    folder.mkdir(exist_ok=True)
    (folder / "SConscript").write_text(f'Import("env")\n{image}')
    for name in ("tiny.yml", "local.txt"):
        (project.root / name).rename(folder / name)
    tool = "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
    (project.root / "SConstruct").write_text(f'{tool}SConscript("{folder}/SConscript", "env")\n')
    yml, notes = str((folder / "tiny.yml").relative_to(project.root)), project.root / ".sconsign.dblite"

    def built() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "out").iterdir() if path.is_file()}

    project.scons()
    before, kept = built(), notes.read_bytes()
    project.edit("hello", "farewell", yml)
    project.edit("  cmdline: console=ttyS0\n", "", yml)
    project.scons()
    assert built().keys() == {"tiny-initrd.img", "tiny-kernel"}
    other = built()
    notes.write_bytes(kept)  # as if it had been killed before it wrote them
    project.edit("farewell", "hello", yml)
    project.edit("test/kernel:1\n", "test/kernel:1\n  cmdline: console=ttyS0\n", yml)
    project.scons()
    assert built() == before
    assert "is up to date" in project.scons(str((folder / "out" / "tiny-kernel").relative_to(project.root)))
    notes.write_bytes(kept)
    project.edit("hello", "farewell", yml)
    project.edit("  cmdline: console=ttyS0\n", "", yml)
    project.scons()
    assert built() == other, "a file of the run before is still there"


def test_a_killed_run_of_a_yaml_that_is_built(project: Project) -> None:
    (project.root / "tiny.yml").rename(project.root / "tiny.in")
    (project.root / "SConstruct").write_text(
        "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
        'yml = env.Command("tiny.yml", "tiny.in", Copy("$TARGET", "$SOURCE"))\n'
        'env.LinuxKitImage("out/tiny", yml, formats=["kernel+initrd"])\n'
    )
    project.scons()
    before, notes = files(project), project.root / ".sconsign.dblite"
    kept = notes.read_bytes()
    project.edit("hello", "longer than before", "tiny.in")
    project.scons()
    assert files(project) != before
    notes.write_bytes(kept)
    project.edit("longer than before", "hello", "tiny.in")
    (project.root / "tiny.yml").unlink()  # a target of the user's: SCons would believe its notes
    project.scons()
    assert files(project) == before


def test_a_store_that_may_only_be_read_serves_a_build_with_nothing_to_do(project: Project) -> None:
    """A file system mounted read-only, in a user namespace: no root is needed, and root is no exception."""
    build = f"{sys.executable} -m linuxkit_rules build --format=kernel+initrd"
    build += " --image-layout=layout tiny.yml"

    def run(script: str) -> subprocess.CompletedProcess[str]:
        line = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        return subprocess.run(
            line, cwd=project.root, env=project.environment(), capture_output=True, text=True
        )

    read_only = "mount --bind store store && mount -o remount,ro,bind store && "
    assert run(build).returncode == 0
    again = run(read_only + build)
    assert (again.returncode, again.stderr) == (0, "")
    assert "is up to date" in again.stdout
    project.edit("hello", "changed")
    refused = run(read_only + build)
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_store_of_somebody_else_is_one_clear_line(project: Project, mode: int) -> None:
    """A program without capabilities, for which modes count even if it is root's."""
    project.scons()
    folders = [path for path in (project.root / "store").rglob("*") if path.is_dir()]
    project.edit("hello", "changed")
    line = [
        "unshare",
        "--user",
        "--map-root-user",
        "setpriv",
        "--bounding-set=-all",
        sys.executable,
        "-m",
        "SCons",
    ]
    try:
        for path in folders:
            path.chmod(mode)
        result = subprocess.run(
            [*line, "-Q"], cwd=project.root, env=project.environment(), capture_output=True, text=True
        )
    finally:
        for path in folders:
            path.chmod(0o755)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert f"{project.root / 'store'}" in result.stderr
    assert "Permission denied (set LINUXKIT_STORE)" in result.stderr


def test_a_relative_store_counts_from_the_sconstruct(project: Project) -> None:
    """SCons reads SConscripts in their own folders."""
    (project.root / "sub").mkdir()
    for name in ("tiny.yml", "local.txt"):
        (project.root / name).rename(project.root / "sub" / name)
    (project.root / "SConstruct").write_text(
        "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
        'SConscript("sub/SConscript", "env")\n'
    )
    (project.root / "sub" / "SConscript").write_text(
        'Import("env")\nenv.LinuxKitImage("out/tiny", "tiny.yml", formats=["kernel+initrd"])\n'
    )
    project.scons(LINUXKIT_STORE="near")
    assert (project.root / "near" / "blobs").is_dir()
    assert not (project.root / "sub" / "near").exists()
