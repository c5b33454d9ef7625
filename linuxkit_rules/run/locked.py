"""QEMU out of the locked Debian packages, run in place."""

from __future__ import annotations

from pathlib import Path

from linuxkit_rules.debian.lock import Lock
from linuxkit_rules.debian.machine import machine
from linuxkit_rules.run.qemu import Qemu, Uefi, program_name
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.stages.tool import Program, install

_EMULATORS = {"amd64": "qemu-x86", "arm64": "qemu-arm"}
_FIRMWARES = {
    "amd64": ("ovmf", "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"),
    "arm64": ("aavmf", "usr/share/AAVMF/AAVMF_CODE.fd", "usr/share/AAVMF/AAVMF_VARS.fd"),
}


def locked(engine: Engine, lock: Lock, arch: str, host: str, *, uefi: bool = True) -> Qemu:
    """Give the QEMU for guests ``arch`` that runs on ``host``, with UEFI firmware unless ``uefi`` is false.

    It is fetched and unpacked below the store where it is not there yet.  Raise RunError for an unknown
    architecture, and what ``install`` raises.
    """
    name = program_name(arch)
    root = install(engine, _EMULATORS[arch], lock, host)
    return Qemu(
        program=Program(root, f"usr/bin/{name}").command,
        data=(root / "usr/share/qemu", root / "usr/share/seabios"),
        modules=root / "usr/lib" / machine(host).gnu / "qemu",
        uefi=_firmware(engine, lock, arch, host) if uefi else None,
    )


def _firmware(engine: Engine, lock: Lock, arch: str, host: str) -> Uefi:
    tool, code, variables = _FIRMWARES[arch]
    root: Path = install(engine, tool, lock, host)
    return Uefi(root / code, root / variables)
