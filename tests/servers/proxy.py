"""A proxy in front of a registry that errs on request: it cuts, corrupts, redirects, drips, and so on.

It is a plain HTTP server, a forward proxy for http (absolute addresses), and one for https (CONNECT), which
leads everywhere to the same upstream.
"""

import contextlib
import http.client
import http.server
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

from tests.servers.processes import serving


@dataclass
class Exchange:
    """A request and its answer, for a fault to change; the body ends after ``cut`` bytes."""

    path: str
    request: dict[str, str]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    hold: threading.Event | None = None


Fault = Callable[[Exchange], None]


@dataclass
class FaultProxy:
    """``inject`` plans a fault for the next requests whose path holds a text."""

    upstream: str
    host: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    injected: int = 0
    connections: int = 0
    planned: list[tuple[str, Fault, Fault | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def inject(self, part: str, fault: Fault, times: int = 1, *, before: Fault | None = None) -> None:
        """Plan ``fault`` (which changes the answer) or ``before`` (the request) for ``times`` requests."""
        self.planned += [(part, fault, before)] * times

    def take(self, path: str) -> tuple[Fault, Fault | None] | None:
        with self.lock:
            for item in self.planned:
                if item[0] in path:
                    self.planned.remove(item)
                    self.injected += 1
                    return item[1], item[2]
        return None

    def ranges(self, part: str = "/blobs/") -> list[str]:
        """The headers Range of the requests that had one."""
        return [headers["Range"] for path, headers in self.asked if part in path and "Range" in headers]

    def count(self, part: str) -> int:
        return sum(part in path for path, _ in self.asked)


def nothing(exchange: Exchange) -> None:
    pass


def cut(after: int) -> Fault:
    """End the connection after some bytes of the body."""

    def change(exchange: Exchange) -> None:
        exchange.cut = after

    return change


def silent(after: int, until: threading.Event) -> Fault:
    """Send nothing more after some bytes of the body, with the connection open."""

    def change(exchange: Exchange) -> None:
        exchange.cut, exchange.hold = after, until

    return change


def corrupt(at: int) -> Fault:
    """Turn one byte of the body over."""

    def change(exchange: Exchange) -> None:
        body = bytearray(exchange.body)
        body[at] ^= 0xFF
        exchange.body = bytes(body)

    return change


def status(number: int, **headers: str) -> Fault:
    """Answer with a status, and nothing in the body."""

    def change(exchange: Exchange) -> None:
        exchange.status, exchange.body = number, b""
        exchange.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return change


def header(name: str, value: str) -> Fault:
    """Answer as is, but for one header (Content-Length too)."""

    def change(exchange: Exchange) -> None:
        exchange.headers[name] = value

    return change


def page(exchange: Exchange) -> None:
    """Answer as a network does that wants a login in a browser."""
    exchange.status, exchange.body = 200, b"<html>"
    exchange.headers = {"Content-Type": "text/html"}


def without_range(exchange: Exchange) -> None:
    """Forget that a part was asked for."""
    exchange.request.pop("Range", None)


@contextlib.contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy before ``upstream`` (``host:port``)."""
    proxy = FaultProxy(upstream)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"

        def handle(self) -> None:
            with proxy.lock:
                proxy.connections += 1
            super().handle()

        def do_GET(self) -> None:
            proxy.asked.append((self.path, dict(self.headers)))
            parts = urlsplit(self.path)
            exchange = Exchange(parts.path + (f"?{parts.query}" if parts.query else ""), dict(self.headers))
            fault, before = proxy.take(self.path) or (nothing, None)
            if before:
                before(exchange)
            self._ask(exchange)
            fault(exchange)
            self._answer(exchange)

        def _ask(self, exchange: Exchange) -> None:
            connection = http.client.HTTPConnection(proxy.upstream, timeout=60)
            connection.request("GET", exchange.path, headers=exchange.request)
            answer = connection.getresponse()
            exchange.status, exchange.body = answer.status, answer.read()
            exchange.headers = dict(answer.getheaders())
            exchange.headers.pop("Transfer-Encoding", None)
            exchange.headers["Content-Length"] = str(len(exchange.body))
            connection.close()

        def _answer(self, exchange: Exchange) -> None:
            self.send_response(exchange.status)
            exchange.headers.setdefault("Content-Length", str(len(exchange.body)))
            for name, value in exchange.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(exchange.body[: exchange.cut])
            self.wfile.flush()
            if exchange.hold:
                exchange.hold.wait(60)
            if exchange.cut is not None or int(exchange.headers["Content-Length"]) != len(exchange.body):
                self.close_connection = True

        def do_CONNECT(self) -> None:
            proxy.asked.append((self.path, dict(self.headers)))
            self.send_response(200)
            self.end_headers()
            with socket.create_connection(tuple(proxy.upstream.split(":"))) as other:
                _relay(self.connection, other)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as server:
        proxy.host = f"127.0.0.1:{server.server_port}"
        yield proxy


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Copy both ways until one side is done."""
    while True:
        ready, _, _ = select.select([one, other], [], [])
        for source in ready:
            data = source.recv(1 << 16)
            if not data:
                return
            (other if source is one else one).sendall(data)
