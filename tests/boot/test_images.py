"""The examples boot, under each firmware and from each medium, and do what they are for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.run.artefacts import find
from linuxkit_rules.run.boot import Await, BootTest, Exchange, Report, Step, Type, boot
from linuxkit_rules.run.machine import Cd, Disk, Firmware, Machine, Medium, Port
from linuxkit_rules.run.qemu import Qemu

pytestmark = pytest.mark.boot
Build = Callable[..., Path]

REDIS = 6379
HTTP = 80
PROMPT = r"\(getty\) \S+ # "
# The power button is watched, and every service is started, once init has said this.
UP = Await(r"^(.*# )?init: up after [\d.]+ s$")
REDIS_ANSWERS: tuple[Step, ...] = (
    Exchange(REDIS, b"PING\r\n", rb"^\+PONG\r\n"),
    Exchange(REDIS, b"*3\r\n$3\r\nSET\r\n$4\r\nname\r\n$7\r\nredisos\r\n", rb"^\+OK\r\n"),
    Exchange(REDIS, b"*2\r\n$3\r\nGET\r\n$4\r\nname\r\n", rb"^\$7\r\nredisos\r\n"),
    UP,
)


def redis_answers(medium: Medium, qemu: Qemu, firmware: Firmware = Firmware.BIOS) -> Report:
    machine = Machine(medium, memory=512, firmware=firmware, ports=(Port(0, REDIS),))
    return boot(machine, qemu, BootTest(REDIS_ANSWERS))


@pytest.mark.parametrize("firmware", list(Firmware), ids=lambda firmware: firmware.value)
@pytest.mark.parametrize("drive", ["cd", "usb", "virtio"])
def test_the_iso_is_a_redis_server(artefact: Build, qemu: Qemu, drive: str, firmware: Firmware) -> None:
    iso = artefact("redisos.iso")
    media: dict[str, Medium] = {"cd": Cd(iso), "usb": Disk(iso, bus="usb"), "virtio": Disk(iso)}
    redis_answers(media[drive], qemu, firmware)


def test_kernel_and_initrd_are_the_same_server(artefact: Build, qemu: Qemu) -> None:
    kernel = artefact("redisos-kernel", "redisos-initrd.img", "redisos-cmdline")
    redis_answers(find(str(kernel)).medium, qemu)


def test_the_classic_serves_pages_and_lists_its_containers(artefact: Build, qemu: Qemu) -> None:
    medium = find(str(artefact("linuxkit-kernel", "linuxkit-initrd.img", "linuxkit-cmdline"))).medium
    steps = (
        Exchange(HTTP, b"GET / HTTP/1.0\r\n\r\n", rb"^HTTP/1\.[01] 200 OK\r\n.*nginx is running"),
        UP,
        Type("\n"),
        Await(PROMPT),
        Type("ctr -n services.linuxkit task ls\n"),
        Await(rf"(?s)TASK +PID +STATUS.*?{PROMPT}"),
    )
    report = boot(Machine(medium, ports=(Port(0, HTTP),)), qemu, BootTest(steps))
    rows = [line.split() for line in report.answers[-1].splitlines() if line.count(" ") > 2]
    states = {row[0]: row[2] for row in rows if len(row) == 3 and row[1].isdigit()}
    assert states == {"getty": "RUNNING", "nginx": "RUNNING", "rngd": "RUNNING"}
