"""Builds that are killed at any moment: what they leave is never taken for a result.

``STORE_KILLS=1000 pytest tests/test_kill.py`` is the long mode.
"""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from linuxkit_rules.scons import command
from linuxkit_rules.scons.command import Request, state_folder
from linuxkit_rules.store.gc import Policy, collect
from linuxkit_rules.store.locks import is_held
from linuxkit_rules.store.survey import survey
from linuxkit_rules.store.verify import verify
from tests.builds import FORMAT, expected, finished, made, start
from tests.forks import Forks
from tests.project import Project

KILLS = int(os.environ.get("STORE_KILLS", "200"))
LANES = 3
SCONSTRUCT = Path(command.__file__).with_name("SConstruct.moby")
CHECKED = 25
"""After so many kills of a lane a build is left to end, and its files compared."""


@dataclass
class Lane:
    """One image that is built and killed, again and again; all lanes share a store and a layout."""

    folder: Path
    store: Path
    layout: Path
    chance: random.Random
    forks: Forks
    killed: int = 0
    longest: float = 1.0
    texts: list[str] = field(default_factory=list)

    @property
    def yml(self) -> Path:
        return self.folder / "tiny.yml"

    def change(self) -> None:
        """Write a YAML that was not built before; or one that was, which SCons's notes may know."""
        text = self.chance.choice(self.texts)
        if self.chance.random() < 0.7:
            number = self.chance.randrange(1 << 30)
            text = self.texts[0].replace('"one"', f'"{number}"').replace("hello", f"hello {number}" * 5000)
            self.texts[2:] = [*self.texts[2:], text][-3:]
        self.yml.write_text(text)

    def kill(self) -> None:
        """Begin a build and kill all of it after a time, if it has not ended by then."""
        self.change()
        whole = self.chance.random() < 0.1
        began = time.monotonic()
        status = self._kill_moby() if whole else self._kill_scons()
        if status == -signal.SIGKILL:
            self.killed += 1
            return
        assert status == 0, (self.folder / "scons.log").read_text()
        if not whole:
            self.longest = time.monotonic() - began

    def _kill_moby(self) -> int:
        """The program as users start it, of which a good part is the start."""
        process = self.moby(start_new_session=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.chance.uniform(0, 2))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()  # until SCons has ended too
        return process.returncode

    def _kill_scons(self) -> int:
        """What it starts, forked from a process that has imported all."""
        request = Request(
            ("tiny.yml",),
            str(self.folder),
            "tiny",
            (FORMAT,),
            {"LINUXKIT_IMAGE_LAYOUTS": [str(self.layout)]},
            state_folder(str(self.store), str(self.folder), "tiny"),
        )
        arguments = ["-Q", "-f", str(SCONSTRUCT), "--no-site-dir", "-j2"]
        number = self.forks.start(*arguments, f"request={json.dumps(dataclasses.asdict(request))}")
        killer = threading.Timer(self.chance.uniform(0, self.longest), os.kill, (number, signal.SIGKILL))
        killer.start()
        status = self.forks.wait()
        killer.cancel()
        killer.join()
        return status

    def moby(self, **options: bool) -> subprocess.Popen[str]:
        return start(self.yml, self.store, f"--image-layout={self.layout}", **options)

    def check(self) -> None:
        """A build that is left to end gives the right bytes."""
        self.change()
        finished(self.moby())
        assert made(self.yml) == expected(self.yml, self.folder / "alone", self.layout)


@pytest.fixture
def lanes(tmp_path: Path) -> Iterator[list[Lane]]:
    project = Project.make(tmp_path / "project", program=bytes(range(256)))
    text = (project.root / "tiny.yml").read_text()
    lanes = []
    for number in range(LANES):
        folder = tmp_path / f"lane{number}"
        folder.mkdir()
        (folder / "local.txt").write_text(f"local {number}\n")
        chance = random.Random(number)
        store, layout = tmp_path / "store", project.root / "layout"
        forks = Forks(folder, {**project.environment(), "LINUXKIT_STORE": str(store)})
        lanes.append(Lane(folder, store, layout, chance, forks))
        without = text.replace("  cmdline: console=ttyS0\n", "")
        lanes[-1].texts = [text, without]
    yield lanes
    for lane in lanes:
        lane.forks.close()


def test_killed_builds_leave_nothing_that_is_trusted_wrongly(
    lanes: list[Lane], count: Callable[..., None]
) -> None:
    store, left = lanes[0].store, threading.Semaphore(KILLS)

    def run(lane: Lane) -> None:
        lane.check()
        while left.acquire(blocking=False):
            before = lane.killed
            while lane.killed == before:
                lane.kill()
            if lane.killed % CHECKED == 0:
                lane.check()
                found = verify(store)  # beside the others
                assert (found.is_sound, found.incomplete) == (True, 0)
            if lane.killed % (3 * CHECKED) == 0:
                collect(store, Policy(max_size=0))
        lane.check()

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(run, lanes))
    found = verify(store)
    assert (found.is_sound, found.incomplete) == (True, 0)
    assert sum(lane.killed for lane in lanes) == KILLS
    collect(store, Policy(max_size=0), lambda: time.time() + 3600)
    assert [*survey(store).entries, *survey(store).blobs] == []
    assert [path for name in ("tmp", "locks", "leases") for path in (store / name).iterdir()] == []
    for lane in lanes:
        lane.check()
        assert not list(lane.folder.glob(".tiny*")), "a copy that a killed build began is still there"
    count("builds killed", KILLS)


def test_scons_keeps_the_lock_of_an_image_whose_command_was_killed(tmp_path: Path) -> None:
    """Else a second build would work on the same notes while the first is still at it."""
    project = Project.make(tmp_path / "project")
    store = project.root / "store"
    process = start(
        project.root / "tiny.yml", store, f"--image-layout={project.root / 'layout'}", start_new_session=True
    )
    assert process.stdout
    assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGSTOP)
    process.kill()
    process.wait()
    (lock,) = store.glob("builds/*/lock")
    assert is_held(lock)
    os.killpg(process.pid, signal.SIGCONT)
    process.stdout.read()
    finished(start(project.root / "tiny.yml", store, f"--image-layout={project.root / 'layout'}"))
    assert not is_held(lock)
