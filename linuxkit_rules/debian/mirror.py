"""Where Debian's packages come from: a mirror that is set, or the one that the machine's own apt uses.

sources.list(5): the one-line and the deb822 style.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from linuxkit_rules.debian.stanza import stanzas
from linuxkit_rules.errors import PackageError
from linuxkit_rules.values import dataclass

APT = Path("/etc/apt")
"""Where apt keeps its configuration."""

_SECURITY_POOL = "pool/updates/"
_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?:\s+(?P<parts>.*))?"
)
_HINT = "set LINUXKIT_DEBIAN_MIRROR to the address of a Debian mirror, such as http://<host>/debian"


@dataclass(frozen=True, slots=True)
class Source:
    """One source of packages that apt knows: the archive's address, its components, and its keyring."""

    uri: str
    components: tuple[str, ...]
    signed_by: str = ""


def find(setting: str | None, apt: Path = APT) -> str:
    """Give the address of a Debian archive, without trailing slash.

    ``setting`` wins; else it is the first http(s) source of ``apt`` that carries Debian's ``main``.  Raises
    PackageError where neither gives one.
    """
    if setting:
        return _checked(setting)
    found = list(sources(apt))
    for source in found:
        if "debian" in _folders(source.uri):
            return source.uri
    for source in found:
        if "debian-archive" in source.signed_by and "debian-security" not in _folders(source.uri):
            return source.uri
    raise PackageError("no Debian mirror is known: the machine's apt sources name none", hint=_HINT)


def url(mirror: str, filename: str) -> str:
    """Give the address of a file that a package index of ``mirror`` names (``pool/…``).

    The security archive lies beside the main one; its pool is ``pool/updates``.
    """
    base = security(mirror) if filename.startswith(_SECURITY_POOL) else mirror
    return f"{base}/{urllib.parse.quote(filename, safe='/+~:')}"


def release_url(mirror: str, suite: str) -> str:
    """Give the address of the folder of ``suite`` (``bookworm``, ``trixie-security`` …)."""
    base = security(mirror) if suite.endswith("-security") else mirror
    return f"{base}/dists/{suite}"


def security(mirror: str) -> str:
    """Give the address of the security archive that goes with ``mirror``."""
    head, slash, tail = mirror.rpartition("/debian")
    return f"{head}/debian-security{tail}" if slash else f"{mirror}-security"


def sources(apt: Path) -> Iterator[Source]:
    """Give apt's binary sources with http(s) addresses and ``main``, in apt's order of files."""
    folder = apt / "sources.list.d"
    files = [apt / "sources.list", *sorted([*folder.glob("*.list"), *folder.glob("*.sources")])]
    for file in files:
        try:
            text = file.read_text("utf-8", "replace")
        except OSError:
            continue
        found = _deb822(text) if file.suffix == ".sources" else _lines(text)
        yield from (item for item in found if "main" in item.components and _is_http(item.uri))


def _lines(text: str) -> Iterator[Source]:
    """Read the one-line style: ``deb [options] uri suite [component …]``."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            options = dict(item.partition("=")[::2] for item in (match["options"] or "").split())
            parts = tuple((match["parts"] or "").split())
            yield Source(match["uri"].rstrip("/"), parts, options.get("signed-by", ""))


def _deb822(text: str) -> Iterator[Source]:
    """Read the deb822 style: stanzas with Types, URIs, Suites, Components."""
    for stanza in stanzas(text):
        if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").strip() == "no":
            continue
        for uri in stanza.get("uris", "").split():
            parts = tuple(stanza.get("components", "").split())
            yield Source(uri.rstrip("/"), parts, stanza.get("signed-by", ""))


def _folders(uri: str) -> list[str]:
    return urllib.parse.urlsplit(uri).path.split("/")


def _is_http(uri: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _checked(setting: str) -> str:
    if not _is_http(setting):
        raise PackageError(f"{setting!r} is no address of a Debian mirror", hint=_HINT)
    return setting.rstrip("/")
