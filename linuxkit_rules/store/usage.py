"""Who uses the store, and when each thing in it was last used: what ``gc`` has to know.

The last use of a blob, an entry, a tool or a plan is its file's time of modification, moved on when it is
used and older than ``GRAIN`` (so that a build with nothing to do writes nothing).  Each process that uses the
store holds a *lease*: a locked file in ``leases/`` whose time is the lease's beginning.  ``gc`` removes
nothing that was used after the oldest lease began, less ``GRAIN``.

No decision can fall between: taking a lease and moving a time on hold ``gc.lock`` shared, and ``gc`` holds it
alone while it looks at the leases and at a few files' times, and removes those.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from linuxkit_rules.errors import StoreError
from linuxkit_rules.store.locks import READ_ONLY, held, is_held, lock, remove_free

GRAIN = 3600.0
"""Seconds by which a time of last use may be too old."""

TOOLS = "tools"
LEASES = "leases"
GC_LOCK = "gc.lock"


class Usage:
    """What this process says about its use of the store at ``root``; ``clock`` gives seconds since 1970."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._guard = threading.Lock()
        self.begun = False

    def begin(self) -> None:
        """Take the lease, once, as soon as there is a store; in one that may only be read there is none.

        The lease ends with this object or the process.  Raises StoreError where it cannot be taken.
        """
        if self.begun or not (self._root / "blobs").is_dir():
            return
        with self._guard:
            if self.begun:
                return
            try:
                with held(self._root / GC_LOCK, shared=True):
                    self._take()
            except OSError as error:
                if error.errno not in READ_ONLY:
                    raise cannot_write(self._root, error) from error
            self.begun = True

    def keeps(self, path: Path | str, used: float) -> bool:
        """Note the use of the file ``path``, last used at ``used``; no where it has just been removed."""
        now = self._clock()
        if now - used < GRAIN:
            return True
        try:
            with held(self._root / GC_LOCK, shared=True):
                os.utime(path, (now, now))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # others may read a user's store, but do not keep things in it
        return True

    def _take(self) -> None:
        folder = self._root / LEASES
        folder.mkdir(exist_ok=True)
        path = folder / f"{os.getpid()}-{os.urandom(8).hex()}"
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        lock(number, fcntl.LOCK_EX)
        now = self._clock()
        os.utime(path, (now, now))
        weakref.finalize(self, _end, number, path)


def _end(number: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    os.close(number)


def protected_since(root: Path) -> float | None:
    """Give the time since when what was used must stay, in seconds since 1970; None where no lease is held.

    Removes leases whose process has ended.  To be called with ``gc.lock`` held.  Raises OSError.
    """
    folder, begun = root / LEASES, []
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            if is_held(path):
                begun.append(path.stat().st_mtime)
            else:
                remove_free(path)
    return min(begun) - GRAIN if begun else None


def cannot_write(root: Path, error: OSError, what: str = "write to the store") -> StoreError:
    """Give the error of a store that cannot be written, with what to do about it."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "`moby store gc` makes room, LINUXKIT_STORE names another place" if full else "set LINUXKIT_STORE"
    return StoreError(f"cannot {what}: {error.strerror or error}", where=str(root), hint=hint)
