"""A remote cache as builds use it: looked into after the store, and never a reason for a build to fail.

A cache that does not answer, or refuses, is left alone from then on: it costs one time-out at most, and one
warning.  One that answers, but slowly, is left alone when steps have waited long enough for it.  What it
gives is verified; content that is wrong is a miss, and after a few times it is left alone too.  Blobs of a
result are promises (``store/promises.py``) until somebody reads them.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError, ImageError, LinuxKitError, NetworkError, one_line
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result

if TYPE_CHECKING:
    from linuxkit_rules.oci.progress import Progress
    from linuxkit_rules.remote.backend import Backend

T = TypeVar("T")

DOUBTS = 3
"""How often a cache may give something wrong."""

SLOW, PATIENCE = 1.0, 10.0
"""Seconds: when an answer about a result is a slow one, and how long slow ones may take in all."""

_SHOWN_SIZE = 1 << 20  # smaller blobs come unseen


class RemoteCache:
    """The cache that ``connect`` gives, which is called when it is asked first.

    ``place`` is what stands for it in the store.  ``watch`` gives who sees large blobs come, and hears why
    the cache is left alone; ``clock`` counts seconds.
    """

    def __init__(
        self,
        place: str,
        connect: Callable[[], Backend],
        watch: Callable[[], Progress],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = place
        self.answers = True
        self.takes = True
        """Whether it is worth sending something."""
        self._connect = connect
        self._watch = watch
        self._clock = clock
        self._waited = 0.0
        self._backend: Backend | None = None
        self._lost: set[Digest] = set()
        self._doubts = 0
        self._guard = threading.Lock()

    def result(self, key: str, store: Store) -> Result | None:
        """Give what the recipe ``key`` gave elsewhere, its blobs promised to ``store`` or there; else None.

        Raises StoreError where the promises cannot be written.
        """
        begun = self._clock()
        found = self.ask(lambda backend: backend.result(key), None)
        self._count_slow(self._clock() - begun)
        if found is None or store.promises is None:
            return None
        missing = [blob for blob in dict.fromkeys(found.blobs) if not store.has(blob)]
        if not self._lost.isdisjoint(blob.digest for blob in missing):
            return None
        for blob in missing:
            store.promises.add(blob)
        return found

    def fetch(self, blob: Descriptor, out: SupportsWrite) -> bool:
        """Write ``blob`` to ``out``, verified; no where it cannot be had: ``out`` may have got bytes."""
        from linuxkit_rules.oci.origin import copy_verified

        def copy(backend: Backend) -> bool:
            if blob.size < _SHOWN_SIZE:
                copy_verified(backend, blob, out)
                return True
            with self._watch().blob(f"{backend.name} {blob.digest.hex[:12]}", blob.size) as advance:
                copy_verified(backend, blob, _Watched(out, advance))
            return True

        came = self.ask(copy, False)
        if not came:
            self._lost.add(blob.digest)
        return came

    def has_failed(self, digest: Digest) -> bool:
        """Whether a blob was asked for in vain."""
        return digest in self._lost

    def ask(self, action: Callable[[Backend], T], otherwise: T) -> T:
        """Give what ``action`` gives, or ``otherwise`` where the cache has it not or is left alone.

        A connection that was closed while it was not used is no fault: that is tried once more.
        """
        from linuxkit_rules.oci.origin import WrongContentError
        from linuxkit_rules.oci.retry import PassingError, SilentError
        from linuxkit_rules.remote.backend import MissingError, RefusedError

        for last in (False, True):
            if not self.answers:
                break
            try:
                return action(self._connected())
            except MissingError:
                break
            except (FormatError, WrongContentError) as error:
                self._doubt(error)
                break
            except RefusedError as error:
                self._leave(error, only_sending=True)
                break
            except (NetworkError, ImageError) as error:
                if last or isinstance(error, SilentError) or not isinstance(error, PassingError):
                    self._leave(error)
                    break
        return otherwise

    def _connected(self) -> Backend:
        with self._guard:
            if self._backend is None:
                self._backend = self._connect()
            return self._backend

    def _count_slow(self, seconds: float) -> None:
        if seconds < SLOW:
            return
        with self._guard:
            self._waited += seconds
            waited = self._waited
        if waited >= PATIENCE:
            self._leave(NetworkError(f"is slow: steps have waited {waited:.0f} seconds for it"))

    def _doubt(self, error: LinuxKitError) -> None:
        """Count something wrong; the first is told."""
        with self._guard:
            self._doubts += 1
            doubts = self._doubts
        if doubts >= DOUBTS:
            self._leave(error)
        elif doubts == 1:
            self._watch().warn(f"{self._shown(error)}: it is not used")

    def _leave(self, error: LinuxKitError, *, only_sending: bool = False) -> None:
        with self._guard:
            known = not (self.takes if only_sending else self.answers)
            self.takes = False
            self.answers = self.answers and only_sending
        if not known:
            what = "gets nothing more" if only_sending else "is left alone"
            self._watch().warn(f"{self._shown(error)}: it {what} in this build")

    def _shown(self, error: LinuxKitError) -> str:
        name = self._backend.name if self._backend else ""
        return f"the remote cache {name}: {one_line(str(error))}".replace(f"{name}: {name}", name)


class _Watched:
    """A file that tells how many bytes it gets."""

    def __init__(self, out: SupportsWrite, advance: Callable[[int], None]) -> None:
        self._out = out
        self._advance = advance

    def write(self, data: bytes | memoryview) -> None:
        self._out.write(data)
        self._advance(len(data))


def place_of(url: str) -> str:
    """Give the name that stands for a cache in the store: of its URL, without the account in it."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    plain = f"{scheme}://{host.rpartition('@')[2]}{slash}{path.rstrip('/')}"
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
