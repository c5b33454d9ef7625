"""The examples boot, under each firmware and from each medium, and do what they are for."""

import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
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


def test_the_iso_for_uefi_alone(artefact: Build, qemu: Qemu) -> None:
    redis_answers(Cd(artefact("redisos-efi.iso")), qemu, Firmware.UEFI)


TROUBLE = """\
kernel:
  image: "@pkg:kernel"
  cmdline: "console=tty0 console=ttyS0 linuxkit.onboot_timeout=20 linuxkit.stop_timeout=1"
init:
  - "@pkg:init"
  - "@pkg:runc"
onboot:
  - name: hangs
    image: "@pkg:sysctl"
    command: ["/bin/busybox", "sleep", "1000"]
  - name: fails
    image: "@pkg:sysctl"
    command: ["/bin/busybox", "false"]
  - name: works
    image: "@pkg:sysctl"
    command: ["/bin/busybox", "echo", "this one works"]
  - name: writes
    image: "@pkg:sysctl"
    binds: ["data:/data"]
    command: ["/bin/busybox", "sh", "-c", "echo kept > /data/word"]
  - name: reads
    image: "@pkg:sysctl"
    binds: ["data:/data:ro", "tools:/tools:ro"]
    command: [/bin/busybox, sh, -c, "cat /data/word; echo /tools/bin/b*; touch /data/x || echo cannot write"]
volumes:
  - name: data
  - {name: tools, image: "@pkg:sysctl", readonly: true}
onshutdown:
  - name: last
    image: "@pkg:sysctl"
    command: ["/bin/busybox", "echo", "so long"]
services:
  - {name: zebra, image: "@pkg:dhcpcd", command: ["/bin/busybox", "sleep", "1000"]}
  - {name: ape, image: "@pkg:dhcpcd", command: ["/bin/busybox", "sleep", "1000"]}
  - {name: mole, image: "@pkg:dhcpcd", command: ["/bin/busybox", "sleep", "1000"]}
"""


def test_trouble_on_boot_and_the_order_of_the_end(qemu: Qemu, tmp_path: Path) -> None:
    """Under runc: a container that hangs, one that fails; volumes; stopping in reverse order; last words."""
    (tmp_path / "trouble.yml").write_text(TROUBLE)
    line = [
        sys.executable,
        "-m",
        "linuxkit_rules",
        "build",
        "--arch=amd64",
        "--format=iso-bios",
        "trouble.yml",
    ]
    subprocess.run(line, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    console = boot(Machine(Cd(tmp_path / "trouble.iso"), memory=512), qemu, BootTest((UP,))).console
    assert re.search(r"000-hangs.* 20 s", console)
    assert re.search(r"001-fails.*status 1", console)
    assert "this one works" in console
    assert re.search(r"reads: kept\n(.*\n)*?.*/tools/bin/busybox.*\n(.*\n)*?.*cannot write", console)
    started = re.findall(r"service: starting (\w+)", console)
    assert sorted(started) == ["ape", "mole", "zebra"]
    assert re.findall(r"service: stopping (\w+)", console) == started[::-1]
    assert console.index("so long") > console.rindex("service: stopping")


def test_moby_run_in_a_terminal(artefact: Build) -> None:
    """What a user does: boot by name, ask the published port, press Ctrl-C."""
    iso = artefact("redisos.iso")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    master, slave = pty.openpty()
    line = [
        sys.executable,
        "-m",
        "linuxkit_rules",
        "run",
        "redisos",
        "--mem=512",
        f"--publish={port}:{REDIS}",
    ]
    process = subprocess.Popen(
        line, cwd=iso.parents[1], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        seen = wait_for(master, b"init: up after")
        assert any(ask(port) == b"+PONG\r\n" or process.poll() for _ in range(200))
        os.write(master, b"\x03")
        seen += wait_for(master, b"Power down")
        assert process.wait(60) == 0
        assert b"powering off" in seen
    finally:
        process.kill()
        process.wait()


def ask(port: int) -> bytes:
    """Send PING; what came, or nothing: QEMU takes a connection before the guest's server is there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100)
    except OSError:
        time.sleep(0.05)
        return b""


def wait_for(terminal: int, words: bytes) -> bytes:
    """Read the terminal until it shows ``words``; what it showed."""
    seen = b""
    deadline = time.monotonic() + 240
    while words not in seen:
        assert time.monotonic() < deadline, seen[-2000:]
        if select.select([terminal], [], [], 5)[0]:
            seen += os.read(terminal, 4096)
    return seen
