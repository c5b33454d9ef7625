"""The trace: when each step began and ended, in which thread, and how many bytes it moved.

A step's bytes are its own: those of the steps that it asks for are theirs.  The clock comes from whoever
makes the trace, and nothing of it reaches an output.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from linuxkit_rules.formats.account import accounted
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    from linuxkit_rules.stages.stage import Event


@dataclass(frozen=True, slots=True)
class Span:
    """A step that has ended, well or not: ``begin`` and ``end`` in seconds of the trace's clock.

    ``thread`` is the system's number of the thread; the rest are bytes (``formats.account.KINDS``).
    """

    event: Event
    begin: float
    end: float
    thread: int
    read: int = 0
    hashed: int = 0
    compressed: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """Tells ``report`` of each step that ends; ``clock`` gives seconds and never goes back."""

    clock: Callable[[], float]
    report: Callable[[Span], None]

    @contextlib.contextmanager
    def step(self, event: Event) -> Iterator[None]:
        """Measure the block as the step ``event``."""
        with accounted() as account:
            begin = self.clock()
            try:
                yield
            finally:
                end = self.clock()
                self.report(Span(event, begin, end, threading.get_native_id(), **account.sums()))


class Untraced:
    """Stands for a trace where none is wanted."""

    def step(self, event: Event) -> contextlib.AbstractContextManager[None]:
        """Measure nothing."""
        return contextlib.nullcontext()
