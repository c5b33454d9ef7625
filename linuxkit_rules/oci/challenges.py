"""The header WWW-Authenticate: what a server wants to see.

https://www.rfc-editor.org/rfc/rfc9110 section 11.6.1; several challenges may stand in one header, and several
headers count as one with commas between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from linuxkit_rules.values import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105 - a rule of the grammar
_ITEM = re.compile(
    rf"[\s,]*(?:(?P<name>{_TOKEN})\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>{_TOKEN}))"
    rf"|(?P<scheme>{_TOKEN})(?!\s*=)(?:[ \t]+(?P<token68>[A-Za-z0-9._~+/-]+=*)(?=\s*(?:,|$)))?)"
)
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: the scheme and the names of its parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read the header; what is malformed, and all after it, is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while match := _ITEM.match(header, position):
        position = match.end()
        if match["scheme"]:
            found.append((match["scheme"].lower(), {}))
        elif found:
            text = match["bare"] if match["quoted"] is None else _ESCAPE.sub(r"\1", match["quoted"])
            found[-1][1].setdefault(match["name"].lower(), text)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)
