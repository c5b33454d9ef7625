"""Finding what to run by its name."""

from pathlib import Path

import pytest

from linuxkit_rules.errors import RunError
from linuxkit_rules.run.artefacts import Artefact, find
from linuxkit_rules.run.machine import Cd, Disk, Firmware, Kernel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    return tmp_path


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("console=ttyS0 quiet\n")


def test_by_name_here_and_in_out(folder: Path) -> None:
    make(folder, "out/redisos.iso")
    assert find("redisos") == Artefact(Cd(Path("out/redisos.iso")), Firmware.BIOS)
    make(folder, "redisos.iso")
    assert find("redisos").medium == Cd(Path("redisos.iso"))


def test_the_hybrid_iso_boots_by_either_firmware(folder: Path) -> None:
    make(folder, "x.iso")
    assert find("x", Firmware.UEFI) == Artefact(Cd(Path("x.iso")), Firmware.UEFI)


def test_the_iso_for_efi_alone_is_for_efi(folder: Path) -> None:
    make(folder, "x-efi.iso")
    assert find("x") == Artefact(Cd(Path("x-efi.iso")), Firmware.UEFI)
    with pytest.raises(
        RunError, match=r"nothing to run by the name 'x' \(looked in \. and out for x\.iso, x-kernel, "
    ):
        find("x", Firmware.BIOS)


def test_kernel_initrd_and_command_line(folder: Path) -> None:
    make(folder, "x-kernel", "x-initrd.img", "x-cmdline")
    kernel = Kernel(Path("x-kernel"), Path("x-initrd.img"), "console=ttyS0 quiet")
    assert find("x") == Artefact(kernel, Firmware.BIOS)
    assert find("x-kernel").medium == kernel


def test_a_kernel_without_its_companions(folder: Path) -> None:
    make(folder, "x-kernel", "x-cmdline")
    with pytest.raises(RunError, match=r"^x-kernel: a kernel without x-initrd\.img$"):
        find("x")


def test_disks(folder: Path) -> None:
    make(folder, "x.qcow2", "y-bios.img", "z.raw")
    assert find("x").medium == Disk(Path("x.qcow2"), "qcow2")
    assert find("y").medium == Disk(Path("y-bios.img"))
    assert find("z").medium == Disk(Path("z.raw"))


def test_a_file_by_its_path(folder: Path) -> None:
    make(folder, "out/x-efi.iso", "out/x.iso")
    assert find("out/x.iso") == Artefact(Cd(Path("out/x.iso")), Firmware.BIOS)
    assert find("out/x.iso", Firmware.UEFI).firmware is Firmware.UEFI
    assert find(str(folder / "out/x-efi.iso")).firmware is Firmware.UEFI


def test_a_file_of_no_known_kind(folder: Path) -> None:
    make(folder, "x.yml")
    with pytest.raises(RunError, match=r"x.yml: this file is of no kind that can be booted"):
        find("x.yml")


def test_nothing_there_says_what_was_looked_for(folder: Path) -> None:
    with pytest.raises(RunError, match=r"x\.iso, x-kernel.*x-efi\.iso"):
        find("x")
