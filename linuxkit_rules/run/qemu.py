"""QEMU itself: which program to start, and where its firmware and modules lie.

A program from PATH and one run in place from unpacked Debian packages are the same ``Qemu`` to the rest.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from linuxkit_rules.errors import RunError
from linuxkit_rules.values import dataclass

PROGRAMS = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
"""QEMU's system emulator by the architecture of the guest, in Debian's names."""

_UEFI_ON_PATH = {
    "amd64": (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ),
    "arm64": (
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
        ("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
    ),
}


@dataclass(frozen=True, slots=True)
class Uefi:
    """UEFI firmware as two flash images: its code, and the template of its variables (never written to)."""

    code: Path
    variables: Path


@dataclass(frozen=True, slots=True)
class Qemu:
    """One system emulator.

    ``program`` begins the argument list (a loader may stand before QEMU's own path); ``data`` are directories
    of firmware and option ROMs, searched before those built in; ``modules`` holds QEMU's own shared modules.
    """

    program: tuple[str, ...]
    data: tuple[Path, ...] = ()
    modules: Path | None = None
    uefi: Uefi | None = None

    def environment(self) -> dict[str, str]:
        """Variables that the program needs besides those of its caller."""
        return {"QEMU_MODULE_DIR": str(self.modules)} if self.modules else {}


def program_name(arch: str) -> str:
    """Name of the emulator of ``arch``; raise RunError where there is none."""
    try:
        return PROGRAMS[arch]
    except KeyError:
        raise RunError(f"there is no machine of architecture {arch!r}", hint="use amd64 or arm64") from None


def on_path(arch: str) -> Qemu:
    """Give the QEMU installed on this host, with its UEFI firmware if there is one; raise RunError if not."""
    name = program_name(arch)
    program = shutil.which(name)
    if program is None:
        raise RunError(f"{name} is not on PATH", hint="leave it to the locked packages, or install QEMU")
    pairs = (Uefi(Path(code), Path(variables)) for code, variables in _UEFI_ON_PATH[arch])
    present = (pair for pair in pairs if pair.code.is_file() and pair.variables.is_file())
    return Qemu((program,), uefi=next(present, None))
