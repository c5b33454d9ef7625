"""Boot tests as values: what a machine must say and answer, and that it powers off cleanly."""

from __future__ import annotations

import contextlib
import re
import socket
import time

from linuxkit_rules.errors import RunError
from linuxkit_rules.run.machine import LOCALHOST, Machine
from linuxkit_rules.run.qemu import Qemu
from linuxkit_rules.run.running import PRESS_AGAIN, Running, start
from linuxkit_rules.values import dataclass

PATIENCE = 240.0
"""Seconds for one step: an emulated machine on a slow and busy host takes its time."""

_PAUSE = 0.05  # seconds between connections


@dataclass(frozen=True, slots=True)
class Await:
    """The console shows the regular expression ``pattern``, after what earlier steps have seen."""

    pattern: str

    def run(self, running: Running, patience: float) -> str:
        """Give the text that matched."""
        return running.console.expect(self.pattern, patience)[0]


@dataclass(frozen=True, slots=True)
class Type:
    """``text`` is typed on the console."""

    text: str

    def run(self, running: Running, patience: float) -> str:
        """Give the empty text."""
        running.console.send(self.text)
        return ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The guest's published TCP port ``port`` answers ``send`` with something like the pattern ``expect``.

    Connections are made until one is answered; the first answer decides.  QEMU accepts them before the guest
    is up, so one without an answer is given up after ``attempt`` seconds.
    """

    port: int
    send: bytes
    expect: bytes
    attempt: float = 1.0

    def run(self, running: Running, patience: float) -> str:
        """Give the whole answer up to the match's end, as Latin-1."""
        return exchange(running, self, patience)


Step = Await | Type | Exchange


@dataclass(frozen=True, slots=True)
class BootTest:
    """Steps done in order, then the power button; ``patience`` in seconds is for each of them."""

    steps: tuple[Step, ...]
    patience: float = PATIENCE


@dataclass(frozen=True, slots=True)
class Report:
    """What a boot test that passed has seen: all of the console, and what each step gave."""

    console: str
    answers: tuple[str, ...]


def boot(machine: Machine, qemu: Qemu, test: BootTest) -> Report:
    """Boot the machine, do the steps, press the power button and see the guest power off by itself.

    Raise RunError with the end of the console where anything of that fails.
    """
    with start(machine, qemu) as running:
        console = running.console
        answers = tuple(step.run(running, test.patience) for step in test.steps)
        running.power_down()
        power_off(running, test.patience)
        return Report(console.text, answers)


def power_off(running: Running, patience: float) -> None:
    """Press the power button and wait for the guest to power off; raise RunError where it does not.

    The button is pressed again and again, as by a person: a guest may not listen to it yet.
    """
    deadline = time.monotonic() + patience
    while not running.ended_within(min(PRESS_AGAIN, patience)) and time.monotonic() < deadline:
        with contextlib.suppress(RunError):  # it may have just ended
            running.power_down()
    if not running.ended_within(0):
        raise RunError(f"the guest has not powered off in {patience:g} seconds\n{running.console.tail()}")
    reason = running.wait()
    running.console.join(5)
    if reason != "guest-shutdown" or running.process.returncode:
        status = running.process.returncode
        raise RunError(f"the machine ended by {reason}, status {status}\n{running.console.tail()}")


def exchange(running: Running, wanted: Exchange, patience: float) -> str:
    """Do one exchange with a running machine; see ``Exchange``.  Raise RunError where it fails."""
    host = running.port(wanted.port)
    console = running.console  # from here on it is read: a guest whose console is full stands still
    deadline = time.monotonic() + patience
    while True:
        answer = _attempt(host, wanted, patience)
        if re.search(wanted.expect, answer, re.DOTALL):
            return answer.decode("latin-1")
        # The pause between attempts is a wait for the machine's end: a dead one is not asked again.
        if answer or running.ended_within(_PAUSE) or time.monotonic() > deadline:
            break
    told = f"answered {answer[:200]!r}" if answer else "did not answer"
    raise RunError(f"port {wanted.port} {told}, not {wanted.expect!r}\n{console.tail()}")


def _attempt(host: int, wanted: Exchange, patience: float) -> bytes:
    """Connect and send once; give what came until it matched, or the connection ended."""
    answer = b""
    try:
        with socket.create_connection((LOCALHOST, host), wanted.attempt) as connection:
            connection.sendall(wanted.send)
            while not re.search(wanted.expect, answer, re.DOTALL):
                data = connection.recv(1 << 16)
                if not data:
                    break
                answer += data
                connection.settimeout(patience)
    except OSError:
        pass  # nobody listens yet, or the answer broke off: the caller judges by what came
    return answer
