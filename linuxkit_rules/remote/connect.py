"""From a remote cache's URL to what speaks with it."""

from __future__ import annotations

import dataclasses

from linuxkit_rules.oci.credentials import Credentials
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.retry import NO_PATIENCE
from linuxkit_rules.oci.transport import Transport
from linuxkit_rules.remote.address import Account, HttpAddress, parse
from linuxkit_rules.remote.artefacts import ArtefactCache
from linuxkit_rules.remote.backend import Backend
from linuxkit_rules.remote.bazel import BazelCache
from linuxkit_rules.remote.silence import seconds_of


def connected(url: str, network: Network, credentials: Credentials, token: str, seconds: str) -> Backend:
    """Give the cache at ``url``; nothing is asked yet.

    ``token`` is for a cache of the HTTP protocol; ``seconds`` says how long one may be silent, ``""`` the
    default.  Raises UsageError.
    """
    address = parse(url, network)
    patience = seconds_of(seconds, "LINUXKIT_REMOTE_CACHE_TIMEOUT")
    transport = Transport(
        dataclasses.replace(network, pauses=NO_PATIENCE, connect_seconds=patience, read_seconds=patience)
    )
    if isinstance(address, HttpAddress):
        return BazelCache(address, transport, Account(address, token, credentials))
    return ArtefactCache(address, transport, credentials)
