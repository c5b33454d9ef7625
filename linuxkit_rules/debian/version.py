"""Debian package versions and their order.

Debian Policy Manual, section 5.6.12.
"""

from __future__ import annotations

import functools
import itertools
import re

from linuxkit_rules.errors import PackageError

_VERSION = re.compile(r"(?:([0-9]+):)?([A-Za-z0-9.+~-]*?[A-Za-z0-9.+~])(?:-([A-Za-z0-9.+~]+))?")
_PARTS = re.compile(r"([^0-9]*)([0-9]*)")


@functools.total_ordering
class Version:
    """A version ``[epoch:]upstream[-revision]``; sorts as dpkg sorts; ``str()`` gives it as written."""

    __slots__ = ("_order", "text")

    def __init__(self, text: str) -> None:
        match = _VERSION.fullmatch(text)
        if match is None:
            raise PackageError(f"{text!r} is not a Debian version")
        self.text = text
        self._order = (int(match[1] or 0), _key(match[2]), _key(match[3] or "0"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._order == other._order

    def __lt__(self, other: Version) -> bool:
        return self._order < other._order

    def __hash__(self) -> int:
        return hash(self._order)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Version({self.text!r})"


def _key(part: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Give pairs of (non-digits, number) that compare as the policy says; the last stands for the end."""
    return tuple((_letters(text), int(number or 0)) for text, number in _PARTS.findall(part))


def _letters(text: str) -> tuple[int, ...]:
    """Order of non-digits: a tilde before the end, the end before letters, letters before all others."""
    order = ((-1 if sign == "~" else ord(sign) if sign.isalpha() else ord(sign) + 256) for sign in text)
    return tuple(itertools.chain(order, (0,)))
