"""BuildGrid, a server of the remote execution API, with its scheduler on PostgreSQL, and workers for it."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

from linuxkit_rules import host
from linuxkit_rules.debian.lock import load_lock
from linuxkit_rules.stages.tool import install
from tests.servers.processes import PATIENCE, await_, end, free_port, running

_BIN = "usr/lib/postgresql/15/bin"
_NOBODY = 65534
_TEMPLATE = "buildgrid"
_WRAPPER = """#!/bin/sh
exec {linker} --library-path {libraries} --argv0 {program} {program}.real "$@"
"""
MOBY = 'exec $MOBY "$@"'
PROPERTY = "worker"
"""The platform property by which tests find their own workers."""

_CONFIGURATION = """
server:
  - !channel
    address: "127.0.0.1:{port}"
    insecure-mode: true
description: tests
authorization:
  method: none
monitoring:
  enabled: false
connections:
  - !sql-connection &sql
    connection-string: "{database}"
    pool-size: 20
storages:
  - !disk-storage &storage
    path: {folder}
caches:
  - !lru-action-cache &cache
    storage: *storage
    max-cached-refs: 4096
    allow-updates: true
    cache-failed-actions: false
schedulers:
  - !sql-scheduler &scheduler
    sql: *sql
    storage: *storage
    action-cache: *cache
    poll-interval: 0.05
    bot-poll-interval: 0.05
    property-set:
      !dynamic-property-set
      match-property-keys: [{property}]
    assigners:
      - !priority-age-assigner
        count: 1
        interval: 0.05
        jitter-factor: 0
        failure-backoff: 0.5
instances:
  - name: "{instance}"
    services:
      - !action-cache
        cache: *cache
      - !execution
        scheduler: *scheduler
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
thread-pool-size: 100
"""


@dataclass(frozen=True)
class Database:
    """PostgreSQL; each server gets a database of its own, with BuildGrid's tables."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg2://postgres@/{name}?host={self.folder}"

    def run(self, statement: str) -> None:
        connection = psycopg2.connect(host=str(self.folder), user="postgres", dbname="postgres")
        connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
        connection.cursor().execute(statement)
        connection.close()

    def make(self) -> str:
        """Make a database; give its URL."""
        name = f"tests{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return self.url(name)


@dataclass(frozen=True)
class BuildGrid:
    """The server at ``host`` (``127.0.0.1:port``); what it stores lies in ``folder``."""

    host: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    instance: str = ""

    @property
    def url(self) -> str:
        return f"grpc://{self.host}/{self.instance}".rstrip("/")

    def blob(self, digest: str) -> Path:
        """Where the server keeps a blob, by its hex digits."""
        (path,) = [
            path for path in self.folder.rglob("cas/objects/**/*") if digest in "".join(path.parts[-2:])
        ]
        return path


@dataclass(frozen=True)
class Worker:
    """Workers of a server that have the property ``worker=NAME``."""

    folder: Path
    name: str

    @property
    def platform(self) -> str:
        """``LINUXKIT_REMOTE_EXECUTOR_PLATFORM`` that chooses them."""
        return f"{PROPERTY}={self.name}"

    @property
    def begun(self) -> list[str]:
        """The actions that were begun, by digest."""
        file = self.folder / "begun"
        return file.read_text().split() if file.exists() else []


@contextlib.contextmanager
def postgresql() -> Iterator[Database]:
    """Run PostgreSQL on a socket, as nobody where this is root, for it refuses to be that."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        programs, data = _programs(root), root / "data"
        data.mkdir()
        options: dict[str, Any] = {
            "env": {"LC_ALL": "C", "TZ": "GMT"},
            "cwd": "/",
            "stdout": subprocess.DEVNULL,
        }
        if os.geteuid() == 0:
            os.chown(data, _NOBODY, _NOBODY)
            options |= {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        make = f"-D {data} -U postgres -A trust -N --no-locale -E UTF8"
        serve = f"-D {data} -k {data} -c listen_addresses= -c fsync=off -c max_connections=300"
        subprocess.run([programs / "initdb", *make.split()], check=True, timeout=PATIENCE, **options)
        log = root / "log"
        with log.open("wb") as said:
            server = subprocess.Popen([programs / "postgres", *serve.split()], stderr=said, **options)
        try:
            yield _migrated(Database(data), server, log)
        finally:
            end(server, signal.SIGINT)  # "fast": it does not wait for its clients


def _programs(root: Path) -> Path:
    """Lay out the locked packages so that the programs, which start each other, find all that they need."""
    folder = Path(__file__).parent / "postgresql"
    tool = install(
        host.engine(), "postgresql", load_lock(folder / "packages.lock"), host.host_arch(), folder.parent
    )
    shutil.copytree(tool / "usr", root / "usr", symlinks=True)
    (linker,) = (root / "usr").glob("lib*/ld-linux-*")
    libraries = ":".join(str(path) for path in (root / "usr" / "lib").glob("*-linux-gnu"))
    for name in ("initdb", "postgres"):
        program = root / _BIN / name
        program.rename(program.with_name(f"{name}.real"))
        program.write_text(_WRAPPER.format(linker=linker, libraries=libraries, program=program))
        program.chmod(0o755)
    return root / _BIN


def _migrated(database: Database, server: "subprocess.Popen[bytes]", log: Path) -> Database:
    """Wait until the server answers; make the template with BuildGrid's tables."""

    def answers() -> bool:
        assert server.poll() is None, f"PostgreSQL has ended: {log.read_text()}"
        with contextlib.suppress(psycopg2.OperationalError):
            database.run(f"CREATE DATABASE {_TEMPLATE}")
            return True
        return False

    await_(answers, "PostgreSQL answers")
    _bgd("migrate", "apply", database.url(_TEMPLATE))
    return database


def _bgd(*arguments: str) -> None:
    command = [*_command(), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)


def _command() -> tuple[str, ...]:
    return sys.executable, "-c", "from buildgrid.server.app import cli; cli()"


@contextlib.contextmanager
def buildgrid(folder: Path, database: Database, instance: str = "") -> Iterator[BuildGrid]:
    """Run the server, which keeps its blobs in ``folder``; all that it has is called ``instance``."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    file = folder / "buildgrid.yml"
    storage = folder / "storage"
    known = {"port": port, "database": database.make(), "folder": storage}
    file.write_text(_CONFIGURATION.format(**known, property=PROPERTY, instance=instance))
    with (folder / "buildgrid.log").open("wb") as log:
        command = [*_command(), "server", "start", str(file)]
        with running(command, port, stdout=log, stderr=log) as process:
            yield BuildGrid(f"127.0.0.1:{port}", storage, process, instance)


@contextlib.contextmanager
def worker(folder: Path, server: BuildGrid, program: str = MOBY) -> Iterator[Worker]:
    """Run workers; ``program`` is their ``moby``, lines of a shell for which $MOBY is the true one.

    It is there as if it lay in ``/usr/local/bin``.
    Fails where an action could not be done that a worker has taken, but where the server has gone.
    """
    folder.mkdir()
    programs = folder / "bin"
    programs.mkdir()
    moby = f"{sys.executable} -m linuxkit_rules"
    script = programs / "moby"
    script.write_text(f"#!/bin/sh\nMOBY='{moby}'\n{program}\n")
    script.chmod(0o755)
    found = Worker(folder, f"{folder.parent.name}-{folder.name}")
    arguments = [server.host, server.instance, str(folder), str(programs), found.platform]
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.worker", *arguments],
            cwd=Path(__file__).parents[2],
            stderr=said,
        )
    try:
        yield found
    finally:
        assert end(process) == 0, log.read_text()
