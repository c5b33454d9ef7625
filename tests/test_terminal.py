"""Keys for the guest and keys for us."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from linuxkit_rules.run import terminal
from linuxkit_rules.run.machine import Cd, Disk, Firmware, Kernel, Port
from linuxkit_rules.run.terminal import Key, Keyboard, RunOptions, Terminal, machine


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"ab", [b"a", b"b"]),
        (b"\x03", [Key.POWER_OFF]),
        (b"a\x03b", [b"a", Key.POWER_OFF, b"b"]),
        (b"\x01x", [Key.QUIT]),
        (b"\x01c", [b"\x03"]),
        (b"\x01\x01", [b"\x01"]),
        (b"\x01z", [b"z"]),
        (b"\x04\x1b[A", [b"\x04", b"\x1b", b"[", b"A"]),
    ],
)
def test_keys(typed: bytes, expected: list[bytes | Key]) -> None:
    assert Keyboard().read(typed) == expected


def test_an_escape_may_come_alone() -> None:
    keyboard = Keyboard()
    assert keyboard.read(b"\x01") == []
    assert keyboard.read(b"x") == [Key.QUIT]


def test_options_make_a_machine(tmp_path: Path) -> None:
    iso = tmp_path / "x.iso"
    iso.touch()
    made = machine(RunOptions(str(iso), memory=2048, cpus=2, ports=(Port(80, 80),), accelerator="kvm"))
    assert made.medium == Cd(iso)
    assert (made.memory, made.cpus, made.ports, made.accelerator) == (2048, 2, (Port(80, 80),), "kvm")
    assert made.firmware is Firmware.BIOS
    assert made.reboot


def test_an_iso_as_a_disk_by_uefi(tmp_path: Path) -> None:
    (tmp_path / "x.iso").touch()
    made = machine(RunOptions(str(tmp_path / "x"), uefi=True, disk=True))
    assert made.medium == Disk(tmp_path / "x.iso", bus="usb")
    assert made.firmware is Firmware.UEFI


def test_a_kernel_is_no_disk(tmp_path: Path) -> None:
    for name in ("x-kernel", "x-initrd.img", "x-cmdline"):
        (tmp_path / name).touch()
    made = machine(RunOptions(str(tmp_path / "x"), disk=True))
    assert isinstance(made.medium, Kernel)


class Deaf:
    """A machine whose guest listens to the power button only when it is pressed for the third time."""

    process = SimpleNamespace(returncode=0)

    def __init__(self) -> None:
        self.serial, self._guest = socket.socketpair()
        self.presses = 0

    def power_down(self) -> None:
        self.presses += 1
        if self.presses == 3:
            self._guest.close()

    def wait(self) -> str:
        return "guest-shutdown"


def test_the_power_button_is_pressed_until_the_guest_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "PRESS_AGAIN", 0.01)
    deaf: Any = Deaf()
    nobody, wake = os.open(os.devnull, os.O_RDWR), os.pipe()
    os.write(wake[1], b"\x02")
    assert Terminal(deaf, nobody, nobody, wake[0]).run() == 0
    assert deaf.presses == 3
    for file in (nobody, *wake):
        os.close(file)
