"""Names of images: references as Docker and OCI registries write them, and this project's other sources.

Grammar: https://github.com/distribution/reference/blob/v0.6.0/reference.go (package comment); the defaults
(domain, ``library/``, tag) are those of its ``normalize.go``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal, Self, TypeAlias

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import FormatError, SpecError, one_line
from linuxkit_rules.values import dataclass

DEFAULT_DOMAIN = "docker.io"
"""The domain that a reference without one has."""

DEFAULT_DOMAINS = (DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io")
"""The names by which the registry of that domain is known."""

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ZEROS = re.compile(r":0+(?=[0-9]+$)")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_NAME_LIMIT = 255
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9._-]*")
_TEMPLATE = "write @pkg:NAME or @pkg:./directory"
_ARCHIVES: dict[str, Literal["docker", "oci"]] = {"docker-archive": "docker", "oci-archive": "oci"}


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """An image in a repository of a registry; ``str()`` gives the full canonical form.

    ``tag`` is ``latest`` where neither tag nor digest was written; with a digest alone it is ``""``.
    """

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``[domain/]path[:tag][@digest]``; raise SpecError where ``text`` is no such thing."""
        if not text:
            raise _bad(text, "it is empty")
        name, at, digest_text = text.partition("@")
        tag = ""
        if ":" in name.rpartition("/")[2]:
            name, _, tag = name.rpartition(":")
            if not _TAG.fullmatch(tag):
                raise _bad(text, f"{tag!r} is not a tag")
        domain, path = _split(name)
        _check_name(text, domain, path)
        digest = _digest(text, digest_text) if at else None
        return cls(domain, path, tag or ("" if at else "latest"), digest)

    @property
    def repository(self) -> str:
        """Domain and path: what tag and digest belong to."""
        return f"{self.domain}/{self.path}"

    def with_digest(self, digest: Digest) -> Reference:
        """Give the same reference, pinned."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


@dataclass(frozen=True, slots=True)
class LayoutSource:
    """``oci:DIR[:REF]``: an image of an OCI image layout; without ``ref``, its only one."""

    directory: str
    ref: str = ""

    def __str__(self) -> str:
        return f"oci:{self.directory}" + (f":{self.ref}" if self.ref else "")


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """``docker-archive:FILE[:REF]`` (``form`` is ``docker``) or ``oci-archive:FILE[:REF]`` (``oci``)."""

    form: Literal["docker", "oci"]
    file: str
    ref: str = ""

    def __str__(self) -> str:
        return f"{self.form}-archive:{self.file}" + (f":{self.ref}" if self.ref else "")


@dataclass(frozen=True, slots=True)
class LibrarySource:
    """``@pkg:NAME``: a component of the library."""

    name: str

    def __str__(self) -> str:
        return f"@pkg:{self.name}"


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """``@pkg:./dir``: a component or LinuxKit package in a directory of the user's, as written."""

    directory: str

    def __str__(self) -> str:
        return f"@pkg:{self.directory}"


Source: TypeAlias = Reference | LayoutSource | ArchiveSource | LibrarySource | DirectorySource
"""Where an image comes from, as the ``image:`` of a YAML says it."""


def host_name(domain: str) -> str:
    """Give a registry's name in one spelling, to compare it with another's.

    Host names know no case, 443 is the port anyway, and Docker Hub has several names.
    """
    name = _ZEROS.sub(":", domain.lower()).removesuffix(":443")
    return DEFAULT_DOMAIN if name in DEFAULT_DOMAINS else name


def parse_source(text: str) -> Source:
    """Read the text of an ``image:``; raise SpecError where it names no source.

    ``oci:``, ``docker-archive:`` and ``oci-archive:`` are schemes even though ``oci:1.0`` could be a
    reference: write ``library/oci:1.0`` for that.  A directory or file of these schemes holds no colon.
    """
    if text.startswith("@"):
        return _component(text)
    scheme, colon, rest = text.partition(":")
    if colon and (scheme == "oci" or scheme in _ARCHIVES):
        place, _, ref = rest.partition(":")
        if not place:
            raise _bad(text, "a path must follow the scheme")
        return LayoutSource(place, ref) if scheme == "oci" else ArchiveSource(_ARCHIVES[scheme], place, ref)
    return Reference.parse(text)


def _component(text: str) -> LibrarySource | DirectorySource:
    template, colon, rest = text.partition(":")
    if template != "@pkg" or not colon:
        raise _bad(text, f"there is no template {template!r}", hint=f"the one template is @pkg: {_TEMPLATE}")
    if "/" in rest or rest in (".", ".."):
        return DirectorySource(rest)
    if not _PACKAGE.fullmatch(rest):
        raise _bad(text, f"{rest!r} is not a component's name", hint=_TEMPLATE)
    return LibrarySource(rest)


def _split(name: str) -> tuple[str, str]:
    """Split a name without tag into domain and path, filling in the defaults (splitDockerDomain)."""
    head, slash, tail = name.partition("/")
    is_domain = bool(slash) and ("." in head or ":" in head or head == "localhost" or head.lower() != head)
    domain, path = (head, tail) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == f"index.{DEFAULT_DOMAIN}":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _check_name(text: str, domain: str, path: str) -> None:
    if not _PATH.fullmatch(path):
        what = "a repository's name is in lower case" if path.lower() != path else "the name is malformed"
        raise _bad(text, what)
    if not _DOMAIN.fullmatch(domain):
        raise _bad(text, f"{domain!r} is not a registry's name")
    if len(path) > _NAME_LIMIT:
        raise _bad(text, f"the name is longer than {_NAME_LIMIT} characters")
    if domain == DEFAULT_DOMAIN and _IDENTIFIER.fullmatch(path.removeprefix("library/")):
        raise _bad(text, "64 hexadecimal digits are an identifier, no name")


def _digest(text: str, digest: str) -> Digest:
    try:
        return Digest.parse(digest)
    except FormatError as error:
        raise _bad(text, error.message, hint=error.hint) from error


def _bad(text: str, why: str, hint: str | None = None) -> SpecError:
    message = f"{one_line(repr(text))} is not an image reference: {one_line(why)}"
    return SpecError(message, hint=hint)
