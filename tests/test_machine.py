"""Machines as values, their command lines, and how QEMU is found."""

from pathlib import Path

import pytest

from linuxkit_rules.errors import RunError, UsageError
from linuxkit_rules.run.machine import Cd, Disk, Firmware, Kernel, Machine, Port, argv
from linuxkit_rules.run.qemu import Qemu, Uefi, on_path, program_name

BARE = Qemu(("qemu",))
WITH_UEFI = Qemu(("qemu",), uefi=Uefi(Path("/fw/code.fd"), Path("/fw/vars.fd")))


def words(machine: Machine, qemu: Qemu = BARE) -> str:
    return " ".join(argv(machine, qemu, 7, 8))


def test_program_and_its_directories_come_first() -> None:
    qemu = Qemu(("ld.so", "--library-path", "/lib", "/bin/qemu"), data=(Path("/a"), Path("/b")))
    command = argv(Machine(Cd(Path("x.iso"))), qemu, 7, 8)
    assert command[:8] == ["ld.so", "--library-path", "/lib", "/bin/qemu", "-L", "/a", "-L", "/b"]
    assert qemu.environment() == {}


def test_modules_are_named_by_a_variable() -> None:
    assert Qemu(("qemu",), modules=Path("/m")).environment() == {"QEMU_MODULE_DIR": "/m"}


def test_console_and_monitor_are_the_given_sockets() -> None:
    text = words(Machine(Cd(Path("x.iso"))))
    assert "-chardev socket,id=console,fd=7 -serial chardev:console" in text
    assert "-chardev socket,id=monitor,fd=8 -mon chardev=monitor,mode=control" in text


def test_no_network_boot_and_a_random_number_device() -> None:
    text = words(Machine(Cd(Path("x.iso"))))
    assert "virtio-net-pci,netdev=net,romfile=" in text
    assert "virtio-rng-pci" in text


@pytest.mark.parametrize(
    ("medium", "expected"),
    [
        (Kernel(Path("k"), Path("i"), "a=b c"), "-kernel k -initrd i -append a=b c"),
        (Kernel(Path("k")), "-kernel k"),
        (Cd(Path("x.iso")), "file=x.iso -device ide-cd,drive=medium,bootindex=0"),
        (Disk(Path("x.raw")), "file=x.raw -device virtio-blk-pci,drive=medium,bootindex=0"),
        (Disk(Path("x.iso"), bus="usb"), "usb-storage,drive=medium,bootindex=0"),
        (Disk(Path("x.qcow2"), "qcow2"), "format=qcow2,snapshot=on"),
    ],
)
def test_medium(medium: Kernel | Cd | Disk, expected: str) -> None:
    assert expected in words(Machine(medium))


def test_a_kernel_without_initrd_has_neither_initrd_nor_command_line() -> None:
    text = words(Machine(Kernel(Path("k"))))
    assert "-initrd" not in text
    assert "-append" not in text


def test_a_comma_in_a_path_is_doubled() -> None:
    assert "file=a,,b.iso" in words(Machine(Cd(Path("a,b.iso"))))


def test_no_medium_is_written_to() -> None:
    assert "readonly=on" in words(Machine(Cd(Path("x.iso"))))
    assert "snapshot=on" in words(Machine(Disk(Path("x.raw"))))
    assert "snapshot=on,file=/fw/vars.fd" in words(
        Machine(Disk(Path("x.raw")), firmware=Firmware.UEFI), WITH_UEFI
    )


def test_bios_needs_no_flash_and_uefi_does() -> None:
    assert "pflash" not in words(Machine(Cd(Path("x.iso"))), WITH_UEFI)
    assert "pflash" in words(Machine(Cd(Path("x.iso")), firmware=Firmware.UEFI), WITH_UEFI)
    with pytest.raises(RunError, match="no UEFI firmware"):
        words(Machine(Cd(Path("x.iso")), firmware=Firmware.UEFI))


def test_arm64_has_its_own_board_and_uefi_where_there_is_any() -> None:
    kernel = Machine(Kernel(Path("k")), arch="arm64")
    assert "-machine virt" in words(kernel)
    assert "pflash" not in words(kernel)
    assert "pflash" in words(kernel, WITH_UEFI)
    with pytest.raises(RunError, match="no UEFI firmware"):
        words(Machine(Cd(Path("x.iso")), arch="arm64"))
    assert "pflash" in words(Machine(Cd(Path("x.iso")), arch="arm64"), WITH_UEFI)
    assert "scsi-cd" in words(Machine(Cd(Path("x.iso")), arch="arm64"), WITH_UEFI)


def test_a_guest_that_resets_ends_unless_it_may_reboot() -> None:
    assert "-no-reboot" in words(Machine(Cd(Path("x.iso"))))
    assert "-no-reboot" not in words(Machine(Cd(Path("x.iso")), reboot=True))


def test_processor_follows_the_accelerator() -> None:
    assert "-accel tcg -cpu max" in words(Machine(Cd(Path("x.iso"))))
    assert "-accel kvm -cpu host" in words(Machine(Cd(Path("x.iso")), accelerator="kvm"))


def test_published_ports_are_forwarded() -> None:
    ports = (Port(8080, 80), Port(0, 53, "udp", "0.0.0.0"))  # noqa: S104 - an option's value
    text = words(Machine(Cd(Path("x.iso")), ports=ports))
    assert "user,id=net,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp:0.0.0.0:0-:53" in text


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("6379:6379", Port(6379, 6379)),
        ("8080:80/tcp", Port(8080, 80)),
        ("5353:53/udp", Port(5353, 53, "udp")),
        ("0.0.0.0:80:80", Port(80, 80, "tcp", "0.0.0.0")),  # noqa: S104 - what a user writes
        ("0:80", Port(0, 80)),
    ],
)
def test_port_as_written(text: str, port: Port) -> None:
    assert Port.parse(text) == port


@pytest.mark.parametrize(
    "text", ["", "80", "80:", ":80", "80:0", "80:65536", "65536:80", "a:b", "80:80/sctp", "1:2,x"]
)
def test_port_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="no published port"):
        Port.parse(text)


def test_qemu_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert on_path("amd64").program == (str(program),)
    with pytest.raises(RunError, match="qemu-system-aarch64 is not on PATH"):
        on_path("arm64")


def test_unknown_architecture() -> None:
    with pytest.raises(RunError, match="no machine of architecture 'vax'"):
        program_name("vax")
