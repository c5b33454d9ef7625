"""Locks between processes: flock(2) on files, which the kernel frees whatever way a process ends.

Where a file system has no such locks (some network file systems), builds go on with those between their own
threads: blobs and entries stay sound, as they are renamed into place, but two processes may do the same work.
Only ``gc``, which must know that nothing is in use, refuses to work there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

UNSUPPORTED = frozenset((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL))
"""What flock says on a file system that has no locks."""

READ_ONLY = frozenset((errno.EROFS, errno.EACCES, errno.EPERM))
"""What opening for writing says in a store that may only be read."""


class Locks:
    """Named locks, each a file below ``folder`` while somebody holds it or waits for it.

    The files are made and removed by their holders; those of killed processes stay, free, until ``sweep``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._threads: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Hold the lock ``name``; wait while another thread or process does.  Raises OSError."""
        with self._among_threads(name):
            number, locked = _acquired(self._folder / name, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if locked:
                    (self._folder / name).unlink(missing_ok=True)
                os.close(number)

    @contextlib.contextmanager
    def _among_threads(self, name: str) -> Iterator[None]:
        """Hold a lock of this process, kept while there is anybody who wants it."""
        with self._guard:
            lock, users = self._threads.get(name, (threading.Lock(), 0))
            self._threads[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._threads[name]
                if users == 1:
                    del self._threads[name]
                else:
                    self._threads[name] = lock, users - 1


def _acquired(path: Path, how: int) -> tuple[int, bool]:
    """Give a descriptor of ``path``, made where missing, and whether it could be locked.  Waits."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            locked = lock(number, how)
        except BaseException:
            os.close(number)
            raise
        if not locked or is_at(number, path):
            return number, locked
        os.close(number)  # who held it has removed it


def is_at(number: int, path: Path) -> bool:
    """Whether the open file ``number`` is still the one that ``path`` names."""
    try:
        found = path.stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(number), found)


@contextlib.contextmanager
def held(path: Path, shared: bool = False) -> Iterator[int | None]:
    """Hold a lock on the file ``path``, which stays.  Raises OSError.

    Gives the file's descriptor, by which a program that is started can hold it too; None where the file
    system has no locks.
    """
    number, locked = _acquired(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield number if locked else None
    finally:
        os.close(number)


def lock(number: int, how: int) -> bool:
    """Lock an open file; False where the file system has no locks.  Raises OSError."""
    try:
        fcntl.flock(number, how)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True


def remove_free(path: Path) -> bool:
    """Remove a file or folder unless somebody holds a lock on it; say whether it went.  Raises OSError."""
    try:
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_at(number, path):
            return False
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(number)
    return True


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock on the file ``path`` now.  Raises OSError where there are no locks."""
    try:
        number = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    return False
