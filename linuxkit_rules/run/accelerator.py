"""Which accelerator really works here.

``/dev/kvm`` may be there and yet hang every guest (nested virtualisation that is half switched on), so one is
used only after a guest of a few instructions has said a word with it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from linuxkit_rules.errors import RunError
from linuxkit_rules.run.machine import Disk, Machine
from linuxkit_rules.run.qemu import Qemu
from linuxkit_rules.run.running import start

KVM = Path("/dev/kvm")
WORD = "probe: ready"

# A boot sector for QEMU's q35 board under SeaBIOS: says WORD on the first serial port, echoes what is typed,
# and powers off when the power button is pressed (ACPI 6.5, section 4.8.3: PM1 registers, here at 0x600).
_BOOT_SECTOR = bytes.fromhex(
    "31c0 8ed8"  #             xor ax, ax; mov ds, ax
    "ba0206 b80001 ef"  #      enable the power button's status bit (PM1 enable, PWRBTN_EN)
    "baf803 be397c"  #         dx = COM1, si = text below
    "ac 84c0 7403 ee ebf8"  #  write it up to its NUL
    "bafd03 ec a801 7405"  #   line status: no byte here? go on below
    "baf803 ec ee"  #          echo a byte
    "ba0006 ed f6c401 74ea"  # power button not pressed (PM1 status)? again
    "ba0406 b80020 ef"  #      PM1 control: SLP_EN, type 0 (S5 on this board)
    "f4 ebfd"  #               halt
) + (WORD.encode() + b"\r\n\0")
_SIZE = 4 << 20  # SeaBIOS does not read a virtio disk of less than a cylinder


def boot_sector() -> bytes:
    """Give the probe's disk: 512 bytes, signed as PC firmware wants it, and zeros."""
    return (_BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa").ljust(_SIZE, b"\0")


def probe(qemu: Qemu, arch: str, timeout: float = 5.0) -> str:
    """Give ``kvm`` where a guest has run with it within ``timeout`` seconds, or else ``tcg``.

    The answer holds as long as the host is not restarted; callers keep it.
    """
    if arch != "amd64" or os.uname().machine != "x86_64" or not os.access(KVM, os.R_OK | os.W_OK):
        return "tcg"
    return "kvm" if says_word(qemu, "kvm", timeout) else "tcg"


def says_word(qemu: Qemu, accelerator: str, timeout: float) -> bool:
    """Whether the probe's guest speaks within ``timeout`` seconds under ``accelerator``."""
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(boot_sector())
        disk.flush()
        machine = Machine(Disk(Path(disk.name)), memory=64, accelerator=accelerator)
        try:
            with start(machine, qemu) as running:
                running.console.expect(WORD, timeout)
        except RunError:
            return False
    return True
