"""What this machine's user says of networks, as one value."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from urllib.parse import urlsplit

from linuxkit_rules.oci.addresses import Kind, literal
from linuxkit_rules.oci.dial import Dialer, Proxies
from linuxkit_rules.oci.retry import Pauses
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class Network:
    """What this machine's user says of networks.

    ``plain_http`` names the registries (``host`` or ``host:port``) that may be asked without TLS; loopback
    always may.  Certificates are verified with the bundle ``trust``, None for certifi's, and ``ca_files``
    beside it.  A connection may take ``connect_seconds``, and ``read_seconds`` pass without a byte; ``clock``
    counts them.
    """

    plain_http: tuple[str, ...] = ()
    trust: Path | None = None
    ca_files: tuple[Path, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    dialer: Dialer = field(default_factory=Dialer)
    pauses: Pauses = field(default_factory=Pauses)
    clock: Callable[[], float] = time.monotonic
    connect_seconds: float = 10
    read_seconds: float = 60

    def may_be_plain(self, place: str) -> bool:
        """Whether ``host`` or ``host:port`` may be asked over plain HTTP: loopback, or told by name."""
        host = urlsplit(f"//{place}").hostname or ""
        named = place in self.plain_http or host in self.plain_http
        return named or host == "localhost" or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    return host != "localhost" and not host.endswith(".localhost") and literal(host) is Kind.LOOPBACK
