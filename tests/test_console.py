"""The console: text out of a real socket, found by pattern."""

import socket
import threading
from collections.abc import Iterator

import pytest

from linuxkit_rules.errors import RunError
from linuxkit_rules.run.console import Console

SOON = 20.0


@pytest.fixture
def ends() -> Iterator[tuple[Console, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        console = Console(ours)
        yield console, theirs
        theirs.close()
        console.join(SOON)


def test_a_pattern_is_awaited(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    timer = threading.Timer(0.05, machine.sendall, [b"booting\r\nlogin: "])
    timer.start()
    assert console.expect(r"^log(.*): ", SOON)[1] == "in"
    timer.join()


def test_each_match_is_after_the_last(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    machine.sendall(b"a=1\na=2\n")
    assert console.expect(r"a=(\d)", SOON)[1] == "1"
    assert console.expect(r"a=(\d)", SOON)[1] == "2"
    with pytest.raises(RunError, match="were not enough for"):
        console.expect(r"a=(\d)", 0.05)


def test_control_sequences_and_characters_are_left_out_wherever_they_are_cut(
    ends: tuple[Console, socket.socket],
) -> None:
    console, machine = ends
    for byte in "\x1b[2J\x1b[01;01Hgr\x1b[1;32müezi\x1b[0m\r\nend\n".encode():
        machine.sendall(bytes([byte]))
    console.expect("end", SOON)
    assert console.text == "grüezi\nend\n"


def test_bytes_that_are_no_text_do_no_harm(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    machine.sendall(b"\xff\xfeok\n")
    assert console.expect("ok", SOON)


def test_a_machine_that_ends_is_told_at_once_with_its_last_words(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    machine.sendall(b"Kernel panic\n")
    machine.close()
    with pytest.raises(RunError, match=r"the machine ended before 'login' on the console\n  \| Kernel panic"):
        console.expect("login", 3600)


def test_typing(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    console.send("poweroff\n")
    assert machine.recv(100) == b"poweroff\n"


def test_typing_into_nothing(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    machine.close()
    with pytest.raises(RunError, match="the console is closed"):
        console.send("x")


def test_the_tail_is_short(ends: tuple[Console, socket.socket]) -> None:
    console, machine = ends
    machine.sendall(b"".join(b"%d\n" % number for number in range(100)))
    console.expect("^99$", SOON)
    assert console.tail(2) == "  | 98\n  | 99"
