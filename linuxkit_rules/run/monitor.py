"""QEMU's machine protocol: commands, their answers, and events.

QMP specification: https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

from linuxkit_rules.errors import RunError

ANSWER_WITHIN = 60.0
"""Seconds that QEMU gets for an answer: it may still be loading, on a slow and busy host."""


class Monitor:
    """A connection to QEMU's monitor, ready for commands once made.

    Raise RunError where QEMU does not greet.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._events: list[dict[str, Any]] = []
        self._answers: list[dict[str, Any]] = []
        self._greeted = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="monitor", daemon=True)
        self._thread.start()
        self._wait(lambda: self._greeted)
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run ``command`` and give what it returns; raise RunError where it fails or QEMU has gone."""
        request = {"execute": command, "arguments": arguments}
        try:
            self._stream.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise RunError(f"QEMU has ended, so {command} cannot be done") from error
        self._wait(lambda: bool(self._answers))
        answer = self._answers.pop(0)
        if "error" in answer:
            raise RunError(f"QEMU refused {command}: {answer['error'].get('desc')}")
        return answer.get("return")

    def event(self, name: str) -> dict[str, Any] | None:
        """Give the data of the last event ``name`` so far, if there was one."""
        with self._changed:
            found = (event for event in reversed(self._events) if event["event"] == name)
            event = next(found, None)
        return None if event is None else event.get("data", {})

    def join(self, timeout: float) -> None:
        """Wait until QEMU has closed the connection and everything has been read."""
        self._thread.join(timeout)

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: ready() or self._closed, ANSWER_WITHIN)
            if not ready():
                raise RunError("QEMU ended" if self._closed else "QEMU does not answer")

    def _read(self) -> None:
        try:
            with self._stream.makefile("rb") as lines:
                for line in lines:
                    self._hear(json.loads(line))
        except (OSError, ValueError):
            pass  # QEMU was killed in the middle of a line
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _hear(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "QMP" in message:
                self._greeted = True
            elif "event" in message:
                self._events.append(message)
            else:
                self._answers.append(message)
            self._changed.notify_all()
