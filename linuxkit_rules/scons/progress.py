"""What people see of fetching: bars on a terminal, a line for each blob elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


class Display:
    """Watches fetching, and prints the steps' lines, so that bars and lines do not run into each other.

    Bars stand on standard error while something is fetched, if that is a terminal; else a line on standard
    output says of each blob that it is there.  ``quiet`` shows neither; warnings are always printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Bars | None = None
        self._running = 0
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def blob(self, label: str, size: int) -> Iterator[Callable[[int], None]]:
        """Show a blob that is being fetched."""
        if self._quiet:
            yield lambda count: None
        elif sys.stderr is not None and sys.stderr.isatty():
            with self._bar(label, size) as advance:
                yield advance
        else:
            yield lambda count: None
            self.line(f"  fetched {label} ({shown(size)})")

    def warn(self, text: str) -> None:
        """Print a warning to standard error, in one line."""
        self._print(f"warning: {text}", error=True)

    def line(self, text: str) -> None:
        """Print a line to standard output."""
        self._print(text, error=False)

    def _print(self, text: str, *, error: bool) -> None:
        with self._lock:
            stream = sys.stderr if error else sys.stdout
            if self._bars is not None and stream is not None and stream.isatty():
                self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, file=stream, flush=True)

    @contextlib.contextmanager
    def _bar(self, label: str, size: int) -> Iterator[Callable[[int], None]]:
        """Show a bar; the first one begins the display, and the last one ends it."""
        with self._lock:
            if self._bars is None:
                self._bars = _new_bars()
                self._bars.start()
            self._running += 1
            bars = self._bars
            task = bars.add_task(label, total=size)
        try:
            yield lambda count: bars.advance(task, count)
        finally:
            with self._lock:
                bars.remove_task(task)
                self._running -= 1
                if not self._running:
                    bars.stop()
                    self._bars = None


def _new_bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def shown(size: int) -> str:
    """Give a number of bytes in words."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e3:.0f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"
