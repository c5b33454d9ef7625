"""Where a remote executor is, and what it is told of workers: what the user has written, parsed."""

from __future__ import annotations

from urllib.parse import urlsplit

from linuxkit_rules.errors import UsageError, one_line
from linuxkit_rules.oci.network import Network
from linuxkit_rules.remote.action import Properties
from linuxkit_rules.values import dataclass

NAME = "LINUXKIT_REMOTE_EXECUTOR"
_PLATFORM = "LINUXKIT_REMOTE_EXECUTOR_PLATFORM"
_HINT = "grpcs://HOST:PORT, or grpcs://HOST:PORT/INSTANCE"
_SCHEMES = {"grpc": "http", "grpcs": "https"}
"""Schemes, and what the proxies' variables call them."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``host`` is ``host:port``; ``instance`` names a part of the server, ``""`` where it has none."""

    host: str
    secure: bool
    instance: str = ""

    @property
    def url(self) -> str:
        """The address as it is written."""
        instance = f"/{self.instance}" if self.instance else ""
        return f"{'grpcs' if self.secure else 'grpc'}://{self.host}{instance}"

    @property
    def target(self) -> str:
        """The address as gRPC takes it: no name of a host is one of its other schemes, as ``unix`` is."""
        return f"dns:///{self.host}"

    def proxy(self, network: Network) -> str:
        """Give the proxy that leads there, ``""`` for none."""
        return network.proxies.of(f"{_SCHEMES['grpcs' if self.secure else 'grpc']}://{self.host}/")


def parse(text: str, network: Network) -> Endpoint:
    """Read a URL; raise UsageError.

    As with a remote cache, plain connections are for loopback and for hosts that ``network`` names: who can
    change what is sent decides what is built, and a token is for nobody else's eyes.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _bad("is no URL") from None
    if parts.scheme not in _SCHEMES or not parts.hostname or not port:
        raise _bad("is no URL of a remote executor")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise _bad("has an account, a query or a fragment, which have no meaning here")
    if parts.scheme == "grpc" and not network.may_be_plain(parts.netloc):
        raise UsageError(
            f"{NAME} is asked without TLS, so that anybody between could change what is built",
            hint="write grpcs, or name the host in LINUXKIT_PLAIN_HTTP",
        )
    return Endpoint(parts.netloc, parts.scheme == "grpcs", parts.path.strip("/"))


def properties(text: str) -> Properties:
    """Read ``name=value,…``; raise UsageError for what is no such list."""
    found = []
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{_PLATFORM}: {one_line(item)!r} is no property", hint="write NAME=VALUE,…")
        found.append((name.strip(), value.strip()))
    return tuple(sorted(found))


def _bad(why: str) -> UsageError:
    return UsageError(f"{NAME}: {why}", hint=_HINT)
