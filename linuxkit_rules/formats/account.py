"""An account of bytes moved: for traces alone, never for an output.

What moves many bytes says so with ``note``, once for a file or a stream.  Where nobody keeps an account,
that is a look at a context variable.  A thread of a stage's own adds to the stage's account if it runs in a
copy of the context.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

KINDS = ("read", "hashed", "compressed", "written")
"""What is counted, in bytes: read from blobs and compressed streams, hashed, given to a compressor, written.

What the kernel copies from blobs to an output is read and written, even where it shares the blocks.
"""


class Account:
    """Sums of bytes, by kind; several threads may add to it."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._guard = threading.Lock()

    def add(self, sizes: Mapping[str, int]) -> None:
        """Add ``sizes``, bytes by kind."""
        with self._guard:
            self._sums.update(sizes)

    def sums(self) -> dict[str, int]:
        """Give the bytes of each kind."""
        with self._guard:
            return {kind: self._sums[kind] for kind in KINDS}


_account: ContextVar[Account | None] = ContextVar("account", default=None)


def note(**sizes: int) -> None:
    """Add ``sizes`` (bytes by kind) to the account that is kept here, if one is."""
    account = _account.get()
    if account is not None:
        account.add(sizes)


@contextlib.contextmanager
def accounted() -> Iterator[Account]:
    """Keep an account of the block; what an inner account gets, this one does not."""
    account = Account()
    outer = _account.set(account)
    try:
        yield account
    finally:
        _account.reset(outer)
