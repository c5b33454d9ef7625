"""Temporary files and folders on the store's file system.

Each is locked while its process works on it, so that what a killed process has left can be told and removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from linuxkit_rules.store.locks import lock, remove_free

LEFT = 600.0
"""Seconds after which a file that nobody has locked is taken for one that was left."""


class Scratch:
    """Temporary files and folders below ``folder``, which must be there.  All methods raise OSError."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock

    @contextlib.contextmanager
    def file(self) -> Iterator[Path]:
        """Give an empty file, gone afterwards unless renamed."""
        number, name = tempfile.mkstemp(dir=self._folder)
        path = Path(name)
        try:
            lock(number, fcntl.LOCK_EX)
            yield path
        finally:
            path.unlink(missing_ok=True)
            os.close(number)

    @contextlib.contextmanager
    def directory(self) -> Iterator[Path]:
        """Give an empty folder, gone afterwards unless renamed."""
        path = Path(tempfile.mkdtemp(dir=self._folder))
        number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            lock(number, fcntl.LOCK_EX)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(number)

    def left(self) -> Iterator[Path]:
        """Give what is old enough to be swept, if nobody works on it."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if self._clock() - path.lstat().st_mtime > LEFT:
                    yield path

    def sweep(self) -> None:
        """Remove what killed processes have left."""
        for path in self.left():
            with contextlib.suppress(OSError):
                remove_free(path)


def write_fixed(path: Path, content: bytes) -> None:
    """Write a small file in one step.  Raises OSError."""
    part = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
