"""From a remote executor's URL to what speaks with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from linuxkit_rules.errors import UsageError
from linuxkit_rules.oci.network import Network
from linuxkit_rules.remote.endpoint import NAME, Endpoint, parse
from linuxkit_rules.remote.silence import seconds_of

if TYPE_CHECKING:
    import grpc

    from linuxkit_rules.remote.reapi import Server

EXTRA = "remote-execution"
"""What pip calls the packages that are needed."""


def connected(
    url: str, network: Network, token: str, seconds: str, is_stopped: Callable[[], bool] = lambda: False
) -> Server:
    """Give the server at ``url``; nothing is asked yet.

    ``token`` is shown to it; ``seconds`` says how long it may be silent, ``""`` the default; ``is_stopped``
    whether the build is to end.  Raises UsageError, also where packages that are needed are not installed.
    """
    endpoint, patience = parse(url, network), seconds_of(seconds, "LINUXKIT_REMOTE_EXECUTOR_TIMEOUT")
    try:
        from linuxkit_rules.remote.reapi import Server
    except ImportError as error:
        raise UsageError(
            f"{NAME} needs packages that are not installed: {error.name}",
            hint=f"pip install 'linuxkit_rules[{EXTRA}]'",
        ) from None
    metadata = (("authorization", f"Bearer {_checked(token)}"),) if token else ()
    return Server(endpoint, _channel(endpoint, network), metadata, patience, is_stopped)


def _channel(endpoint: Endpoint, network: Network) -> grpc.Channel:
    import grpc

    proxy = endpoint.proxy(network)
    options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", int(bool(proxy)))]
    if proxy:
        options.append(("grpc.http_proxy", proxy))
    if not endpoint.secure:
        return grpc.insecure_channel(endpoint.target, options)
    return grpc.secure_channel(endpoint.target, grpc.ssl_channel_credentials(_authorities(network)), options)


def _authorities(network: Network) -> bytes:
    """Give the certificates that are trusted, in PEM; raise UsageError for a file that cannot be read."""
    from pathlib import Path

    import certifi

    try:
        files = (network.trust or Path(certifi.where()), *network.ca_files)
        return b"\n".join(file.read_bytes() for file in files)
    except OSError as error:
        raise UsageError(
            f"the authorities cannot be read: {error.strerror}", where=str(error.filename)
        ) from error


def _checked(token: str) -> str:
    """Give a token that a header can hold; it is not shown where it is none."""
    if not all("!" <= character <= "~" for character in token):
        raise UsageError(
            "LINUXKIT_REMOTE_EXECUTOR_TOKEN has characters that no token has",
            hint="line ends and spaces often come with files",
        )
    return token
