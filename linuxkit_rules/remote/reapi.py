"""A server of the remote execution API, version 2, over gRPC.

https://github.com/bazelbuild/remote-apis/blob/v2.12.0/build/bazel/remote/execution/v2/remote_execution.proto
https://github.com/googleapis/googleapis/blob/master/google/bytestream/bytestream.proto
A channel is shared by all threads.
"""

from __future__ import annotations

import io
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
from linuxkit_rules.errors import NetworkError, one_line
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.remote.action import Action, digest_message
from linuxkit_rules.remote.calls import Calls, Watch
from linuxkit_rules.remote.execution import Done, Executions

if TYPE_CHECKING:
    from linuxkit_rules.remote.endpoint import Endpoint
    from linuxkit_rules.store.blobs import Store

BLOCK = 256 << 10
"""Bytes of a message of a stream; a slow line must take one within the time-out."""
SMALL = 256 << 10
"""Blobs of at most so many bytes are sent several at a time."""
BATCH = 3 << 20
"""Bytes sent at a time, where the server allows as many: gRPC takes messages of 4 MiB."""

_OVERHEAD = 256  # bytes of a message for each blob in it
_OK = 0
_FUNCTIONS = (api.DigestFunction.SHA256, api.DigestFunction.UNKNOWN)  # the latter: told by the length


class Server:
    """The server at ``endpoint``; every call has the metadata ``metadata``.

    ``seconds`` is how long it may be silent.  Methods raise NetworkError where it cannot be reached, or
    refuses, and what else they say; StoppedError once ``is_stopped`` says so.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        channel: grpc.Channel,
        metadata: tuple[tuple[str, str], ...],
        seconds: float,
        is_stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = endpoint.url
        self._instance = endpoint.instance
        self._calls = Calls(self.name, metadata, seconds, is_stopped, clock)
        self._batch = BATCH
        self._capabilities = services.CapabilitiesStub(channel)
        self._storage = services.ContentAddressableStorageStub(channel)
        self._executions = Executions(channel, self._calls, self.check, clock, sleep)
        self._bytes = bytestream_services.ByteStreamStub(channel)

    def check(self) -> None:
        """Ask what the server can; raise NetworkError where it cannot execute actions named by sha256."""
        can = self._calls.ask(
            self._capabilities.GetCapabilities, api.GetCapabilitiesRequest(instance_name=self._instance)
        )
        execution, most = can.execution_capabilities, can.cache_capabilities.max_batch_total_size_bytes
        if not execution.exec_enabled or execution.digest_function not in _FUNCTIONS:
            raise NetworkError("executes no actions whose digests are sha256", where=self.name)
        self._batch = min(BATCH, most or BATCH)

    def end(self) -> None:
        """End everything that is going on, or is begun yet; it fails."""
        self._calls.end()

    def missing(self, blobs: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
        """Give those of ``blobs`` that the server lacks."""
        known = {(blob.digest.hex, blob.size): blob for blob in blobs}
        request = api.FindMissingBlobsRequest(
            instance_name=self._instance, blob_digests=map(digest_message, known.values())
        )
        lacks = self._calls.ask(self._storage.FindMissingBlobs, request).missing_blob_digests
        names = {(item.hash, item.size_bytes) for item in lacks}
        return tuple(blob for name, blob in known.items() if name in names)

    def send(self, blobs: Sequence[Descriptor], messages: Mapping[Descriptor, bytes], store: Store) -> None:
        """Send ``blobs``, which are ``messages`` or lie in ``store``: small ones together, others as streams.

        Raises DamagedError where one has gone from the store or has rotted.
        """
        batch: dict[Descriptor, bytes] = {}
        room = self._batch
        for blob in blobs:
            size = blob.size + _OVERHEAD
            if size > self._batch or (blob.size > SMALL and blob not in messages):
                with io.BytesIO(messages[blob]) if blob in messages else store.open(blob.digest) as file:
                    self._write(blob, file)
                continue
            if size > room:
                self._update(batch)
                batch, room = {}, self._batch
            batch[blob] = messages[blob] if blob in messages else store.read(blob.digest)
            room -= size
        if batch:
            self._update(batch)

    def execute(self, action: Action, *, fresh: bool = False) -> Done:
        """Have an action done, as ``Executions.execute`` says."""
        return self._executions.execute(action, self._instance, fresh=fresh)

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob to ``out``, unverified; raise MissingError, WrongContentError."""
        name = f"blobs/{descriptor.digest.hex}/{descriptor.size}"
        request = bytestream.ReadRequest(resource_name=self._resource(name))
        stream = self._bytes.Read(request, **self._calls.options)
        with self._calls.watched(stream) as watch:
            for answer in stream:
                if answer.data:
                    watch.rest()
                    out.write(answer.data)
                    watch.moved()

    def _write(self, blob: Descriptor, file: BinaryIO) -> None:
        name = self._resource(f"uploads/{uuid.uuid4()}/blobs/{blob.digest.hex}/{blob.size}")

        watches: list[Watch] = []

        def requests() -> Iterator[Any]:
            offset = 0
            while offset < blob.size:
                for watch in watches:
                    watch.moved()
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

        call = self._bytes.Write.future(requests(), **self._calls.options)
        with self._calls.watched(call) as watch:
            watches.append(watch)
            taken = call.result().committed_size
        if taken not in (blob.size, -1):
            raise NetworkError(f"took {taken} bytes of a blob of {blob.size}", where=self.name)

    def _update(self, batch: Mapping[Descriptor, bytes]) -> None:
        requests = [
            api.BatchUpdateBlobsRequest.Request(digest=digest_message(blob), data=data)
            for blob, data in batch.items()
        ]
        request = api.BatchUpdateBlobsRequest(instance_name=self._instance, requests=requests)
        answer = self._calls.ask(self._storage.BatchUpdateBlobs, request)
        for item in answer.responses:
            if item.status.code != _OK:
                raise NetworkError(f"takes no blob: {one_line(item.status.message)}", where=self.name)

    def _resource(self, name: str) -> str:
        return f"{self._instance}/{name}" if self._instance else name
