"""Where stages may fetch from, as one value beside the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from linuxkit_rules.errors import NetworkError
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.registry import Registry

PACKAGES = "packages"
"""Folder of Debian packages in a vendored folder."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where stages may fetch from.  It is no part of any key, for it never decides what comes out.

    ``debian_mirror`` None leaves the choice to the apt sources below ``apt_folder``; ``plain_http`` names the
    registries that may be asked without TLS; ``endpoints`` pairs names of registries with their addresses;
    ``packages`` is a folder of Debian packages that is looked into before any mirror is asked.
    """

    debian_mirror: str | None = None
    apt_folder: Path = Path("/etc/apt")
    offline: bool = False
    plain_http: tuple[str, ...] = ()
    endpoints: tuple[tuple[str, str], ...] = ()
    packages: Path | None = None

    def registry(self, reference: Reference) -> Registry:
        """Give the repository of ``reference``, to be closed; NetworkError where nothing may be asked."""
        if self.offline:
            raise NetworkError(
                "the image is not in the store, and nothing may be fetched", where=str(reference)
            )
        return Registry(reference, plain_http=self.plain_http, endpoints=dict(self.endpoints))
