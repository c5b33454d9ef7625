"""Where stages may fetch from, as one value beside the engine."""

from __future__ import annotations

import threading
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from linuxkit_rules.errors import NetworkError
from linuxkit_rules.oci.credentials import Anonymous, Credentials
from linuxkit_rules.oci.mirrors import Mirror
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.progress import Progress, Silent
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    from linuxkit_rules.oci.registry import Clients, Registry

PACKAGES = "packages"
"""Folder of Debian packages in a vendored folder."""


class Shared:
    """What all registries share, made when the first is asked: most builds ask none."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._clients: Clients | None = None

    def clients(self, network: Network) -> Clients:
        """Give the same at each call."""
        from linuxkit_rules.oci.registry import Clients

        with self._guard:
            self._clients = self._clients or Clients.on(network)
            return self._clients


@dataclass(frozen=True, slots=True)
class Access:
    """Where stages may fetch from.  It is no part of any key, for it never decides what comes out.

    ``debian_mirror`` None leaves the choice to the apt sources below ``apt_folder``; ``network`` says how
    registries are reached, ``mirrors`` what is asked before them, ``credentials`` with which accounts;
    ``endpoints`` pairs names of registries with their addresses; ``packages`` is a folder of Debian packages
    that is looked into before any mirror is asked.  ``progress`` watches.
    """

    debian_mirror: str | None = None
    apt_folder: Path = Path("/etc/apt")
    offline: bool = False
    network: Network = field(default_factory=Network)
    mirrors: tuple[Mirror, ...] = ()
    credentials: Credentials = field(default_factory=Anonymous)
    endpoints: tuple[tuple[str, str], ...] = ()
    packages: Path | None = None
    progress: Progress = field(default_factory=Silent, compare=False, repr=False)
    _shared: Shared = field(init=False, compare=False, repr=False, default_factory=Shared)

    def registry(self, reference: Reference) -> Registry:
        """Give the repository of ``reference``, to be closed; NetworkError where nothing may be asked."""
        if self.offline:
            raise NetworkError(
                "the image is not in the store, and nothing may be fetched", where=str(reference)
            )
        from linuxkit_rules.oci.registry import Registry

        return Registry(
            reference,
            self._shared.clients(self.network),
            mirrors=self.mirrors,
            endpoints=dict(self.endpoints),
            credentials=self.credentials,
            progress=self.progress,
        )
