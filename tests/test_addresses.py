"""Who may send us where: kinds of addresses, and the rule on connections.

Tests reach no public address, so names get addresses from a table, and every connection leads to loopback.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import NetworkError
from linuxkit_rules.oci.addresses import Kind, kind, less_trusted, literal, may_send
from linuxkit_rules.oci.dial import Dialer, Proxies
from linuxkit_rules.stages.stage import Engine
from tests.images import Blobs
from tests.servers.fixed import Answer, Fixed
from tests.servers.pulling import LOWER, engine_in, layers_of, pull

KINDS = {
    Kind.LOOPBACK: ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"],
    Kind.PRIVATE: [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.2.1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "::ffff:10.0.0.1",
        "2002:a00:1::",
        "64:ff9b:1::1",
    ],
    Kind.LINK_LOCAL: ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254"],
    Kind.UNUSABLE: [
        "0.0.0.0",  # noqa: S104 - an address to judge
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "ff02::1",
        "::ffff:0.0.0.0",
        "::127.0.0.1",
    ],
    Kind.PUBLIC: [
        "93.184.215.14",
        "8.8.8.8",
        "172.32.0.1",
        "2606:4700::1",
        "64:ff9b::808:808",
        "2002:808:808::",
    ],
}


@pytest.mark.parametrize("expected", KINDS)
def test_kinds(expected: Kind) -> None:
    assert {text: kind(text) for text in KINDS[expected]} == dict.fromkeys(KINDS[expected], expected)


def test_hosts_that_are_addresses() -> None:
    assert literal("localhost") is literal("a.localhost") is literal("[::1]") is Kind.LOOPBACK
    assert literal("registry.test") is literal("10.0.0") is literal("") is None


def test_who_may_send_where() -> None:
    allowed = {(source.value, target.value) for source in Kind for target in Kind if may_send(source, target)}
    assert allowed == {
        ("loopback", "loopback"),
        ("loopback", "private"),
        ("private", "private"),
        ("link-local", "link-local"),
        *((source.value, "public") for source in Kind),
    }


def test_a_chain_is_as_trusted_as_its_worst_link() -> None:
    assert less_trusted(None, Kind.LOOPBACK) is Kind.LOOPBACK
    assert less_trusted(Kind.LOOPBACK, Kind.PUBLIC) is Kind.PUBLIC
    assert less_trusted(Kind.PUBLIC, Kind.LOOPBACK) is Kind.PUBLIC


class Table(Dialer):
    """Names with addresses; every connection to one of them leads to the same port on loopback."""

    def __init__(self, names: Mapping[str, list[str]]) -> None:
        self.names = names
        self.connected: list[str] = []

    def addresses(self, host: str, port: int) -> list[str]:
        return self.names.get(host, [host])

    def connect(self, address: str, port: int, timeout: Any) -> socket.socket:
        self.connected.append(address)
        return super().connect("127.0.0.1", port, timeout)


NAMES = {
    "public.test": ["93.184.215.14"],
    "other-public.test": ["2606:4700::1"],
    "private.test": ["10.0.0.1"],
    "other-private.test": ["192.168.0.1"],
    "metadata.test": ["169.254.169.254"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "both.test": ["127.0.0.1", "93.184.215.15"],
    "here.test": ["127.0.0.1"],
}


@pytest.fixture
def image(fixed: Fixed) -> tuple[Blobs, Digest]:
    blobs = Blobs()
    top = blobs.image([LOWER])
    fixed.serve(blobs, top)
    return blobs, layers_of(blobs, top)[0].digest


def engine_of(folder: Path, table: Table, **access: Any) -> Engine:
    return engine_in(folder, dialer=table, plain_http=tuple(table.names), **access)


def redirected(fixed: Fixed, image: tuple[Blobs, Digest], folder: Path, source: str, target: str) -> Table:
    """Pull from ``source``, which sends us for the layer to ``target``."""
    blobs, layer = image
    port = fixed.host.rpartition(":")[2]
    fixed.answers["/blob"] = (200, {}, blobs.data[layer])
    fixed.answers[f"/v2/a/b/blobs/{layer}"] = (307, {"Location": f"http://{target}:{port}/blob"}, b"")
    table = Table(NAMES)
    assert pull(engine_of(folder, table), f"{source}:{port}/a/b:1") == [LOWER]
    return table


@pytest.mark.parametrize(
    ("source", "target", "address"),
    [
        ("public.test", "other-public.test", "2606:4700::1"),
        ("public.test", "both.test", "93.184.215.15"),
        ("private.test", "other-private.test", "192.168.0.1"),
        ("private.test", "public.test", "93.184.215.14"),
        ("here.test", "private.test", "10.0.0.1"),
        ("here.test", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_redirects_that_are_followed(
    fixed: Fixed, image: tuple[Blobs, Digest], tmp_path: Path, source: str, target: str, address: str
) -> None:
    assert redirected(fixed, image, tmp_path, source, target).connected[-1] == address


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("public.test", "private.test"),
        ("public.test", "here.test"),
        ("public.test", "127.0.0.1"),
        ("public.test", "metadata.test"),
        ("public.test", "mapped.test"),
        ("public.test", "[::1]"),
        ("private.test", "here.test"),
        ("private.test", "metadata.test"),
        ("here.test", "metadata.test"),
    ],
)
def test_redirects_that_are_refused(
    fixed: Fixed, image: tuple[Blobs, Digest], tmp_path: Path, source: str, target: str
) -> None:
    with pytest.raises(NetworkError, match="sends us to .*: that is refused"):
        redirected(fixed, image, tmp_path, source, target)
    assert "/blob" not in fixed.paths()


def test_a_refused_place_is_not_even_connected_to(
    fixed: Fixed, image: tuple[Blobs, Digest], tmp_path: Path
) -> None:
    _, layer = image
    port = fixed.host.rpartition(":")[2]
    fixed.answers[f"/v2/a/b/blobs/{layer}"] = (307, {"Location": f"http://private.test:{port}/blob"}, b"")
    table = Table(NAMES)
    with pytest.raises(NetworkError, match="public address sends us to private.test, which is at 10.0.0.1"):
        pull(engine_of(tmp_path, table), f"public.test:{port}/a/b:1")
    assert set(table.connected) == {"93.184.215.14"}


def test_a_connection_of_another_s_is_not_lent(
    fixed: Fixed, image: tuple[Blobs, Digest], tmp_path: Path
) -> None:
    """The user asks the private registry; a public one that sends us there gets no open connection of it."""
    port = fixed.host.rpartition(":")[2]
    engine = engine_of(tmp_path, Table(NAMES))
    for path, (status, headers, body) in list(fixed.answers.items()):
        fixed.answers[path] = (status, {**headers, "Connection": "keep-alive"}, body)
    pull(engine, f"private.test:{port}/a/b:1")
    fixed.answers["/v2/c/d/manifests/1"] = (307, {"Location": f"http://private.test:{port}/blob"}, b"")
    with pytest.raises(NetworkError, match="refused"):
        pull(engine, f"public.test:{port}/c/d:1")
    assert "/blob" not in fixed.paths()


def test_a_name_is_looked_up_once_for_a_connection(
    fixed: Fixed, image: tuple[Blobs, Digest], tmp_path: Path
) -> None:
    """A name server that answers otherwise the second time (DNS rebinding) gets no second time."""
    blobs, layer = image
    port = fixed.host.rpartition(":")[2]

    class Rebinding(Table):
        def addresses(self, host: str, port: int) -> list[str]:
            found = super().addresses(host, port)
            if host == "rebinding.test":
                self.names = {**self.names, host: ["127.0.0.1"]}
            return found

    table = Rebinding({**NAMES, "rebinding.test": ["93.184.215.16"]})
    fixed.answers["/blob"] = (200, {}, blobs.data[layer])
    target = f"http://rebinding.test:{port}/blob"
    fixed.answers[f"/v2/a/b/blobs/{layer}"] = (307, {"Location": target}, b"")
    engine = engine_of(tmp_path, table)
    assert pull(engine, f"public.test:{port}/a/b:1") == [LOWER]
    assert table.connected[-1] == "93.184.215.16"
    with pytest.raises(NetworkError, match="refused"):
        pull(engine_of(tmp_path / "again", table), f"public.test:{port}/a/b:1")


@pytest.mark.parametrize(("target", "good"), [("other-public.test", True), ("here.test", False)])
def test_token_servers_are_judged_too(
    fixed: Fixed, image: tuple[Blobs, Digest], tmp_path: Path, target: str, good: bool
) -> None:
    port = fixed.host.rpartition(":")[2]

    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        if path.startswith("/token"):
            return 200, {}, b'{"token": "t0k"}'
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{target}:{port}/token"'}
        return None if headers.get("Authorization") == "Bearer t0k" else (401, challenge, b"")

    fixed.hook = hook
    engine = engine_of(tmp_path, Table(NAMES))
    if good:
        assert pull(engine, f"public.test:{port}/a/b:1") == [LOWER]
        return
    with pytest.raises(NetworkError, match="refused"):
        pull(engine, f"public.test:{port}/a/b:1")
    assert fixed.paths("/token") == []


@pytest.mark.parametrize(
    ("url", "bypass", "proxy"),
    [
        ("http://a.test/", "", "http://plain"),
        ("https://a.test/", "", "http://secure"),
        ("https://localhost:5000/", "", ""),
        ("https://127.0.0.1/", "", ""),
        ("https://[::1]/", "", ""),
        ("https://a.test/", "*", ""),
        ("https://a.test/", "b.test, a.test", ""),
        ("https://x.a.test/", ".a.test", ""),
        ("https://x.a.test/", "*.a.test", ""),
        ("https://xa.test/", "a.test", "http://secure"),
        ("https://a.test:5000/", "a.test:5000", ""),
        ("https://a.test:5001/", "a.test:5000", "http://secure"),
        ("https://10.1.2.3/", "10.0.0.0/8", ""),
        ("https://11.1.2.3/", "10.0.0.0/8", "http://secure"),
        ("https://10.1.2.3/", "10.1.2.3", ""),
    ],
)
def test_proxies(url: str, bypass: str, proxy: str) -> None:
    assert Proxies("http://plain", "http://secure", bypass).of(url) == proxy


def test_behind_a_proxy_addresses_are_judged_all_the_same(
    fixed: Fixed, image: tuple[Blobs, Digest], tmp_path: Path
) -> None:
    """Here the fixed server is the proxy of everything; the registry's address is not known to us."""
    _, layer = image
    for path, answer in list(fixed.answers.items()):
        fixed.answers[f"http://public.test{path}"] = answer
    away = {"Location": "http://169.254.169.254/latest/meta-data"}
    fixed.answers[f"http://public.test/v2/a/b/blobs/{layer}"] = (307, away, b"")
    proxies = Proxies(http=f"http://{fixed.host}")
    engine = engine_in(tmp_path, plain_http=("public.test", "169.254.169.254"), proxies=proxies)
    with pytest.raises(NetworkError, match="sends us to 169.254.169.254"):
        pull(engine, "public.test/a/b:1")
    assert len(fixed.asked) == 3


def test_a_server_that_does_not_listen_is_passed_over(fixed: Fixed, tmp_path: Path) -> None:
    """Of several addresses the first that answers is taken, as every client does."""
    blobs = Blobs()
    top: Descriptor = blobs.image([LOWER])
    port = fixed.host.rpartition(":")[2]

    class Half(Table):
        def connect(self, address: str, port: int, timeout: Any) -> socket.socket:
            if address == "10.0.0.9":
                self.connected.append(address)
                raise ConnectionRefusedError
            return super().connect(address, port, timeout)

    table = Half({"half.test": ["10.0.0.9", "10.0.0.1"]})
    fixed.serve(blobs, top)
    assert pull(engine_of(tmp_path, table), f"half.test:{port}/a/b:1") == [LOWER]
    assert table.connected[:2] == ["10.0.0.9", "10.0.0.1"]
