"""Patterns of references, for policies: ``registry.example/team/*``."""

from __future__ import annotations

import re
from typing import Self

from linuxkit_rules.errors import SpecError, one_line
from linuxkit_rules.oci.reference import DEFAULT_DOMAIN, Reference, host_name
from linuxkit_rules.values import dataclass

_NAME = re.compile(r"[A-Za-z0-9._*\[\]:/-]+")
_WILD = re.compile(r"\*\*|\*|[^*]+")
_FULL = "write the full name, as docker.io/library/redis or registry.example/team/*"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which repositories, and by ``tag`` which of their images, are meant; ``""`` is any tag.

    In ``repository`` a ``*`` stands for any text without a slash, ``**`` for any text; so it is in ``tag``.
    """

    repository: str
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``domain/path[:tag]``, the domain being a name or a pattern; raise SpecError otherwise.

        Short names are refused: a pattern that was meant for another registry would go unnoticed.
        """
        name, tag = _split(text)
        domain, slash, path = name.partition("/")
        problem = _problem(name, tag)
        if problem:
            raise SpecError(f"{one_line(repr(text))} {problem}", hint=_FULL)
        return cls(f"{host_name(domain)}{slash}{path}", tag)

    @classmethod
    def of(cls, reference: Reference, *, any_tag: bool) -> Self:
        """Give the pattern that matches one reference, or with ``any_tag`` its repository."""
        return cls(repository_name(reference), "" if any_tag else reference.tag)

    def matches(self, reference: Reference) -> bool:
        """Whether ``reference`` is meant.

        Where a digest decides, its tag says nothing of the image: then a pattern with any tag matches.
        """
        if not _matches(self.repository, repository_name(reference)):
            return False
        return not self.tag or reference.digest is not None or _matches(self.tag, reference.tag)

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}" if self.tag else self.repository


def repository_name(reference: Reference) -> str:
    """Give the name of the repository in one spelling, to compare it with another's."""
    domain = host_name(reference.domain)
    short = domain == DEFAULT_DOMAIN and "/" not in reference.path
    return f"{domain}/{'library/' if short else ''}{reference.path}"


def _problem(name: str, tag: str) -> str | None:
    """Say what is wrong with a pattern that has no meaning, or that nothing matches."""
    domain, _, path = name.partition("/")
    if name == "**":
        return None
    if not (
        path and _NAME.fullmatch(name) and (not tag or _NAME.fullmatch(tag)) and "" not in name.split("/")
    ):
        return "is no full name of images"
    if not ("." in domain or ":" in domain or "**" in domain or domain == "localhost"):
        return "does not begin with a registry's name"
    if path != path.lower():
        return "matches nothing"
    return None


def _split(text: str) -> tuple[str, str]:
    """Split off the tag."""
    head, slash, last = text.rpartition("/")
    last, _, tag = last.partition(":") if slash else (text, "", "")
    return f"{head}{slash}{last}", tag


def _matches(pattern: str, text: str) -> bool:
    wild = {"**": ".*", "*": "[^/]*"}
    parts = (wild.get(part) or re.escape(part) for part in _WILD.findall(pattern))
    return re.fullmatch("".join(parts), text) is not None
