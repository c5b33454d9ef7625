"""Remote caches that are down, slow, or lie: the build is the same, and soon asks them no more."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linuxkit_rules.remote import uploads
from linuxkit_rules.remote.action_result import decode, encode
from linuxkit_rules.remote.cache import DOUBTS
from linuxkit_rules.remote.uploads import WORKERS
from linuxkit_rules.store.memory import Result
from tests.caching import Machine, machine
from tests.project import Project
from tests.servers.dav import DavServer, dav_server
from tests.servers.processes import free_port
from tests.servers.sockets import answering

TEXTS = (b"a", b"b", b"c", b"d", b"e")


@pytest.fixture
def dav(tmp_path: Path) -> Iterator[DavServer]:
    with dav_server(tmp_path) as server:
        yield server


def built_anyway(one: Machine, *texts: bytes) -> str:
    """Check that all is built as without a cache, with one warning; give that."""
    for text in texts or TEXTS:
        assert one.read(text) == text.upper()
    assert set(one.events) == {"run"}
    assert len(one.warnings) == 1, one.warnings
    if one.engine.uploads:
        one.finish()
    assert len(one.warnings) == 1
    return one.warnings[0]


def test_dead_server(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    warning = built_anyway(machine(tmp_path, url))
    assert warning.startswith(f"the remote cache {url}: cannot reach {url}/ac/")
    assert warning.endswith("is left alone in this build")


def test_silent_server_costs_one_time_out(tmp_path: Path, count: Callable[..., None]) -> None:
    with answering() as server:
        warning = built_anyway(machine(tmp_path, f"http://{server.host}", seconds=0.2))
        assert len(server.connections) == 1
    assert "timed out" in warning
    count("time-outs of a silent remote cache in a build", 1)


def test_silent_server_costs_a_build_one_time_out(tmp_path: Path) -> None:
    project = Project.make(tmp_path)
    with answering() as server:
        variables = {
            "LINUXKIT_REMOTE_CACHE": f"http://{server.host}",
            "LINUXKIT_REMOTE_CACHE_MODE": "rw",
            "LINUXKIT_REMOTE_CACHE_TIMEOUT": "0.3",
        }
        printed = project.scons("-j1", **variables)
        assert len(server.connections) == 1
    assert printed.count("warning: the remote cache") == 1
    assert "were not sent" not in printed


ENTRY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def test_slow_answers_are_waited_for_so_long_in_all(dav: DavServer, tmp_path: Path) -> None:
    ticks = itertools.count(step=3)
    one = machine(tmp_path, dav.url, write=False, clock=lambda: float(next(ticks)))
    for text in TEXTS:
        one.read(text)
    (warning,) = one.warnings
    assert "is slow: steps have waited 12 seconds for it: it is left alone" in warning
    assert len(dav.asked()) == 4


def test_server_that_falls_silent_in_an_answer(tmp_path: Path) -> None:
    with answering(ENTRY % (300, b"begins"), close=False) as server:
        warning = built_anyway(machine(tmp_path, f"http://{server.host}", seconds=0.2))
        assert len(server.connections) == 1
    assert "timed out" in warning


@pytest.mark.parametrize("status", [500, 502, 403, 418])
def test_status_that_is_no_answer(status: int, tmp_path: Path) -> None:
    with dav_server(tmp_path, f"return {status};") as dav:
        warning = built_anyway(machine(tmp_path / "1", dav.url))
        assert f"answers with status {status}" in warning
        assert len(dav.asked()) == 1


@pytest.mark.parametrize("status", [403, 405, 413, 507])
def test_server_that_takes_nothing_is_still_read(status: int, dav: DavServer, tmp_path: Path) -> None:
    one = machine(tmp_path / "1", dav.url)
    one.read(b"a")
    one.finish()
    (tmp_path / "refusing").mkdir()
    rules = f"if ($request_method = PUT) {{ return {status}; }} root {dav.data};"
    with dav_server(tmp_path / "refusing", rules) as refusing:
        two = machine(tmp_path / "2", refusing.url)
        for text in (b"b", b"c", b"d", b"e"):
            two.read(text)
        two.finish()
        (warning,) = two.warnings
        assert f"answers PUT with status {status}" in warning
        assert warning.endswith("it gets nothing more in this build")
        puts = sum(method == "PUT" for method, _, _ in refusing.asked())
        assert 1 <= puts <= WORKERS
        two.shout(b"f")
        assert two.engine.uploads
        assert two.engine.uploads.waiting == 0
        assert two.read(b"a") == b"A"
        assert two.events == ["run"] * 5 + ["remote"]


def filled(dav: DavServer, folder: Path) -> None:
    one = machine(folder, dav.url)
    for text in TEXTS:
        one.read(text)
    assert one.finish() == 0
    dav.asked()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flipped,
    "short": lambda data: data[:-1],
    "long": lambda data: data + b"x",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_blobs_are_never_used(
    how: str, dav: DavServer, tmp_path: Path, count: Callable[..., None]
) -> None:
    filled(dav, tmp_path / "1")
    for path in dav.files("cas"):
        path.write_bytes(WRONG[how](path.read_bytes()))
    two = machine(tmp_path / "2", dav.url, write=False)
    for text in TEXTS:
        assert two.read_anew(text) == text.upper()
    assert len(two.warnings) == 2
    assert "it is not used" in two.warnings[0]
    assert "is left alone" in two.warnings[1]
    gets = [path for _, path, _ in dav.asked() if "/cas/" in path]
    assert len(gets) == DOUBTS
    count("wrong blobs of remote caches refused", DOUBTS)


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "a page": lambda data: b"<html>log in here</html>",
    "cut": lambda data: data[: len(data) // 2],
    "a bit": lambda data: data[:4] + bytes([data[4] ^ 0x80]) + data[5:],
    "no output": lambda data: encode(decode(data)).replace(b"output", b"utputo"),
    "no digest": lambda data: data.replace(b"text/plain", b"text\nplain"),
    "huge": lambda data: data + b"\0" * (5 << 20),
}


@pytest.mark.parametrize("how", GARBAGE)
def test_results_that_are_none_are_misses(how: str, dav: DavServer, tmp_path: Path) -> None:
    filled(dav, tmp_path / "1")
    for path in dav.files("ac"):
        path.write_bytes(GARBAGE[how](path.read_bytes()))
    two = machine(tmp_path / "2", dav.url, write=False)
    assert [two.read(text) for text in TEXTS] == [text.upper() for text in TEXTS]
    assert set(two.events) == {"run"}
    assert 1 <= len(two.warnings) <= 2
    assert "is left alone" in two.warnings[-1]


def test_blob_that_breaks_off(dav: DavServer, tmp_path: Path) -> None:
    filled(dav, tmp_path / "1")
    entries = {path.name: path.read_bytes() for path in dav.files("ac")}
    probe = machine(tmp_path / "probe", dav.url)
    probe.shout(b"a")
    (path,) = (path for _, path, _ in dav.asked() if path.startswith("/ac/"))
    entry = entries[path.removeprefix("/ac/")]
    cut = ENTRY % (1, b"")
    with answering(ENTRY % (len(entry), entry), cut, MISSING) as server:
        two = machine(tmp_path / "2", f"http://{server.host}", write=False)
        assert two.read_anew(b"a") == b"A"
        assert "broke" in two.warnings[0]
        assert two.events == ["remote", "run"]


def test_connection_that_the_server_has_closed_is_opened_again(tmp_path: Path) -> None:
    rules = "keepalive_requests 1;"
    with dav_server(tmp_path, rules) as dav:
        one = machine(tmp_path / "1", dav.url)
        for text in TEXTS:
            one.read(text)
        assert one.finish() == 0
        assert one.warnings == []
        assert len(dav.files("ac")) == len(TEXTS)


def test_connection_reset_before_an_answer_is_tried_once_more(tmp_path: Path) -> None:
    with answering(b"", MISSING, b"", b"") as server:
        one = machine(tmp_path, f"http://{server.host}", write=False)
        assert one.read(b"a") == b"A"
        assert one.warnings == []
        assert one.read(b"b") == b"B"
        assert len(one.warnings) == 1
        assert one.read(b"c") == b"C"
        assert len(server.connections) == 4


def test_uploads_wait_in_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "QUEUE", 0)
    one = machine(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert one.engine.uploads
    one.engine.uploads.add("0" * 64, Result(one.store.put(b"a")))
    assert one.finish() == 1


def test_uploads_that_are_given_up(tmp_path: Path) -> None:
    with answering(MISSING) as server:
        one = machine(tmp_path, f"http://{server.host}")
        one.read(b"a")  # its result is sent to a server that says nothing
        assert one.engine.uploads
        assert one.engine.uploads.finish(0.1) == 1
        assert one.engine.uploads.drop() == 1
