"""Finding what ``moby build`` or ``scons`` made, by its name.

The file names of the formats are LinuxKit's: https://github.com/linuxkit/linuxkit/blob/master/docs/image-types.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from linuxkit_rules.errors import RunError
from linuxkit_rules.run.machine import Cd, Disk, Firmware, Kernel, Medium
from linuxkit_rules.values import dataclass

PLACES = (Path(), Path("out"))
"""Directories, from the current one, in which a bare name is looked for."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A medium to boot from, and the firmware that it is for."""

    medium: Medium
    firmware: Firmware


@dataclass(frozen=True, slots=True)
class _Format:
    """A kind of file: it is there as NAME plus ``suffix``; ``medium`` makes of its path what boots it."""

    suffix: str
    medium: Callable[[Path], Medium]
    firmwares: tuple[Firmware, ...] = (Firmware.BIOS, Firmware.UEFI)


def _kernel(path: Path) -> Kernel:
    """Take the files beside NAME-kernel: NAME-initrd.img and NAME-cmdline."""
    stem = str(path).removesuffix("-kernel")
    initrd, cmdline = Path(f"{stem}-initrd.img"), Path(f"{stem}-cmdline")
    missing = [str(file) for file in (initrd, cmdline) if not file.is_file()]
    if missing:
        raise RunError(f"a kernel without {' and '.join(missing)}", where=str(path))
    return Kernel(path, initrd, cmdline.read_text(encoding="utf-8").strip())


def _qcow2(path: Path) -> Disk:
    return Disk(path, "qcow2")


# The first that is there is taken: those for one firmware only come before those for both.
_FORMATS = (
    _Format("-efi.iso", Cd, (Firmware.UEFI,)),
    _Format("-efi.img", Disk, (Firmware.UEFI,)),
    _Format("-efi.qcow2", _qcow2, (Firmware.UEFI,)),
    _Format(".iso", Cd),
    _Format("-kernel", _kernel),
    _Format("-bios.img", Disk, (Firmware.BIOS,)),
    _Format(".qcow2", _qcow2),
    _Format(".raw", Disk),
    _Format(".img", Disk),
)


def find(name: str, firmware: Firmware | None = None, places: Sequence[Path] = PLACES) -> Artefact:
    """Find the file ``name``, or the first artefact of that name in ``places``.

    Without ``firmware``, BIOS is preferred.  Raise RunError, naming what was looked for, if nothing is there.
    """
    if Path(name).is_file():
        return _explicit(Path(name), firmware)
    wanted = [firmware] if firmware else [Firmware.BIOS, Firmware.UEFI]
    forms = [(choice, form) for choice in wanted for form in _FORMATS if choice in form.firmwares]
    for choice, form in forms:
        for place in places:
            path = place / f"{name}{form.suffix}"
            if path.is_file():
                return Artefact(form.medium(path), choice)
    files = ", ".join(dict.fromkeys(f"{name}{form.suffix}" for _, form in forms))
    folders = " and ".join(str(place) for place in places)
    raise RunError(f"there is nothing to run by the name {name!r}", hint=f"looked in {folders} for {files}")


def _explicit(path: Path, firmware: Firmware | None) -> Artefact:
    for form in _FORMATS:
        if path.name.endswith(form.suffix):
            return Artefact(form.medium(path), firmware or form.firmwares[0])
    suffixes = ", ".join(form.suffix for form in _FORMATS)
    raise RunError("this file is of no kind that can be booted", where=str(path), hint=f"one of {suffixes}")
