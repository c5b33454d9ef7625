"""Numbers on the command line."""

from __future__ import annotations

import argparse
import re

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_AGE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([smhdw]?)", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def positive(text: str) -> int:
    """Give the number that ``text`` says, 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def size(text: str) -> int:
    """Give the bytes that ``text`` says: 500M, 20G; K, M, G and T are powers of 1024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size (20G, 500M)")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def age(text: str) -> float:
    """Give the seconds that ``text`` says: 30d, 12h, 90m, 2w; a bare number counts days."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age (30d, 12h)")
    return float(match[1]) * _SECONDS[match[2].lower() or "d"]


def shown_size(count: int) -> str:
    """Give ``count`` bytes for people: 1.5 GiB."""
    number, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def shown_age(seconds: float) -> str:
    """Give an age for people: 3 h, 12 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "now"
