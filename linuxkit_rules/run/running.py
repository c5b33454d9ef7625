"""A machine that runs: started, watched, powered off, and never left behind."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from linuxkit_rules.errors import RunError
from linuxkit_rules.run.console import Console
from linuxkit_rules.run.machine import Machine, argv
from linuxkit_rules.run.monitor import Monitor
from linuxkit_rules.run.qemu import Qemu

PRESS_AGAIN = 5.0
"""Seconds between presses of the power button, until the guest has powered off."""

# Starts QEMU so that it dies with the thread that started it, even if that one is killed (prctl(2)).
_LAUNCHER = """\
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error.strerror}")
"""
_FORWARDED = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)")


class Running:
    """A running machine; made by ``start``.

    ``serial`` is the raw console.  Either use it, or ``console``, which reads it from its first use on: a
    guest whose console nobody reads stands still when some buffers are full.
    """

    def __init__(self, process: subprocess.Popen[bytes], serial: socket.socket, monitor: Monitor) -> None:
        self.process = process
        self.serial = serial
        self.monitor = monitor

    @functools.cached_property
    def console(self) -> Console:
        """The serial console, searchable."""
        return Console(self.serial)

    def port(self, guest: int, protocol: str = "tcp") -> int:
        """Give the host's port that leads to the port ``guest``; raise RunError where it is not published."""
        answer = self.monitor.execute("human-monitor-command", **{"command-line": "info usernet"})
        for name, host, inside in _FORWARDED.findall(answer):
            if name.lower() == protocol and int(inside) == guest:
                return int(host)
        raise RunError(f"port {guest}/{protocol} of the machine is not published")

    def power_down(self) -> None:
        """Press the ACPI power button."""
        self.monitor.execute("system_powerdown")

    def wait(self, timeout: float | None = None) -> str:
        """Wait at most ``timeout`` seconds for QEMU's end, and give the reason: QMP's ``ShutdownCause``.

        ``guest-shutdown`` means that the guest powered off by itself.  Raise RunError where time runs out.
        """
        if timeout is None:
            self.process.wait()
        elif not self.ended_within(timeout):
            raise RunError(f"the machine still runs after {timeout:g} seconds")
        self.monitor.join(5)
        event = self.monitor.event("SHUTDOWN") or {}
        return str(event.get("reason", "none"))

    def ended_within(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for QEMU's end, and tell whether it came."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End QEMU at once, whatever the guest does."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def start(machine: Machine, qemu: Qemu) -> Iterator[Running]:
    """Start the machine; at the end of the block, or of this thread, it is gone, however that ends.

    Raise RunError with QEMU's own words where it does not start.
    """
    with contextlib.ExitStack() as stack:
        serial, theirs_serial = (stack.enter_context(end) for end in socket.socketpair())
        control, theirs_control = (stack.enter_context(end) for end in socket.socketpair())
        errors = stack.enter_context(tempfile.TemporaryFile())
        command = argv(machine, qemu, theirs_serial.fileno(), theirs_control.fileno())
        process = _spawn(command, qemu, (theirs_serial.fileno(), theirs_control.fileno()), errors)
        stack.callback(_end, process)
        theirs_serial.close()
        theirs_control.close()
        yield Running(process, serial, _connect(control, errors))


def _spawn(
    command: list[str], qemu: Qemu, sockets: tuple[int, int], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=sockets,
            env={**os.environ, **qemu.environment()},
            start_new_session=True,  # the terminal's Ctrl-C is ours to handle
        )
    except OSError as error:
        raise RunError(f"QEMU cannot be started: {error.strerror}", where=command[0]) from error


def _connect(control: socket.socket, errors: IO[bytes]) -> Monitor:
    try:
        return Monitor(control)
    except RunError as error:
        errors.seek(0)
        words = errors.read().decode(errors="replace").strip() or str(error)
        raise RunError(f"QEMU does not start: {words}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
