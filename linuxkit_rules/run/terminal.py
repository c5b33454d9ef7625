"""A machine with its console in the user's terminal."""

from __future__ import annotations

import contextlib
import enum
import os
import select
import signal
import termios
import time
import tty
from collections.abc import Iterator
from types import FrameType

from linuxkit_rules.errors import RunError
from linuxkit_rules.run.artefacts import find
from linuxkit_rules.run.machine import Cd, Disk, Firmware, Machine, Port
from linuxkit_rules.run.qemu import Qemu
from linuxkit_rules.run.running import PRESS_AGAIN, Running, start
from linuxkit_rules.values import dataclass

INTERRUPTED = 130
"""Exit status where the user did not wait for the guest to power off: as shells say SIGINT."""

_STDIN, _STDOUT = 0, 1  # sys.stdin and sys.stdout are None where these were closed
_ESCAPE = 0x01  # Ctrl-A, as in QEMU and screen
_CTRL_C = 0x03
_TYPED_AHEAD = 1 << 16  # bytes of a file or pipe on standard input that are kept for a guest


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What ``moby run`` is asked for; ``memory`` in MiB; ``name`` as ``artefacts.find`` takes it.

    ``disk`` attaches an ISO as a USB disk instead of a CD.
    """

    name: str
    arch: str = "amd64"
    memory: int = 1024
    cpus: int = 1
    uefi: bool = False
    disk: bool = False
    ports: tuple[Port, ...] = ()
    accelerator: str = "tcg"


class Key(enum.Enum):
    """What the user wants, besides typing."""

    POWER_OFF = enum.auto()
    QUIT = enum.auto()


class Keyboard:
    """Tells keys for the guest from those for us.

    Ctrl-C powers off; Ctrl-A x quits at once; Ctrl-A c types Ctrl-C, and Ctrl-A Ctrl-A types Ctrl-A.
    """

    def __init__(self) -> None:
        self._escaped = False

    def read(self, data: bytes) -> list[bytes | Key]:
        """Split what was typed into bytes for the guest and wishes, in order."""
        return [item for byte in data if (item := self._key(byte)) is not None]

    def _key(self, byte: int) -> bytes | Key | None:
        if self._escaped:
            self._escaped = False
            special: dict[int, bytes | Key] = {ord("x"): Key.QUIT, ord("c"): bytes([_CTRL_C])}
            return special.get(byte, bytes([byte]))
        if byte == _ESCAPE:
            self._escaped = True
            return None
        return Key.POWER_OFF if byte == _CTRL_C else bytes([byte])


def machine(options: RunOptions) -> Machine:
    """Give the machine that the options describe; raise RunError where there is no such artefact."""
    artefact = find(options.name, Firmware.UEFI if options.uefi else None)
    medium = artefact.medium
    if options.disk and isinstance(medium, Cd):
        medium = Disk(medium.image, bus="usb")
    return Machine(
        medium=medium,
        arch=options.arch,
        memory=options.memory,
        cpus=options.cpus,
        firmware=artefact.firmware,
        ports=options.ports,
        accelerator=options.accelerator,
        reboot=True,
    )


def run(options: RunOptions, qemu: Qemu) -> int:
    """Boot, with the console on standard input and output, until the guest powers off; give the exit status.

    Ctrl-C presses the power button, again and again until the guest powers off; so do SIGTERM and SIGHUP; a
    second one stops at once.  Raise RunError where the machine does not start, or QEMU fails.
    """
    with start(machine(options), qemu) as running, _raw(_STDIN), _signals() as wake:
        return Terminal(running, _STDIN, _STDOUT, wake).run()


class Terminal:
    """Carries bytes between two file descriptors and a machine's console, until either ends.

    ``wake`` becomes readable at each signal (the number, one byte), as ``signal.set_wakeup_fd`` has it.
    """

    def __init__(self, running: Running, keys: int, screen: int, wake: int) -> None:
        self._running = running
        self._keys = keys
        self._screen = screen
        self._wake = wake
        self._keyboard = Keyboard() if os.isatty(keys) else None
        self._reads = _in_foreground(keys)
        self._typed = b""
        self._leaving = False
        self._again = 0.0
        self._quit = False

    def run(self) -> int:
        """Carry until the machine has ended, and give the exit status."""
        serial = self._running.serial.fileno()
        self._running.serial.setblocking(False)
        inputs = {serial, self._wake} | ({self._keys} if self._reads else set())
        while serial in inputs and not self._quit:
            # A guest may be slow to read, or never do it: keep watching its console and the signals.
            full = len(self._typed) > _TYPED_AHEAD
            reading = inputs - {self._keys} if full and not self._keyboard else inputs
            patience = max(self._again - time.monotonic(), 0) if self._leaving else None
            readable, writable, _ = select.select(
                sorted(reading), [serial] if self._typed else [], [], patience
            )
            if writable:
                self._pass_on()
            if self._leaving and time.monotonic() >= self._again:
                self._press()
            inputs.difference_update([file for file in readable if not self._carry(file)])
        return self._status()

    def _carry(self, file: int) -> bool:
        """Read what ``file`` has, and act on it; tell whether there may be more."""
        data = _read(file)
        if file == self._wake:
            self._wish(Key.POWER_OFF)
        elif file != self._keys:
            _write(self._screen, data)
        elif self._keyboard is None:
            self._typed += data
        else:
            for item in self._keyboard.read(data):
                self._wish(item)
        return bool(data)

    def _wish(self, item: bytes | Key) -> None:
        if isinstance(item, bytes):
            self._typed += item
        elif item is Key.QUIT or self._leaving:
            self._quit = True
        else:
            self._leave()

    def _pass_on(self) -> None:
        try:
            sent = self._running.serial.send(self._typed)
        except OSError:
            sent = len(self._typed)  # the machine has just ended
        self._typed = self._typed[sent:]

    def _leave(self) -> None:
        self._leaving = True
        _write(self._screen, b"\r\n[powering off; Ctrl-C again stops at once]\r\n")
        self._press()

    def _press(self) -> None:
        """Press the power button, to be pressed again: a guest may not listen to it yet."""
        self._again = time.monotonic() + PRESS_AGAIN
        with contextlib.suppress(RunError):  # it may have just ended
            self._running.power_down()

    def _status(self) -> int:
        if self._quit:
            return INTERRUPTED
        reason = self._running.wait()
        if self._running.process.returncode:
            raise RunError(f"QEMU ended with status {self._running.process.returncode} ({reason})")
        return 0


def _in_foreground(file: int) -> bool:
    """Whether we may read ``file``: from its terminal, a job in the background would be stopped for it."""
    try:
        return os.tcgetpgrp(file) == os.getpgrp()
    except OSError:  # no terminal, or not the one that controls us
        return True


@contextlib.contextmanager
def _raw(file: int) -> Iterator[None]:
    """Let every key through at once, where ``file`` is a terminal; restore its modes afterwards."""
    if not os.isatty(file) or not _in_foreground(file):
        yield
        return
    modes = termios.tcgetattr(file)
    try:
        tty.setraw(file)
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, modes)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Turn SIGINT, SIGTERM and SIGHUP into bytes on the file descriptor given; main thread only."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {
        number: signal.signal(number, _noted) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    wakeup = signal.set_wakeup_fd(writing)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wakeup file descriptor has it."""


def _read(file: int) -> bytes:
    try:
        return os.read(file, 1 << 16)
    except OSError:
        return b""  # a terminal that hung up


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
