"""Standard streams, as all commands use them."""

from __future__ import annotations

import os
import sys

from linuxkit_rules.errors import UsageError

FAILED = 1
"""Exit status after a fault."""


def open_standard_streams() -> None:
    """Put the null device where a standard stream is closed, lest another file take its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def tell(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)


def show(text: str) -> int:
    """Print ``text`` in UTF-8, whatever the locale; give the exit status."""
    if sys.stdout is None:
        raise UsageError("standard output is closed")
    try:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"standard output: {error.strerror}") from error
        return FAILED
    return 0
