"""A server of the remote execution API, version 2, over gRPC.

https://github.com/bazelbuild/remote-apis/blob/v2.12.0/build/bazel/remote/execution/v2/remote_execution.proto
https://github.com/googleapis/googleapis/blob/master/google/bytestream/bytestream.proto
A channel is shared by all threads.  Calls that answer at once have a time-out.  What may take long, as an
action does, has none: while it lasts, the server is asked from time to time whether it is still there.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import grpc
from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as services
from buildgrid.common.protos.google.bytestream import bytestream_pb2 as bytestream
from buildgrid.common.protos.google.bytestream import bytestream_pb2_grpc as bytestream_services

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import ImageError, LinuxKitError, NetworkError, one_line
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.origin import WrongContentError
from linuxkit_rules.remote.action import Action, FailedError, StoppedError, digest_message
from linuxkit_rules.remote.backend import MissingError

if TYPE_CHECKING:
    from linuxkit_rules.remote.endpoint import Endpoint
    from linuxkit_rules.store.blobs import Store

BLOCK = 1 << 20
"""Bytes of a message of a stream."""
SMALL = 256 << 10
"""Blobs of at most so many bytes are sent several at a time."""
BATCH = 3 << 20
"""Bytes sent at a time, where the server allows as many: gRPC takes messages of 4 MiB."""
QUEUED_SECONDS = 60.0
"""How long an action may wait for a worker while none of the others moves either."""

TICK = 0.5
"""Seconds after which at the latest an interrupt is noticed."""

_OVERHEAD = 256  # bytes of a message for each blob in it
_OK = 0
_FUNCTIONS = (api.DigestFunction.SHA256, api.DigestFunction.UNKNOWN)  # the latter: told by the length


class BrokenError(NetworkError):
    """The server cannot be reached, or no more; ``operation`` names what it was doing."""

    operation = ""


class Server:
    """The server at ``endpoint``; every call has the metadata ``metadata``.

    ``seconds`` is how long it may be silent.  Methods raise NetworkError where it cannot be reached, or
    refuses, and what else they say; StoppedError once ``is_stopped`` says so, where they take long.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        channel: grpc.Channel,
        metadata: tuple[tuple[str, str], ...],
        seconds: float,
        is_stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = endpoint.url
        self._instance = endpoint.instance
        self._calls: set[Any] = set()
        self._options = {"metadata": metadata}
        self._seconds = seconds
        self._is_stopped = is_stopped
        self._clock = clock
        self._moved = clock()
        self._batch = BATCH
        self._capabilities = services.CapabilitiesStub(channel)
        self._storage = services.ContentAddressableStorageStub(channel)
        self._execution = services.ExecutionStub(channel)
        self._bytes = bytestream_services.ByteStreamStub(channel)

    def check(self) -> None:
        """Ask what the server can; raise NetworkError where it cannot execute actions named by sha256."""
        can = self._ask(
            self._capabilities.GetCapabilities, api.GetCapabilitiesRequest(instance_name=self._instance)
        )
        execution, most = can.execution_capabilities, can.cache_capabilities.max_batch_total_size_bytes
        if not execution.exec_enabled or execution.digest_function not in _FUNCTIONS:
            raise NetworkError("executes no actions whose digests are sha256", where=self.name)
        self._batch = min(BATCH, most or BATCH)

    def end(self) -> None:
        """End everything that is going on; it fails."""
        for call in tuple(self._calls):
            call.cancel()

    def missing(self, blobs: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
        """Give those of ``blobs`` that the server lacks."""
        known = {(blob.digest.hex, blob.size): blob for blob in blobs}
        request = api.FindMissingBlobsRequest(
            instance_name=self._instance, blob_digests=map(digest_message, known.values())
        )
        lacks = self._ask(self._storage.FindMissingBlobs, request).missing_blob_digests
        names = {(item.hash, item.size_bytes) for item in lacks}
        return tuple(blob for name, blob in known.items() if name in names)

    def send(self, blobs: Sequence[Descriptor], messages: Mapping[Descriptor, bytes], store: Store) -> None:
        """Send ``blobs``, which are ``messages`` or lie in ``store``: small ones together, others as streams.

        Raises DamagedError where one has gone from the store or has rotted.
        """
        batch: dict[Descriptor, bytes] = {}
        room = self._batch
        for blob in blobs:
            if blob.size > SMALL and blob not in messages:
                with store.open(blob.digest) as file:
                    self._write(blob, file)
                continue
            data = messages[blob] if blob in messages else store.read(blob.digest)
            if batch and len(data) + _OVERHEAD > room:
                self._update(batch)
                batch, room = {}, self._batch
            batch[blob] = data
            room -= len(data) + _OVERHEAD
        if batch:
            self._update(batch)

    def execute(self, action: Action) -> Any:
        """Have an action done; give its ActionResult.  A stream that breaks is taken up once.

        Raises FailedError where the action was not done or ended with another status than 0.
        """
        digest = digest_message(action.digest)
        request = api.ExecuteRequest(instance_name=self._instance, action_digest=digest)
        try:
            return self._followed(self._execution.Execute(request, **self._options))
        except BrokenError as error:
            if not error.operation:
                raise
            again = api.WaitExecutionRequest(name=error.operation)
            return self._followed(self._execution.WaitExecution(again, **self._options))

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob to ``out``, unverified; raise MissingError."""
        name = f"blobs/{descriptor.digest.hex}/{descriptor.size}"
        request = bytestream.ReadRequest(resource_name=self._resource(name))
        stream = self._bytes.Read(request, **self._options)
        with self._watched(stream):
            for answer in stream:
                out.write(answer.data)

    def _write(self, blob: Descriptor, file: BinaryIO) -> None:
        name = self._resource(f"uploads/{uuid.uuid4()}/blobs/{blob.digest.hex}/{blob.size}")

        def requests() -> Iterator[Any]:
            offset = 0
            while offset < blob.size:
                data = file.read(min(BLOCK, blob.size - offset))
                ends = offset + len(data) >= blob.size or not data
                yield bytestream.WriteRequest(
                    resource_name=name if offset == 0 else "",
                    write_offset=offset,
                    data=data,
                    finish_write=ends,
                )
                offset += len(data)
                if ends:
                    return

        call = self._bytes.Write.future(requests(), **self._options)
        with self._watched(call):
            taken = call.result().committed_size
        if taken not in (blob.size, -1):
            raise NetworkError(f"took {taken} bytes of a blob of {blob.size}", where=self.name)

    def _update(self, batch: Mapping[Descriptor, bytes]) -> None:
        requests = [
            api.BatchUpdateBlobsRequest.Request(digest=digest_message(blob), data=data)
            for blob, data in batch.items()
        ]
        request = api.BatchUpdateBlobsRequest(instance_name=self._instance, requests=requests)
        answer = self._ask(self._storage.BatchUpdateBlobs, request)
        for item in answer.responses:
            if item.status.code != _OK:
                raise NetworkError(f"takes no blob: {one_line(item.status.message)}", where=self.name)

    def _followed(self, stream: Any) -> Any:
        """Wait for the end of an action, of which ``stream`` tells; give its ActionResult."""
        name = ""
        metadata = api.ExecuteOperationMetadata()
        try:
            self._moved = self._clock()
            with self._watched(stream, queued=True) as watch:
                for operation in stream:
                    name = operation.name
                    operation.metadata.Unpack(metadata)
                    watch.queued = metadata.stage == api.ExecutionStage.QUEUED
                    self._moved = self._clock()
                    if operation.done:
                        return self._outcome(operation)
            raise BrokenError("ends an action's stream before the action", where=self.name)
        except BrokenError as error:
            error.operation = name
            raise

    def _outcome(self, operation: Any) -> Any:
        answer = api.ExecuteResponse()
        status = operation.error
        if operation.response.Unpack(answer):
            status = answer.status
        if status.code != _OK or not operation.HasField("response"):
            raise FailedError(f"has not done an action: {one_line(status.message)}", where=self.name)
        result = answer.result
        if result.exit_code != 0:
            said = result.stderr_raw.decode("utf-8", "replace").strip() or answer.message
            what = f"a worker's command ended with status {result.exit_code}"
            message = f"{what}: {one_line(said.rpartition(chr(10))[2])}" if said else what
            raise FailedError(message, where=self.name, status=result.exit_code)
        return result

    def _resource(self, name: str) -> str:
        return f"{self._instance}/{name}" if self._instance else name

    def _ask(self, method: Callable[..., Any], request: Any) -> Any:
        """Call what answers at once."""
        try:
            return method(request, timeout=self._seconds, **self._options)
        except grpc.RpcError as error:
            raise self._error(error) from None

    @contextlib.contextmanager
    def _watched(self, call: Any, *, queued: bool = False) -> Iterator[_Watch]:
        """End ``call``, which the block waits for, where the server is there no more."""
        self._calls.add(call)
        due = self._clock() + self._seconds
        with _Watch(call, min(self._seconds, TICK), self._look, due, queued=queued) as watch:
            try:
                yield watch
            except grpc.FutureCancelledError:
                raise watch.fault or NetworkError("was left alone", where=self.name) from None
            except grpc.RpcError as error:
                raise watch.fault or self._error(error) from None
            finally:
                self._calls.discard(call)
                call.cancel()

    def _look(self, watch: _Watch) -> None:
        if self._is_stopped():
            raise StoppedError("a step is given up: the build was interrupted", where=self.name)
        if self._clock() < watch.due:
            return
        self.check()
        watch.due = self._clock() + self._seconds
        waited = self._clock() - self._moved
        if watch.queued and waited > QUEUED_SECONDS:
            raise NetworkError(f"has had no worker for {waited:.0f} seconds", where=self.name)

    def _error(self, error: grpc.RpcError) -> NetworkError | ImageError:
        """Give a fault of gRPC in our words."""
        code, said = error.code(), one_line(error.details() or "")
        if code is grpc.StatusCode.NOT_FOUND:
            return MissingError(f"has not what it should have: {said}", where=self.name)
        if code in (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.OUT_OF_RANGE):
            return WrongContentError(said, where=self.name)
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            return FailedError(said, where=self.name)
        if code is grpc.StatusCode.UNAVAILABLE:
            return BrokenError(f"cannot be reached: {said}", where=self.name)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return NetworkError("does not answer in time", where=self.name)
        hint = _HINTS.get(code)
        return NetworkError(f"{code.name.lower()}: {said}", where=self.name, hint=hint)


_TOKEN = "LINUXKIT_REMOTE_EXECUTOR_TOKEN is the token that it is shown"  # noqa: S105 - no token, but its name
_HINTS = {grpc.StatusCode.UNAUTHENTICATED: _TOKEN, grpc.StatusCode.PERMISSION_DENIED: _TOKEN}


class _Watch:
    """Looks after a call each ``seconds``; where ``look`` raises, that is its ``fault`` and the call ends.

    ``due`` is when the server is to be asked next; ``queued`` is said of an action that nobody has begun.
    """

    def __init__(
        self, call: Any, seconds: float, look: Callable[[_Watch], None], due: float, *, queued: bool
    ) -> None:
        self.due = due
        self.queued = queued
        self.fault: LinuxKitError | None = None
        self._call = call
        self._seconds = seconds
        self._look = look
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._done.set()

    def _work(self) -> None:
        while not self._done.wait(self._seconds):
            try:
                self._look(self)
            except LinuxKitError as error:
                self.fault = error
                self._call.cancel()
                return
