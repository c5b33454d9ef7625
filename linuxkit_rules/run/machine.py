"""A virtual machine as a value, and the QEMU command line that makes it.

QEMU's options: https://www.qemu.org/docs/master/system/invocation.html
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from linuxkit_rules.errors import RunError, UsageError
from linuxkit_rules.run.qemu import Qemu
from linuxkit_rules.values import dataclass

LOCALHOST = "127.0.0.1"


class Firmware(enum.Enum):
    """What the machine begins with: SeaBIOS, or UEFI (OVMF, AAVMF)."""

    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the guest that the host's ``address`` answers on; ``host`` 0 lets the host choose."""

    host: int
    guest: int
    protocol: Literal["tcp", "udp"] = "tcp"
    address: str = LOCALHOST

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``[ADDRESS:]HOST:GUEST[/tcp|/udp]``; raise UsageError for anything else."""
        match = re.fullmatch(r"(?:([0-9.]+):)?(\d{1,5}):(\d{1,5})(?:/(tcp|udp))?", text)
        if match is None or int(match[2]) > 65535 or not 0 < int(match[3]) <= 65535:
            raise UsageError(f"{text!r} is no published port", hint="write HOST:GUEST, like 6379:6379")
        protocol: Literal["tcp", "udp"] = "udp" if match[4] == "udp" else "tcp"
        return cls(int(match[2]), int(match[3]), protocol, match[1] or LOCALHOST)


@dataclass(frozen=True, slots=True)
class Kernel:
    """Kernel and initrd given to QEMU itself, without any boot loader."""

    kernel: Path
    initrd: Path | None = None
    cmdline: str = ""


@dataclass(frozen=True, slots=True)
class Cd:
    """An ISO image in a CD drive."""

    image: Path


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk image, never written to: what the guest writes is gone with the machine."""

    image: Path
    format: str = "raw"
    bus: Literal["virtio", "usb"] = "virtio"


Medium = Kernel | Cd | Disk


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with a serial console, a network behind NAT, a random number device and one boot medium.

    ``memory`` is in MiB.  ``accelerator`` is ``tcg``, or what ``accelerator.probe`` gave.  Without ``reboot``
    a guest that resets (a panic, say) ends.
    """

    medium: Medium
    arch: str = "amd64"
    memory: int = 1024
    cpus: int = 1
    firmware: Firmware = Firmware.BIOS
    ports: tuple[Port, ...] = ()
    accelerator: str = "tcg"
    reboot: bool = False


def argv(machine: Machine, qemu: Qemu, console: int, monitor: int) -> list[str]:
    """Give QEMU's command line; ``console`` and ``monitor`` are connected sockets that it inherits.

    Raise RunError where the machine needs firmware that ``qemu`` has not.
    """
    return [
        *qemu.program,
        *(word for path in qemu.data for word in ("-L", str(path))),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *([] if machine.reboot else ["-no-reboot"]),
        *_board(machine),
        *_firmware(machine, qemu),
        *("-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"),
        *("-netdev", ",".join(["user,id=net", *(_forward(port) for port in machine.ports)])),
        # An empty romfile: no network boot, so no option ROM is needed.
        *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
        *_medium(machine),
    ]


def _board(machine: Machine) -> Iterator[str]:
    boards = {"amd64": "q35", "arm64": "virt"}
    processor = "host" if machine.accelerator != "tcg" else "max"
    if machine.arch == "arm64" and processor == "max":
        processor = "max,pauth-impdef=on"  # the architected algorithm is very slow to emulate
    yield from ("-machine", boards[machine.arch], "-accel", machine.accelerator, "-cpu", processor)
    yield from ("-m", f"{machine.memory}M", "-smp", str(machine.cpus))
    if machine.arch == "amd64":
        yield from ("-vga", "std")


def _firmware(machine: Machine, qemu: Qemu) -> Iterator[str]:
    if machine.firmware is Firmware.BIOS and machine.arch == "amd64":
        return
    if qemu.uefi is None:
        # An arm64 machine has no BIOS; a kernel starts without firmware, but then has no ACPI power button.
        if machine.firmware is Firmware.BIOS and isinstance(machine.medium, Kernel):
            return
        raise RunError("this QEMU has no UEFI firmware", hint="install ovmf, or use the locked packages")
    yield from ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_value(qemu.uefi.code)}")
    yield from ("-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={_value(qemu.uefi.variables)}")


def _forward(port: Port) -> str:
    return f"hostfwd={port.protocol}:{port.address}:{port.host}-:{port.guest}"


def _medium(machine: Machine) -> Iterator[str]:
    match machine.medium:
        case Kernel(kernel, initrd, cmdline):
            yield from ("-kernel", str(kernel))
            yield from ("-initrd", str(initrd)) if initrd else ()
            yield from ("-append", cmdline) if cmdline else ()
        case Cd(image):
            yield from ("-drive", f"if=none,id=medium,format=raw,readonly=on,file={_value(image)}")
            if machine.arch == "amd64":
                yield from ("-device", "ide-cd,drive=medium,bootindex=0")
            else:
                yield from ("-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=medium,bootindex=0")
        case Disk(image, form, bus):
            yield from ("-drive", f"if=none,id=medium,format={form},snapshot=on,file={_value(image)}")
            if bus == "usb":
                yield from ("-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=0")
            else:
                yield from ("-device", "virtio-blk-pci,drive=medium,bootindex=0")


def _value(path: Path) -> str:
    """Quote a path for a list of options, where a comma is written twice."""
    return str(path).replace(",", ",,")
