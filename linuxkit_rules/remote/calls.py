"""Calls of a server over gRPC: their faults in our words, and a watch over those that may take long.

Threads call at the same time.  What answers at once has a time-out.  A stream must move: bytes must come, or
be taken, within that time.  An action may take long; its stream's watch asks whether the server is there.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from linuxkit_rules.errors import ImageError, LinuxKitError, NetworkError, one_line
from linuxkit_rules.oci.origin import WrongContentError
from linuxkit_rules.remote.action import LacksError, StoppedError
from linuxkit_rules.remote.backend import MissingError

TICK = 0.5
"""Seconds after which at the latest an interrupt is noticed."""

PACE = 256 << 10
"""Bytes of a request that a slow line carries each second; large ones have as much more time."""


class BrokenError(NetworkError):
    """The server cannot be reached, or no more; ``operation`` names what it was doing."""

    operation = ""


class RefusedError(NetworkError):
    """The server answers that it does not do what it is asked for."""


class Calls:
    """Calls of the server that messages call ``name``; each has the metadata ``metadata``.

    ``seconds`` is how long the server may be silent.  Methods raise NetworkError, or ImageError where a blob
    is meant, and StoppedError once ``is_stopped`` says so.
    """

    def __init__(
        self,
        name: str,
        metadata: tuple[tuple[str, str], ...],
        seconds: float,
        is_stopped: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.options = {"metadata": metadata}
        self._seconds = seconds
        self._is_stopped = is_stopped
        self._clock = clock
        self._calls: set[Any] = set()
        self._ended = False

    def ask(self, method: Callable[..., Any], request: Any) -> Any:
        """Call what answers at once."""
        self._stop()
        try:
            return method(request, timeout=self._seconds + request.ByteSize() / PACE, **self.options)
        except grpc.RpcError as error:
            raise self._error(error) from None

    def end(self) -> None:
        """End every stream, also those to come; it fails."""
        self._ended = True
        for call in tuple(self._calls):
            call.cancel()

    @contextlib.contextmanager
    def watched(self, call: Any, late: Callable[[], None] | None = None) -> Iterator[Watch]:
        """End ``call``, for which the block waits, where it has not moved for too long.

        Where ``late`` is given, that is called then instead, and may raise the fault; the wait begins anew.
        """
        self._calls.add(call)
        watch = Watch(call, self._clock, self._seconds, self._stop, late or self._silent)
        try:
            self._stop()
            if self._ended:
                raise self._alone()
            with watch:
                yield watch
        except grpc.FutureCancelledError:
            raise watch.fault or self._alone() from None
        except grpc.RpcError as error:
            raise watch.fault or (self._alone() if self._ended else self._error(error)) from None
        finally:
            self._calls.discard(call)
            call.cancel()

    def _stop(self) -> None:
        if self._is_stopped():
            raise StoppedError("a step is given up: the build was interrupted", where=self.name)

    def _silent(self) -> None:
        raise NetworkError("does not answer in time", where=self.name)

    def _alone(self) -> NetworkError:
        return NetworkError("was left alone", where=self.name)

    def _error(self, error: grpc.RpcError) -> NetworkError | ImageError:
        """Give a fault of gRPC in our words."""
        code, said = error.code(), one_line(error.details() or "")
        if code is grpc.StatusCode.NOT_FOUND:
            return MissingError(f"has not what it should have: {said}", where=self.name)
        if code in (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.OUT_OF_RANGE):
            return WrongContentError(said, where=self.name)
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            return LacksError(said, where=self.name)
        if code is grpc.StatusCode.UNAVAILABLE:
            return BrokenError(f"cannot be reached: {said}", where=self.name)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return NetworkError("does not answer in time", where=self.name)
        kind = BrokenError if code in _BREAKS else RefusedError
        return kind(f"{code.name.lower()}: {said}", where=self.name, hint=_HINTS.get(code))


_BREAKS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED)
"""What servers, and proxies before them, say of streams that they break off, besides UNAVAILABLE."""

_TOKEN = "LINUXKIT_REMOTE_EXECUTOR_TOKEN is the token that it is shown"  # noqa: S105 - no token, but its name
_HINTS = {grpc.StatusCode.UNAUTHENTICATED: _TOKEN, grpc.StatusCode.PERMISSION_DENIED: _TOKEN}


class Watch:
    """Looks after a call that must move every ``seconds``; ``late`` is called where it does not.

    ``look`` is called all the time.  What either raises is the call's ``fault``; the call ends.
    """

    def __init__(
        self,
        call: Any,
        clock: Callable[[], float],
        seconds: float,
        look: Callable[[], None],
        late: Callable[[], None],
    ) -> None:
        self.fault: LinuxKitError | None = None
        self._call = call
        self._clock = clock
        self._seconds = seconds
        self._look = look
        self._late = late
        self._due = clock() + seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)

    def moved(self) -> None:
        """Begin to wait anew."""
        self._due = self._clock() + self._seconds

    def rest(self) -> None:
        """Wait for nothing, as this machine is busy, until something moves."""
        self._due = math.inf

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._done.set()

    def _work(self) -> None:
        while not self._done.wait(min(self._seconds, TICK)):
            try:
                self._look()
                if self._clock() >= self._due:
                    self._late()
                    self.moved()
            except LinuxKitError as error:
                self.fault = error
                self._call.cancel()
                return
