"""Mirrors of registries: where else a repository's content is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Self
from urllib.parse import urlsplit

from linuxkit_rules.errors import UsageError, one_line
from linuxkit_rules.oci.reference import DEFAULT_DOMAIN
from linuxkit_rules.values import dataclass

_NAMED = re.compile(r"(?P<registry>[A-Za-z0-9.:\[\]-]+)=(?P<url>.*)")
_HINT = "write REGISTRY=URL, or URL alone for docker.io"


@dataclass(frozen=True, slots=True)
class Mirror:
    """An address that has what ``registry`` has: below ``url`` + ``/v2/`` lie its repositories."""

    registry: str
    url: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``REGISTRY=URL`` or ``URL``, which is a mirror of docker.io; raise UsageError.

        A URL without a scheme is one of https.
        """
        match = _NAMED.fullmatch(text)
        registry, url = (match["registry"], match["url"]) if match else (DEFAULT_DOMAIN, text)
        url = url if "://" in url else f"https://{url}"
        try:
            parts = urlsplit(url)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound or parts.query or parts.fragment or "," in url:
            raise UsageError(f"{one_line(text)!r} is no mirror", hint=_HINT)
        if "@" in parts.netloc:
            message = "a mirror's address holds no account"
            raise UsageError(message, hint=f"docker login {parts.netloc.rpartition('@')[2]}")
        return cls("docker.io" if registry == f"index.{DEFAULT_DOMAIN}" else registry, url.rstrip("/"))

    @property
    def domain(self) -> str:
        """The mirror's own ``host`` or ``host:port``."""
        return urlsplit(self.url).netloc


def mirrors_of(registry: str, mirrors: Iterable[Mirror]) -> tuple[Mirror, ...]:
    """Give the mirrors of ``registry``, in their order."""
    return tuple(mirror for mirror in mirrors if mirror.registry == registry)
