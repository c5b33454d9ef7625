"""Where stages may fetch from, as one value beside the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from linuxkit_rules.errors import NetworkError
from linuxkit_rules.oci.credentials import Anonymous, Credentials
from linuxkit_rules.oci.mirrors import Mirror
from linuxkit_rules.oci.progress import Progress, Silent
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.registry import Clients, Registry
from linuxkit_rules.oci.transport import Network

PACKAGES = "packages"
"""Folder of Debian packages in a vendored folder."""


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
    clients: Clients = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "clients", Clients.on(self.network))

    def registry(self, reference: Reference) -> Registry:
        """Give the repository of ``reference``, to be closed; NetworkError where nothing may be asked."""
        if self.offline:
            raise NetworkError(
                "the image is not in the store, and nothing may be fetched", where=str(reference)
            )
        return Registry(
            reference,
            self.clients,
            mirrors=self.mirrors,
            endpoints=dict(self.endpoints),
            credentials=self.credentials,
            progress=self.progress,
        )
