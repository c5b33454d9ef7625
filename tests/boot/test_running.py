"""Running machines, with a guest of one boot sector: QEMU, console, monitor, terminal."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxkit_rules.errors import RunError
from linuxkit_rules.run.accelerator import WORD, boot_sector, probe, says_word
from linuxkit_rules.run.boot import Await, BootTest, Exchange, Type, boot
from linuxkit_rules.run.machine import Disk, Firmware, Machine, Port
from linuxkit_rules.run.qemu import Qemu
from linuxkit_rules.run.running import Running, start

pytestmark = pytest.mark.boot
SOON = 60.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probe") / "a,b.img"
    path.write_bytes(boot_sector())
    return path


@pytest.mark.parametrize("bus", ["virtio", "usb"])
def test_a_guest_boots_echoes_and_powers_off_by_the_button(disk: Path, qemu: Qemu, bus: str) -> None:
    machine = Machine(Disk(disk, bus="usb" if bus == "usb" else "virtio"), memory=64)
    report = boot(machine, qemu, BootTest((Await(WORD), Type("hello"), Await("hel+o")), SOON))
    assert report.answers == (WORD, "", "hello")
    assert report.console.endswith(f"{WORD}\nhello")


def test_the_medium_is_not_written_to(disk: Path, qemu: Qemu) -> None:
    boot(Machine(Disk(disk), memory=64), qemu, BootTest((Await(WORD),), SOON))
    assert disk.read_bytes() == boot_sector()


def test_what_does_not_come_is_told_with_the_console(disk: Path, qemu: Qemu) -> None:
    with pytest.raises(RunError, match=rf"not enough for 'login:' on the console\n(.*\n)*  \| {WORD}"):
        boot(Machine(Disk(disk), memory=64), qemu, BootTest((Await(WORD), Await("login:")), 1))


def test_a_guest_that_does_not_power_off_is_told(tmp_path: Path, qemu: Qemu) -> None:
    (tmp_path / "halt.img").write_bytes(
        (bytes.fromhex("f4ebfd").ljust(510, b"\0") + b"\x55\xaa").ljust(4 << 20, b"\0")
    )
    with pytest.raises(RunError, match="the guest has not powered off in 1 seconds"):
        boot(Machine(Disk(tmp_path / "halt.img"), memory=64), qemu, BootTest((), 1))


def test_a_machine_that_is_stopped_has_not_powered_off(disk: Path, qemu: Qemu) -> None:
    with start(Machine(Disk(disk), memory=64), qemu) as running:
        running.console.expect(WORD, SOON)
        running.monitor.execute("quit")
        assert running.wait(SOON) == "host-qmp-quit"


def test_nothing_is_left_behind(disk: Path, qemu: Qemu) -> None:
    with pytest.raises(ZeroDivisionError), start(Machine(Disk(disk), memory=64), qemu) as running:
        raise ZeroDivisionError
    assert running.process.returncode == -signal.SIGKILL


def test_the_host_chooses_a_free_port(disk: Path, qemu: Qemu) -> None:
    with start(Machine(Disk(disk), memory=64, ports=(Port(0, 6379), Port(0, 80))), qemu) as running:
        ports = {running.port(6379), running.port(80)}
        assert len(ports) == 2
        assert all(port > 0 for port in ports)
        with pytest.raises(RunError, match="port 443/tcp of the machine is not published"):
            running.port(443)


def test_a_port_where_nobody_listens(disk: Path, qemu: Qemu) -> None:
    machine = Machine(Disk(disk), memory=64, ports=(Port(0, 80),))
    with pytest.raises(RunError, match="port 80 did not answer"):
        boot(machine, qemu, BootTest((Await(WORD), Exchange(80, b"x", b"y")), 1))


def test_a_port_that_is_taken(disk: Path, qemu: Qemu) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        machine = Machine(Disk(disk), ports=(Port(server.getsockname()[1], 80),))
        with pytest.raises(RunError, match=r"QEMU does not start: .*host forwarding"), start(machine, qemu):
            pass


def test_a_medium_that_is_not_there(qemu: Qemu) -> None:
    with (
        pytest.raises(RunError, match=r"QEMU does not start: .*none\.img"),
        start(Machine(Disk(Path("none.img"))), qemu),
    ):
        pass


def test_a_program_that_is_not_there(disk: Path) -> None:
    with (
        pytest.raises(RunError, match="QEMU does not start: /none/qemu: No such file"),
        start(Machine(Disk(disk)), Qemu(("/none/qemu",))),
    ):
        pass


def test_uefi_firmware_looks_at_the_medium(disk: Path, qemu: Qemu) -> None:
    with start(Machine(Disk(disk), firmware=Firmware.UEFI), qemu) as running:
        running.console.expect(r"BdsDxe: failed to load Boot0001 \"UEFI Misc Device\"", SOON * 4)


def test_the_probe_tells_what_works(qemu: Qemu) -> None:
    assert says_word(qemu, "tcg", SOON)
    assert not says_word(qemu, "none-such", SOON)
    assert probe(qemu, "arm64") == "tcg"


class Player:
    """A user at a terminal in which a machine runs."""

    SCRIPT = """\
import json, sys
from pathlib import Path
from linuxkit_rules.run.qemu import Qemu, Uefi
from linuxkit_rules.run.terminal import RunOptions, run
program, data, modules, name = json.loads(sys.argv[1])
qemu = Qemu(tuple(program), tuple(map(Path, data)), Path(modules) if modules else None)
sys.exit(run(RunOptions(name, memory=64), qemu))
"""

    def __init__(self, qemu: Qemu, disk: Path) -> None:
        self.terminal, theirs = pty.openpty()
        self.modes = termios.tcgetattr(self.terminal)
        modules = str(qemu.modules) if qemu.modules else None
        argument = json.dumps([list(qemu.program), [str(path) for path in qemu.data], modules, str(disk)])
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, argument], stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.seen = b""

    def see(self, wanted: bytes) -> None:
        while wanted not in self.seen:
            assert select.select([self.terminal], [], [], SOON)[0], self.seen
            self.seen += os.read(self.terminal, 4096)
        self.seen = self.seen.partition(wanted)[2]

    def type(self, keys: bytes) -> None:
        os.write(self.terminal, keys)


@pytest.fixture
def player(qemu: Qemu, disk: Path) -> Iterator[Player]:
    player = Player(qemu, disk)
    yield player
    player.process.kill()
    player.process.wait()
    os.close(player.terminal)


def test_the_console_in_a_terminal_and_ctrl_c(player: Player) -> None:
    player.see(WORD.encode())
    player.type(b"Q")
    player.see(b"Q")
    player.type(b"\x01c!")
    player.see(b"\x03!")
    player.type(b"\x03")
    player.see(b"powering off")
    assert player.process.wait(SOON) == 0
    assert termios.tcgetattr(player.terminal) == player.modes


def test_leaving_a_terminal_at_once(player: Player) -> None:
    player.see(WORD.encode())
    player.type(b"\x01x")
    assert player.process.wait(SOON) == 130
    assert termios.tcgetattr(player.terminal) == player.modes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_powers_off(player: Player, number: int) -> None:
    player.see(WORD.encode())
    player.process.send_signal(number)
    player.see(b"powering off")
    assert player.process.wait(SOON) == 0


def test_a_machine_does_not_outlive_its_thread(disk: Path, qemu: Qemu) -> None:
    machine = Machine(Disk(disk), memory=64)
    context = start(machine, qemu)
    started: list[Running] = []
    thread = threading.Thread(target=lambda: started.append(context.__enter__()))
    thread.start()
    thread.join()
    assert started[0].process.wait(SOON) == -signal.SIGKILL
    context.__exit__(None, None, None)
