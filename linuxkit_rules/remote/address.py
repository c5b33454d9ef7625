"""Where a remote cache is, and who may ask it: what the user has written, parsed."""

from __future__ import annotations

from dataclasses import field
from urllib.parse import unquote, urlsplit

from linuxkit_rules.errors import LinuxKitError, UsageError
from linuxkit_rules.oci.auth import basic
from linuxkit_rules.oci.credentials import Credential, Credentials
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.values import dataclass

NAME = "LINUXKIT_REMOTE_CACHE"
_HINT = "https://HOST/PREFIX, or oci://REGISTRY/REPOSITORY"


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """``url`` has neither account nor slash at the end; ``written`` is the account that stood in it."""

    url: str
    host: str
    written: Credential | None = None


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """A repository of a registry."""

    repository: Reference

    @property
    def url(self) -> str:
        """The address as it is written."""
        return f"oci://{self.repository.repository}"


Address = HttpAddress | RegistryAddress


def parse(text: str, network: Network) -> Address:
    """Read a URL; raise UsageError, which shows no password.

    Plain HTTP is for loopback and for hosts that ``network`` names: who can write to the cache, or to what
    comes from it, decides what is built.
    """
    scheme, _, rest = text.partition("://")
    if scheme == "oci":
        try:
            reference = Reference.parse(rest)
        except LinuxKitError as error:
            raise _bad(error.message) from None
        if reference.digest or rest.rpartition(":")[2] == reference.tag:
            raise _bad("names a tag or digest, where a repository is needed")
        return RegistryAddress(reference)
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        raise _bad("is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
        raise _bad("is no URL of a cache")
    if parts.query or parts.fragment:
        raise _bad("has a query, which the protocol does not know")
    if parts.scheme == "http" and not network.may_be_plain(host):
        raise UsageError(
            f"{NAME} is asked without TLS, so that anybody between could change what is built",
            hint="write https, or name the host in LINUXKIT_PLAIN_HTTP",
        )
    written = Credential(unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return HttpAddress(f"{parts.scheme}://{host}{parts.path.rstrip('/')}", host, written)


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks a cache of the HTTP protocol: as the URL says, a ``token``, or one of ``credentials``."""

    address: HttpAddress
    token: str = field(repr=False)
    credentials: Credentials

    def given(self) -> str:
        """Give the header Authorization that the user has written for this cache, ``""`` for none."""
        if self.token:
            return f"Bearer {self.token}"
        return basic(self.address.written) if self.address.written else ""

    def find(self) -> Credential | None:
        """Give the account that Docker's files have for the host.  Raises NetworkError for malformed ones."""
        found = self.credentials.find(self.address.host, "")
        return found if found and found.user and not found.identity_token else None


def _bad(why: str) -> UsageError:
    return UsageError(f"{NAME}: {why}", hint=_HINT)
