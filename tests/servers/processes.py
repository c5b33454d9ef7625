"""Servers that are programs of their own, from the locked packages."""

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PATIENCE = 180.0
"""Seconds after which what is waited for comes no more, however busy the machine is."""

_LAST_WORDS = 20.0
"""Seconds that a program gets to end."""


def await_(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, which ``what`` says in words."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, f"waited in vain until {what}"
        time.sleep(0.02)  # the machine's processors are for what is waited for


def end(process: "subprocess.Popen[Any]", by: signal.Signals = signal.SIGTERM) -> int:
    """End a program, even one that is stopped or does not listen; give its exit status."""
    if process.poll() is None:
        process.send_signal(by)
        process.send_signal(signal.SIGCONT)
    try:
        return process.wait(_LAST_WORDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(_LAST_WORDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def running(command: Sequence[str], port: int, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; it is entered once the server answers on its port."""
    server = subprocess.Popen(command, **options)
    try:
        await_(lambda: server.poll() is not None or answers(port), f"{command[-1]} answers")
        if server.poll() is not None:
            pytest.fail(f"{command[-1]} ended before it answered")
        yield server
    finally:
        end(server)


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    """Serve with threads of this process until the block ends."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients go away whenever they like."""

    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
