"""Faults of a network that may pass, and how long they are waited for."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from linuxkit_rules.errors import NetworkError
from linuxkit_rules.values import dataclass

PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses of answers that another try may change."""

ATTEMPTS = 5
"""How often something is tried without a byte of progress."""

SECONDS = 60.0
"""How long one thing is waited for in all."""

_FIRST = 0.5
_LONGEST = 16.0


class PassingError(NetworkError):
    """A fault that may pass; ``wait`` is how many seconds the server asks us to stay away."""

    def __init__(
        self, message: str, *, where: str | None = None, hint: str | None = None, wait: float | None = None
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.wait = wait


class SilentError(PassingError):
    """A server lets the time pass without an answer, or hardly sends anything."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """How pauses are made: ``sleep`` takes seconds, ``jitter`` gives a number from 0 to 1."""

    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random


NO_PATIENCE = Pauses(jitter=lambda: math.inf)
"""Pauses longer than anything is waited for: nothing is tried twice."""


class Patience:
    """What is left of attempts and seconds for one thing.  Pauses grow exponentially, with full jitter."""

    def __init__(self, pauses: Pauses, attempts: int = ATTEMPTS) -> None:
        self._pauses = pauses
        self._attempts = attempts
        self._failed = 0
        self._waited = 0.0

    def progress(self) -> None:
        """Note that something has come: attempts count from the start."""
        self._failed = 0

    def pause(self, error: PassingError) -> None:
        """Wait after a fault; raise it where patience ends, or the server wants more than is left."""
        self._failed += 1
        seconds = min(_FIRST * 2 ** (self._failed - 1), _LONGEST) * self._pauses.jitter()
        seconds = max(seconds, error.wait or 0.0)
        if self._failed >= self._attempts or self._waited + seconds > SECONDS:
            raise error
        self._waited += seconds
        self._pauses.sleep(seconds)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds that Retry-After asks for (RFC 9110, 10.2.3), None where it says nothing of use.

    A date counts from the answer's own Date, so that this machine's clock does not matter.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    until, now = date_of(text), date_of(headers.get("Date", ""))
    return max(0.0, (until - now).total_seconds()) if until and now else None


def date_of(text: str) -> datetime | None:
    """Read an HTTP date (RFC 9110, 5.6.7) or a time as RFC 3339 has it; None where it is neither."""
    from email.utils import parsedate_to_datetime

    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = read(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    return None
