"""A worker of BuildGrid: takes leases by the remote workers API and does the actions that they name.

``python -m tests.servers.worker HOST:PORT INSTANCE FOLDER BIN NAME=VALUE`` runs until it gets SIGTERM.  Its
exit status is 0 then, and another where it has erred, with the fault on standard error.  Each action gets a
folder of its own below FOLDER with its input root, and of variables those of its command alone; the program
is looked for in the command's PATH, where the folder BIN stands for LOCAL.  The action's digest is added as a
line to ``FOLDER/begun``.
https://github.com/googleapis/googleapis/tree/master/google/devtools/remoteworkers/v1test2
"""

import contextlib
import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import uuid
from pathlib import Path
from typing import Any

import grpc
from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from buildgrid.common.protos.google.bytestream import bytestream_pb2 as bytestream
from buildgrid.common.protos.google.bytestream import bytestream_pb2_grpc as bytestream_services
from buildgrid.common.protos.google.devtools.remoteworkers.v1test2 import bots_pb2 as bots
from buildgrid.common.protos.google.devtools.remoteworkers.v1test2 import bots_pb2_grpc as bots_services
from buildgrid.common.protos.google.devtools.remoteworkers.v1test2 import worker_pb2 as workers

SESSIONS = 2
"""How many actions are done at once."""

PATIENCE = 60.0
"""Seconds that the server may keep a session that has nothing to do."""

LOCAL = "/usr/local/bin"
"""What of a PATH is a folder of tests instead."""

_BLOCK = 1 << 20


class Storage:
    """The server's content-addressable storage."""

    def __init__(self, channel: grpc.Channel, instance: str) -> None:
        self._prefix = f"{instance}/" if instance else ""
        self._bytes = bytestream_services.ByteStreamStub(channel)

    def fetch(self, digest: Any, path: Path) -> None:
        request = bytestream.ReadRequest(
            resource_name=f"{self._prefix}blobs/{digest.hash}/{digest.size_bytes}"
        )
        with path.open("wb") as out:
            for answer in self._bytes.Read(request):
                out.write(answer.data)

    def message(self, kind: Any, digest: Any) -> Any:
        with tempfile.NamedTemporaryFile() as file:
            self.fetch(digest, Path(file.name))
            return kind.FromString(Path(file.name).read_bytes())

    def root(self, digest: Any, folder: Path) -> None:
        """Lay out a ``Directory``, and all below it."""
        folder.mkdir(exist_ok=True)
        directory = self.message(api.Directory, digest)
        for file in directory.files:
            self.fetch(file.digest, folder / file.name)
        for below in directory.directories:
            self.root(below.digest, folder / below.name)

    def put(self, data: bytes) -> Any:
        digest = api.Digest(hash=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        name = f"{self._prefix}uploads/{uuid.uuid4()}/blobs/{digest.hash}/{digest.size_bytes}"
        parts = [
            bytestream.WriteRequest(
                resource_name=name,
                write_offset=begin,
                data=data[begin : begin + _BLOCK],
                finish_write=begin + _BLOCK >= len(data),
            )
            for begin in range(0, max(len(data), 1), _BLOCK)
        ]
        self._bytes.Write(iter(parts))
        return digest

    def put_tree(self, folder: Path) -> Any:
        """Send a folder as a ``Tree``."""
        below: list[Any] = []
        tree = api.Tree(root=self._directory(folder, below))
        tree.children.extend(below)
        return self.put(tree.SerializeToString(deterministic=True))

    def _directory(self, folder: Path, below: list[Any]) -> Any:
        directory = api.Directory()
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                child = self._directory(path, below)
                below.append(child)
                data = child.SerializeToString(deterministic=True)
                directory.directories.add(name=path.name, digest=self.put(data))
            else:
                directory.files.add(name=path.name, digest=self.put(path.read_bytes()))
        return directory


def done(action: Any, storage: Storage, folder: Path, programs: str) -> Any:
    """Do an action in ``folder``; give its ActionResult."""
    command = storage.message(api.Command, action.command_digest)
    storage.root(action.input_root_digest, folder)
    first, *rest = command.arguments
    variables = {item.name: item.value for item in command.environment_variables}
    places = [programs if place == LOCAL else place for place in variables.get("PATH", "").split(":")]
    ended = subprocess.run(
        [shutil.which(first, path=":".join(places)) or first, *rest],
        cwd=folder / command.working_directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    result = api.ActionResult(
        exit_code=ended.returncode, stdout_raw=ended.stdout, stderr_raw=ended.stderr[-(64 << 10) :]
    )
    for name in command.output_paths:
        path = folder / command.working_directory / name
        if path.is_dir():
            result.output_directories.add(path=name, tree_digest=storage.put_tree(path))
        elif path.exists():
            result.output_files.add(path=name, digest=storage.put(path.read_bytes()))
    return result


class Session(threading.Thread):
    """A session of the worker: does one action at a time."""

    def __init__(
        self, host: str, instance: str, folder: Path, programs: str, property_: tuple[str, str]
    ) -> None:
        super().__init__()
        channel = grpc.insecure_channel(host)
        self._bots = bots_services.BotsStub(channel)
        self._storage = Storage(channel, instance)
        self._instance = instance
        self._folder = folder
        self._programs = programs
        self._property = property_
        self._call: Any = None
        self._ends = threading.Event()
        self.erred = False

    def end(self) -> None:
        self._ends.set()
        if self._call:
            self._call.cancel()

    def run(self) -> None:
        while not self._ends.wait(0.1):
            try:
                with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):  # servers come and go
                    self._serve()
            except Exception:
                self.erred = True
                traceback.print_exc()

    def _serve(self) -> None:
        name, value = self._property
        device = workers.Device(handle="worker", properties=[workers.Device.Property(key=name, value=value)])
        session = bots.BotSession(
            bot_id=str(uuid.uuid4()), status=bots.OK, worker=workers.Worker(devices=[device])
        )
        request = bots.CreateBotSessionRequest(parent=self._instance, bot_session=session)
        session = self._asked(self._bots.CreateBotSession, request)
        try:
            while not self._ends.is_set():
                for lease in session.leases:
                    if lease.state in (bots.PENDING, bots.ACTIVE):
                        self._do(lease)
                session = self._asked(self._bots.UpdateBotSession, self._request(session))
        finally:
            session.status = bots.BOT_TERMINATING
            self._bots.UpdateBotSession(self._request(session), timeout=5)

    def _asked(self, method: Any, request: Any) -> Any:
        """Call what the server may answer late, as it waits for something to do."""
        self._call = method.future(request, timeout=PATIENCE)
        if self._ends.is_set():
            self._call.cancel()
        return self._call.result()

    def _request(self, session: Any) -> Any:
        return bots.UpdateBotSessionRequest(name=session.name, bot_session=session)

    def _do(self, lease: Any) -> None:
        action, digest = api.Action(), api.Digest()
        if not lease.payload.Unpack(action):
            lease.payload.Unpack(digest)
            action = self._storage.message(api.Action, digest)
        data = action.SerializeToString(deterministic=True)
        with (self._folder / "begun").open("a") as log:
            log.write(hashlib.sha256(data).hexdigest() + "\n")
        with tempfile.TemporaryDirectory(dir=self._folder) as work:
            lease.result.Pack(done(action, self._storage, Path(work), self._programs))
        lease.state = bots.COMPLETED


def main(host: str, instance: str, folder: str, programs: str, property_: str) -> int:
    name, _, value = property_.partition("=")
    sessions = [Session(host, instance, Path(folder), programs, (name, value)) for _ in range(SESSIONS)]
    signal.signal(signal.SIGTERM, lambda *_: [session.end() for session in sessions])
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    return int(any(session.erred for session in sessions))


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
