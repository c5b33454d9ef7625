"""Actions that a server has done: from its streams of operations to results, whatever breaks on the way.

https://github.com/bazelbuild/remote-apis/blob/v2.12.0/build/bazel/remote/execution/v2/remote_execution.proto
("service Execution").  A stream that breaks is taken up by the operation's name, as often as the server
answers and tells more of it; what the server knows no more is begun anew, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as services
from google.protobuf.message import DecodeError

from linuxkit_rules.errors import LinuxKitError, NetworkError, one_line
from linuxkit_rules.remote.action import ACTION_SECONDS, Action, FailedError, LacksError, digest_message
from linuxkit_rules.remote.backend import MissingError
from linuxkit_rules.remote.calls import TICK, BrokenError, Calls, RefusedError
from linuxkit_rules.values import dataclass

QUEUED_SECONDS = 60.0
"""How long an action may wait for a worker while none of the others is done or moves either."""

EXECUTING_SECONDS = ACTION_SECONDS + 300.0
"""How long an action may take once a worker has it: the server ends it before, if it does what it is told."""

_WAITING = (api.ExecutionStage.CACHE_CHECK, api.ExecutionStage.QUEUED)
_OK = 0


@dataclass(frozen=True, slots=True)
class Done:
    """An ActionResult, and whether the server's action cache has given it."""

    result: Any
    is_cached: bool


@dataclass(eq=False, slots=True)
class _Progress:
    """Whether an action waits for a worker, and since when; when a worker has ``begun`` it first."""

    since: float
    waits: bool = True
    begun: float | None = None


class Executions:
    """Has actions done by a server; ``check`` raises where that does not answer."""

    def __init__(
        self,
        channel: grpc.Channel,
        calls: Calls,
        check: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._stub = services.ExecutionStub(channel)
        self._calls = calls
        self._check = check
        self._clock = clock
        self._sleep = sleep
        self._moved = clock()
        self._going: set[_Progress] = set()

    def execute(self, action: Action, instance: str, *, fresh: bool) -> Done:
        """Have an action done, even where its result is known if ``fresh``.

        Raises FailedError where it was not done or ended with another status than 0, LacksError where the
        server lacks what it needs, NetworkError.
        """
        request = api.ExecuteRequest(
            instance_name=instance, action_digest=digest_message(action.digest), skip_cache_lookup=fresh
        )
        progress = _Progress(self._clock())
        self._going.add(progress)
        try:
            return self._persisted(request, progress)
        finally:
            self._going.discard(progress)
            self._moved = self._clock()

    def _persisted(self, request: Any, progress: _Progress) -> Done:
        name, again = "", 1
        while True:
            fault: LinuxKitError
            try:
                return self._followed(self._stream(request, name), progress)
            except BrokenError as error:
                name, fault = error.operation, error
            except (MissingError, RefusedError) as error:
                if not name:
                    raise
                name, fault = "", error
            if not name:
                if not again:
                    raise fault
                again -= 1
            self._sleep(TICK)
            self._look(progress)

    def _stream(self, request: Any, name: str) -> Any:
        if name:
            return self._stub.WaitExecution(api.WaitExecutionRequest(name=name), **self._calls.options)
        return self._stub.Execute(request, **self._calls.options)

    def _followed(self, stream: Any, progress: _Progress) -> Done:
        """Wait for the end of an action, of which ``stream`` tells."""
        name = ""
        try:
            with self._calls.watched(stream, lambda: self._look(progress)):
                for operation in stream:
                    name = operation.name
                    self._note(operation, progress)
                    if operation.done:
                        return self._outcome(operation)
            raise BrokenError("ends an action's stream before the action", where=self._calls.name)
        except BrokenError as error:
            error.operation = name
            raise

    def _note(self, operation: Any, progress: _Progress) -> None:
        metadata = api.ExecuteOperationMetadata()
        self._unpack(operation.metadata, metadata)
        waits, now = metadata.stage in _WAITING, self._clock()
        if waits != progress.waits:
            progress.waits, progress.since, self._moved = waits, now, now
        if not waits and progress.begun is None:
            progress.begun = now

    def _look(self, progress: _Progress) -> None:
        """Raise where the server does not answer, has no worker, or an action takes too long."""
        self._check()
        now = self._clock()
        waited = now - max(self._moved, progress.since)
        if progress.begun is not None and now - progress.begun > EXECUTING_SECONDS:
            message = f"has not done an action in {EXECUTING_SECONDS:.0f} seconds"
            raise FailedError(message, where=self._calls.name)
        if waited > QUEUED_SECONDS and all(other.waits for other in tuple(self._going)):
            raise NetworkError(f"has had no worker for {waited:.0f} seconds", where=self._calls.name)

    def _outcome(self, operation: Any) -> Done:
        answer, where = api.ExecuteResponse(), self._calls.name
        status = operation.error
        if self._unpack(operation.response, answer):
            status = answer.status
        if status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]:
            raise LacksError(one_line(status.message), where=where)
        if status.code != _OK or not operation.HasField("response"):
            raise FailedError(f"has not done an action: {one_line(status.message)}", where=where)
        result = answer.result
        if result.exit_code != 0:
            said = result.stderr_raw.decode("utf-8", "replace").strip() or answer.message
            what = f"a worker's command ended with status {result.exit_code}"
            message = f"{what}: {one_line(said.rpartition(chr(10))[2])}" if said else what
            raise FailedError(message, where=where, status=result.exit_code)
        return Done(result, answer.cached_result)

    def _unpack(self, packed: Any, message: Any) -> bool:
        try:
            return bool(packed.Unpack(message))
        except DecodeError:
            raise NetworkError("gives an answer that cannot be read", where=self._calls.name) from None
