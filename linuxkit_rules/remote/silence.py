"""How long the servers of builds, caches and executors, may be silent."""

from __future__ import annotations

from linuxkit_rules.errors import UsageError

SECONDS = 5.0
"""Where nobody says otherwise."""


def seconds_of(text: str, variable: str) -> float:
    """Read what ``variable`` says, ``""`` for the default; UsageError where that is no number of seconds."""
    try:
        seconds = float(text or SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise UsageError(f"{variable}={text!r} is no number of seconds")
    return seconds
