"""Machines that have their steps run by a remote executor."""

import contextlib
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.oci.network import Network
from linuxkit_rules.remote.channel import connected
from linuxkit_rules.remote.endpoint import properties
from linuxkit_rules.remote.executor import Executor
from linuxkit_rules.stages.image import ArchiveImage
from linuxkit_rules.stages.rootfs import Rootfs
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.stages.unpack import Unpack
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from tests.builds import SUFFIXES
from tests.images import tar
from tests.project import Project
from tests.servers.buildgrid import BuildGrid, Worker
from tests.servers.processes import end
from tests.test_archive import saved

FORMATS = '["kernel+initrd", "tar", "tar-kernel-initrd"]'
OUTPUTS = tuple(f"out/tiny{suffix}" for suffix in (*SUFFIXES, ".tar", "-initrd.tar"))
MORE = """\
volumes:
  - name: data
    image: test/app:1
  - name: image
    image: test/app:1
    format: oci
"""


@dataclass
class Client:
    """``events`` are how steps of the graph went, ``warnings`` what was warned of."""

    engine: Engine
    events: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.engine.store

    def unpack(self, archive: bytes) -> Result:
        """Index an archive: a step that anybody can do."""
        return self.engine.run(Unpack(), {"layer": [self.store.put(archive)]})

    def rootfs(self, archive: bytes) -> Descriptor:
        """Pack the image in an archive of Docker's."""
        return self.engine.run(Rootfs(), {"image": [self.image(archive)]}).output

    def image(self, archive: bytes) -> Descriptor:
        """Bring that image into the store."""
        stage = ArchiveImage("docker", "", "amd64")
        return self.engine.run(stage, {"archive": [self.store.put(archive)]}).output

    def read(self, blobs: Iterable[Descriptor]) -> list[bytes]:
        return [self.store.read(blob.digest) for blob in blobs]


def client(
    folder: Path, url: str, *, platform: str = "", token: str = "", seconds: float = 60, **network: object
) -> Client:
    """A machine with its store in ``folder``; no ``url``: one that runs everything itself."""
    events: list[tuple[str, str]] = []
    warnings: list[str] = []

    def report(event: Event) -> None:
        if event.depth == 0:
            events.append((event.how, event.stage))

    executor = Executor(
        lambda: connected(url, Network(**network), token, str(seconds)),  # type: ignore[arg-type]
        warnings.append,
        properties(platform),
    )
    engine = Engine(Store(folder / "store"), report, executor=executor if url else None)
    return Client(engine, events, warnings)


def project(root: Path) -> Project:
    """A project that has a step of nearly every kind."""
    made = Project.make(root)
    made.edit('["kernel+initrd"]', FORMATS, "SConstruct")
    made.edit("files:\n", MORE + "files:\n")
    return made


def outputs(project: Project) -> dict[str, bytes]:
    return {name: (project.root / name).read_bytes() for name in OUTPUTS}


def counted(project: Project) -> dict[str, int]:
    """How often steps of the graph went in each way."""
    hows = [how for how, _, _ in project.events]
    return {how: hows.count(how) for how in sorted(set(hows))}


def settings(server: BuildGrid, worker: Worker) -> dict[str, str]:
    return {"LINUXKIT_REMOTE_EXECUTOR": server.url, "LINUXKIT_REMOTE_EXECUTOR_PLATFORM": worker.platform}


WAITING = """: > "{folder}/waits"
while [ -e "{folder}/hold" ]; do /bin/sleep 0.05; done
exec $MOBY "$@"
"""
"""The program of workers that wait while a test wants that."""


@contextlib.contextmanager
def holding(folder: Path, command: str = "true") -> Iterator["subprocess.Popen[bytes]"]:
    """Have workers that are WAITING wait until the block ends, by whatever.

    A command of the shell is run once one of them waits.
    """
    hold = folder / "hold"
    hold.touch()
    script = f"until [ -e waits ]; do sleep 0.05; done; {command}"
    process = subprocess.Popen(["/bin/sh", "-c", script], cwd=folder)
    try:
        yield process
    finally:
        hold.unlink()
        end(process, signal.SIGKILL)


def docker_archive(*contents: bytes) -> bytes:
    """An archive of Docker's with an image that has a layer for each file."""
    layers = [tar(**{f"file{number}": content}) for number, content in enumerate(contents)]
    return tar(**saved(([], layers)))
