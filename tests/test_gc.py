"""Making room in a store, and what is in it."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.cli.numbers import age, shown_age, shown_size, size
from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import StoreError
from linuxkit_rules.store import gc as gc_module
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.gc import Policy, collect
from linuxkit_rules.store.locks import Locks
from linuxkit_rules.store.memory import Memory, Result
from linuxkit_rules.store.survey import survey
from linuxkit_rules.store.usage import GRAIN
from tests.builds import expected, finished, made, start
from tests.project import Project

DAY = 86400.0
NOW = 20_000 * DAY


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def fill(root: Path, *ages: float) -> list[Result]:
    """Remember a step for each age in days, with an output of 1,000 bytes; nobody uses the store then."""
    store = Store(root)
    results = []
    for number, days in enumerate(ages):
        result = Result(store.put(bytes([number]) * 1000))
        Memory(store).put(f"{number:064x}", result, "stage", f"label {number}")
        set_age(root, result.output, days)
        os.utime(root / "entries" / f"{number:064x}", (NOW - days * DAY,) * 2)
        results.append(result)
    return results


def set_age(root: Path, blob: Descriptor, days: float) -> None:
    os.utime(Store(root).path(blob.digest), (NOW - days * DAY,) * 2)


def there(root: Path, results: list[Result]) -> list[bool]:
    """Which of the results memory has; without using them."""
    found = survey(root)
    whole = {item.file.path.name for item in found.entries if item.entry and found.is_whole(item.entry)}
    return [f"{number:064x}" in whole for number, _ in enumerate(results)]


def test_without_limits_only_what_nothing_names_goes(root: Path, clock: Clock) -> None:
    results = fill(root, 1, 400)
    store = Store(root)
    unnamed = store.put(b"unnamed")
    del store
    Store(root).path(results[1].output.digest).unlink()
    freed = collect(root, Policy(), clock)
    assert (freed.blobs, freed.entries) == (1, 1)
    assert not Store(root).path(unnamed.digest).exists()
    assert there(root, results) == [True, False]
    assert len(survey(root).entries) == 1


def test_what_was_not_used_for_long_goes(root: Path, clock: Clock) -> None:
    results = fill(root, 1, 29, 31)
    freed = collect(root, Policy(max_age=30 * DAY), clock)
    assert (freed.blobs, freed.entries) == (1, 1)
    assert there(root, results) == [True, True, False]


def test_the_least_recently_used_goes_until_the_size_is_kept(root: Path, clock: Clock) -> None:
    results = fill(root, 3, 1, 4, 2)
    before = survey(root).size
    freed = collect(root, Policy(max_size=before - 1500), clock)
    assert there(root, results) == [False, True, False, True]
    assert survey(root).size == freed.left <= before - 1500
    assert collect(root, Policy(max_size=0), clock).left == 0


def test_a_blob_goes_with_the_last_that_names_it(root: Path, clock: Clock) -> None:
    results = fill(root, 10, 1)
    store = Store(root)
    Memory(store).put(f"{2:064x}", Result(results[1].output, results[0].blobs))
    del store
    set_age(root, results[0].output, 10)
    collect(root, Policy(max_age=5 * DAY), clock)
    assert survey(root).blobs.keys() == {item.output.digest.hex for item in results}
    assert there(root, results) == [False, True]


def test_dry_run_says_the_same_and_removes_nothing(root: Path, clock: Clock) -> None:
    results = fill(root, 10, 1)
    said = collect(root, Policy(max_age=5 * DAY), clock, dry_run=True)
    assert there(root, results) == [True, True]
    assert collect(root, Policy(max_age=5 * DAY), clock) == said


def test_use_is_noted_when_it_is_older_than_an_hour(root: Path, clock: Clock) -> None:
    (result,) = fill(root, 10)
    store = Store(root, clock)
    path = store.path(result.output.digest)
    assert Memory(store).get(f"{0:064x}") == result
    assert path.stat().st_mtime == (root / "entries" / f"{0:064x}").stat().st_mtime == NOW
    clock.time += GRAIN - 1
    assert store.has(result.output)
    assert path.stat().st_mtime == NOW
    clock.time += 1
    assert store.has(result.output)
    assert path.stat().st_mtime == NOW + GRAIN


def test_what_a_running_build_uses_stays(root: Path, clock: Clock) -> None:
    results = fill(root, 10, 10, 10)
    store = Store(root, clock)
    assert store.has(results[0].output)
    made = store.put(b"made, and named by no entry yet")
    os.utime(store.path(made.digest), (NOW, NOW))
    clock.time += 7 * DAY
    collect(root, Policy(max_size=0, max_age=0), clock)
    assert survey(root).blobs.keys() == {results[0].output.digest.hex, made.digest.hex}
    del store
    collect(root, Policy(max_size=0), clock)
    assert survey(root).blobs == {}


def test_a_build_that_begins_while_room_is_made_keeps_what_it_finds(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the decision and the removal a build begins and finds a blob."""
    results = fill(root, 10, 10)
    builds = []
    choose = gc_module.choose

    def choose_late(*arguments: object) -> object:
        doomed = choose(*arguments)  # type: ignore[arg-type]
        assert len(doomed.blobs) == 2
        builds.append(Store(root, clock))
        assert builds[0].has(results[0].output)
        return doomed

    monkeypatch.setattr(gc_module, "choose", choose_late)
    assert collect(root, Policy(max_size=0), clock).blobs == 1
    assert builds[0].has(results[0].output)


def test_a_lease_of_a_killed_process_holds_nothing(root: Path, clock: Clock) -> None:
    (result,) = fill(root, 10)
    code = (
        "import os, sys; from pathlib import Path; from linuxkit_rules.store.blobs import Store\n"
        "store = Store(Path(sys.argv[1])); store.put(b'x'); print(len(os.listdir(store.root / 'leases')))\n"
        "sys.stdout.flush(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True)
    assert (killed.returncode, killed.stdout) == (-9, "1\n")
    assert len(list((root / "leases").iterdir())) == 1
    collect(root, Policy(max_size=0), clock)
    assert [*survey(root).blobs, *(root / "leases").iterdir()] == []
    assert not Store(root).has(result.output)


def test_tools_are_kept_by_their_use(root: Path, clock: Clock) -> None:
    fill(root, 1)
    for name, days in (("old", 10), ("used", 10), ("new", 1)):
        (root / "tools" / name / "usr").mkdir(parents=True)
        (root / "tools" / name / "usr" / "file").write_bytes(bytes(100))
        os.utime(root / "tools" / name, (NOW - days * DAY,) * 2)
    store = Store(root, clock)
    assert store.keeps_folder(root / "tools" / "used")
    assert collect(root, Policy(max_age=5 * DAY), clock).tools == 1
    assert sorted(path.name for path in (root / "tools").iterdir()) == ["new", "used"]
    assert list((root / "tmp").iterdir()) == []


def test_what_killed_processes_left_goes_and_what_is_held_stays(root: Path) -> None:
    fill(root, 1)
    store = Store(root)
    (root / "locks").mkdir()
    (root / "locks" / "left").touch()
    for path in (root / "tmp" / "left", root / "tools" / ".new-left"):
        path.mkdir(parents=True)
    (root / "tmp" / "file").touch()
    for path in (root / "tmp" / "left", root / "tmp" / "file", root / "tools" / ".new-left"):
        os.utime(path, (NOW, NOW))
    (root / "tmp" / "young").touch()
    with store.scratch() as held, store.exclusive("held"):
        os.utime(held, (NOW, NOW))
        collect(root, Policy(), lambda: NOW + 2 * DAY)
        assert {path.name for path in (root / "tmp").iterdir()} == {"young", held.name}
        assert [path.name for path in (root / "locks").iterdir()] == ["held"]
        assert list((root / "tools").iterdir()) == []


def test_the_first_to_write_sweeps_what_was_left(root: Path) -> None:
    fill(root, 1)
    (root / "tmp" / "left").touch()
    os.utime(root / "tmp" / "left", (NOW, NOW))
    Store(root).put(b"x")
    assert list((root / "tmp").iterdir()) == []


def test_notes_go_with_the_folder_of_the_outputs(root: Path, tmp_path: Path, clock: Clock) -> None:
    fill(root, 1)
    for name, place in (("here", tmp_path), ("gone", tmp_path / "gone"), ("busy", tmp_path / "gone")):
        (root / "builds" / name).mkdir(parents=True)
        (root / "builds" / name / "place").write_text(str(place))
    (root / "plans").mkdir()
    for name, days in (("old", 40), ("new", 20)):
        (root / "plans" / name).touch()
        os.utime(root / "plans" / name, (NOW - days * DAY,) * 2)
    with (root / "builds" / "busy" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert collect(root, Policy(), clock).notes == 2
    assert sorted(path.name for path in (root / "builds").iterdir()) == ["busy", "here"]
    assert [path.name for path in (root / "plans").iterdir()] == ["new"]


def test_a_second_one_waits_for_the_first(root: Path, clock: Clock) -> None:
    fill(root, 10)
    done = threading.Event()

    def second() -> None:
        collect(root, Policy(max_size=0), clock)
        done.set()

    thread = threading.Thread(target=second)
    with Locks(root / "locks").exclusive("gc"):
        thread.start()
        assert not done.wait(0.2)
        assert len(survey(root).blobs) == 1
    thread.join()
    assert survey(root).blobs == {}


def test_without_locks_builds_go_on_and_nothing_is_removed(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems have none; no real one can be had here."""

    def no_locks(file: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    results = fill(root, 10)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    store = Store(root, clock)
    with store.exclusive("name"):
        assert store.read(store.put(b"made").digest) == b"made"
    with pytest.raises(StoreError, match="nothing can be removed safely: it has no file locks"):
        collect(root, Policy(max_size=0), clock)
    assert there(root, results) == [True]


def test_threads_exclude_each_other_and_leave_no_lock(root: Path) -> None:
    locks, inside, most = Locks(root / "locks"), [], []

    def work() -> None:
        for _ in range(50):
            with locks.exclusive("one"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(most), list((root / "locks").iterdir())) == (1, 400, [])


def test_making_room_beside_builds(tmp_path: Path, count: Callable[..., None]) -> None:
    """Between rounds all is made old; then everything that the builds do not use goes, all the time."""
    project, root = Project.make(tmp_path / "project"), tmp_path / "store"
    Store(root).put(b"")
    yamls = []
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "local.txt").write_text("local\n")
        yamls.append(folder / "tiny.yml")
    text, rounds, stop, removed = (project.root / "tiny.yml").read_text(), 3, threading.Event(), []

    def make_room() -> None:
        """As soon as the first build has begun: all want the same old blobs then."""
        while not any((root / "leases").glob("*")) and not stop.wait(0.001):
            pass
        while not stop.wait(0.001):
            freed = collect(root, Policy(max_size=0))
            removed.append(freed.blobs + freed.entries)

    for turn in range(rounds):
        old = time.time() - 2 * DAY
        for path in (path for path in root.rglob("*") if path.is_file() and path.parent.name != "leases"):
            os.utime(path, (old, old))
        stop.clear()
        thread = threading.Thread(target=make_room)
        thread.start()
        try:
            for yml in yamls:
                yml.write_text(text.replace('"one"', f'"{turn // 2}"'))
            for process in [start(yml, root, f"--image-layout={project.root / 'layout'}") for yml in yamls]:
                finished(process)
        finally:
            stop.set()
            thread.join()
        for yml in yamls:
            assert made(yml) == expected(yml, tmp_path / "alone", project.root / "layout")
    assert sum(removed) > 0
    count("builds beside gc", rounds * len(yamls))


def moby(root: Path, *arguments: str, status: int = 0) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "linuxkit_rules", "store", *arguments],
        env={**os.environ, "LINUXKIT_STORE": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == status, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def test_the_commands(tmp_path: Path) -> None:
    project, root = Project.make(tmp_path / "project"), tmp_path / "project" / "store"
    project.scons()
    found = json.loads(moby(root, "--json"))
    kinds = {item["name"]: item for item in found["kinds"]}
    assert kinds["layers"]["count"] == 4
    assert {"segments", "initrds", "kernels", "memory of steps"} <= kinds.keys()
    assert found["size"] == survey(root).size
    images = {item["name"] for item in found["images"]}
    assert images == {f"docker.io/test/{name}:1" for name in ("kernel", "init", "app")}
    for arguments in (("--json", "show"), ("show", "--json"), ("--json", "show", "--images=1")):
        assert json.loads(moby(root, *arguments)) == found
    assert "cannot be read: Not a directory" in moby(root / "oci-layout", status=1)
    rows = [line.split("\t") for line in moby(root).splitlines()]
    assert [row[0] for row in rows[: len(kinds)]] == [item["name"] for item in found["kinds"]]
    assert "would remove 1 blobs" in moby(root, "gc", "--dry-run", "--max-age", "1h")  # the copy of local.txt
    assert "verified" in moby(root, "verify", "-j2")
    assert "; 0 B stay" in moby(root, "gc", "--max-size", "0")
    assert moby(root, "gc", "--max-size", "9" * 400, status=2).endswith("is no size (20G, 500M)\n")
    assert moby(root, "gc", "--max-size", "20 elephants", status=2).endswith("is no size (20G, 500M)\n")
    assert moby(tmp_path / "none", "gc").startswith("removed 0 blobs")
    assert moby(tmp_path / "none") == ""
    assert not (tmp_path / "none").exists()


def test_sizes_and_ages() -> None:
    assert [size(text) for text in ("0", "1k", "500M", "1.5G", "20GiB")] == [
        0,
        1024,
        500 << 20,
        3 << 29,
        20 << 30,
    ]
    assert [age(text) for text in ("90m", "12h", "30d", "2w", "1")] == [5400, 43200, 30 * DAY, 14 * DAY, DAY]
    assert [shown_size(count) for count in (0, 1023, 1536, 5 << 30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]
    assert [shown_age(seconds) for seconds in (5, 120, 7200, 3 * DAY)] == ["now", "2 min", "2 h", "3 d"]
    for text in ("", "G", "-1", "1X", "1e3"):
        for parse in (size, age):
            with contextlib.suppress(Exception):
                assert not parse(text)


@pytest.mark.parametrize(("command", "said"), [("show", "what it is for"), ("verify", "verified")])
def test_a_terminal_gets_tables_and_a_bar(root: Path, command: str, said: str) -> None:
    fill(root, 1)
    reader, terminal = os.openpty()
    line = [sys.executable, "-m", "linuxkit_rules", "store", command]
    environment = {**os.environ, "LINUXKIT_STORE": str(root), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(line, env=environment, stdout=terminal, stderr=terminal)
    os.close(terminal)
    printed = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal by EIO
        while data := os.read(reader, 1 << 16):
            printed += data
    os.close(reader)
    assert process.wait() == 0
    assert said in printed.decode()
    assert "Traceback" not in printed.decode()
