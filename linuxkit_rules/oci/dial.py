"""Connections: names to addresses, addresses to sockets, and the rule who may send us where.

A name is resolved once for each connection, and the address that was judged is the one that is connected to:
between check and use there is no second look-up that a hostile name server could answer otherwise.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from linuxkit_rules.errors import NetworkError
from linuxkit_rules.oci.addresses import Kind, kind, literal, may_send
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    import ssl

    from requests.adapters import HTTPAdapter

CONNECTIONS = 8
"""Connections to one host at once; further requests wait for one of them."""

Dial = Callable[[str, int, Any], socket.socket]
"""Opens a connection to a host and port within a time-out."""


class Dialer:
    """How names are resolved and sockets made; tests give another."""

    def addresses(self, host: str, port: int) -> list[str]:
        """Give the addresses of ``host``, in the order to try; raise OSError where there are none."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(item[4][0]) for item in found))

    def connect(self, address: str, port: int, timeout: Any) -> socket.socket:
        """Give a connected socket; raise OSError where nothing answers."""
        return socket.create_connection((address, port), timeout)


def dial(
    dialer: Dialer, host: str, port: int, timeout: Any, sender: Kind | None
) -> tuple[socket.socket, Kind]:
    """Connect to a host; give the socket and what kind of address it leads to.

    ``sender`` is the kind of the server that sent us there, None where the user named the place.  Raises
    NetworkError where it may not, OSError where nobody answers.
    """
    found = dialer.addresses(host.strip("[]"), port)
    allowed = [address for address in found if sender is None or may_send(sender, kind(address))]
    if not allowed:
        raise refused(host, ", ".join(found), sender)
    for address in allowed[:-1]:
        try:
            return dialer.connect(address, port, timeout), kind(address)
        except OSError:
            continue
    return dialer.connect(allowed[-1], port, timeout), kind(allowed[-1])


def refused(host: str, address: str, sender: Kind | None) -> NetworkError:
    """Give the error for a place where we may not be sent."""
    word = sender.value if sender else ""
    return NetworkError(
        f"a server at a {word} address sends us to {host}, which is at {address}: that is refused",
        hint="only a registry in the same kind of network may do that",
    )


@dataclass(frozen=True, slots=True)
class Proxies:
    """Addresses of the proxies for http and https, and the hosts that need none, as NO_PROXY lists them."""

    http: str = ""
    https: str = ""
    bypass: str = ""

    def of(self, url: str) -> str:
        """Give the proxy for ``url``, ``""`` for none.  Loopback never has one."""
        parts = urlsplit(url)
        proxy = {"http": self.http, "https": self.https}.get(parts.scheme, "")
        host = parts.hostname or ""
        if not proxy or literal(host) is Kind.LOOPBACK:
            return ""
        items = (item.strip().lower() for item in self.bypass.split(","))
        return "" if any(_bypasses(item, host, parts.port) for item in items if item) else proxy


def _bypasses(item: str, host: str, port: int | None) -> bool:
    """Whether an item of NO_PROXY means a host: ``*``, a network, or a domain and all below it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(item, strict=False)
    name, colon, number = item.rpartition(":")
    if colon and number.isdigit():
        if port is None or int(number) != port:
            return False
        item = name
    domain = item.lstrip("*").lstrip(".").strip("[]")
    return not domain or host == domain or host.endswith(f".{domain}")


def adapter(open_socket: Dial, context: Callable[[], ssl.SSLContext]) -> HTTPAdapter:
    """Give what connects requests' sessions: by ``open_socket``, trusting what the context trusts."""
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return open_socket(self.host, self.port, self.timeout)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return open_socket(self.host, self.port, self.timeout)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:
            super().init_poolmanager(*arguments, **settings, ssl_context=context())
            self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

        def proxy_manager_for(self, proxy: str, **settings: Any) -> Any:
            return super().proxy_manager_for(proxy, **settings, ssl_context=context())

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            """Leave the context's trust as it is: requests would add its own bundle."""
            conn.cert_reqs = "CERT_REQUIRED"

    return Adapter(pool_connections=32, pool_maxsize=CONNECTIONS, pool_block=True)
