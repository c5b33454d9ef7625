"""Globs over paths, as build.yml writes them.

``*`` and ``?`` stay within one name, ``[…]`` is one of some signs, ``**`` crosses slashes: ``usr/share/**``
is the folder and all in it, ``**/x.so`` every x.so at any depth.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

_TOKEN = re.compile(r"(/\*\*$)|(\*\*/)|(\*\*)|(\*)|(\?)|\[(!?)([^]]+)\]|(.)", re.DOTALL)


@functools.lru_cache(maxsize=4096)
def pattern(glob: str) -> re.Pattern[str]:
    """Compile a glob; use ``fullmatch``."""
    return re.compile("".join(_translate(match) for match in _TOKEN.finditer(glob)), re.DOTALL)


def matches(globs: Iterable[str], path: str) -> bool:
    """Whether one of ``globs`` names ``path``."""
    return any(pattern(glob).fullmatch(path) for glob in globs)


def is_plain(glob: str) -> bool:
    """Whether ``glob`` names one path only."""
    return not any(sign in glob for sign in "*?[")


def _translate(match: re.Match[str]) -> str:
    tail, folders, deep, star, one, negated, signs, plain = match.groups()
    if tail:
        return "(?:/.*)?"
    if folders:
        return "(?:[^/]+/)*"
    if deep:
        return ".*"
    if star:
        return "[^/]*"
    if one:
        return "[^/]"
    if signs:
        quoted = re.escape(signs).replace(r"\-", "-")
        return f"[{'^' if negated else ''}{quoted}]"
    return re.escape(plain)
