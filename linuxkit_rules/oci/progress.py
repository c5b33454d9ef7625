"""What fetching tells whoever watches: blobs that arrive, and warnings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Who watches.  Threads call it at the same time."""

    def blob(self, label: str, size: int) -> AbstractContextManager[Callable[[int], None]]:
        """Hear that a blob of ``size`` bytes begins; the function that is given takes sizes of what came."""

    def warn(self, text: str) -> None:
        """Hear of something that did not end the work, in one line."""


class Silent:
    """Nobody watches."""

    def blob(self, label: str, size: int) -> AbstractContextManager[Callable[[int], None]]:
        """Drop it."""
        return nullcontext(lambda count: None)

    def warn(self, text: str) -> None:
        """Drop it."""
