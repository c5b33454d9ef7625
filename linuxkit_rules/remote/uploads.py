"""What steps gave here, sent to a remote cache while the build goes on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.remote.cache import RemoteCache
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result

if TYPE_CHECKING:
    from linuxkit_rules.remote.backend import Backend

WORKERS = 4
QUEUE = 4096
"""How many results wait at most; further ones are not sent."""


class Uploads:
    """Sends results of ``store`` to ``cache``: the blobs that it lacks, then the result.

    Threads begin with the first result.  They are daemons: whoever ends the program calls ``finish`` before.
    """

    def __init__(self, cache: RemoteCache, store: Store) -> None:
        self._cache = cache
        self._store = store
        self._queue: deque[tuple[str, Result]] = deque()
        self._busy = 0
        self._unsent = 0
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._known: set[Digest] = set()
        self._being_sent: set[Digest] = set()

    def add(self, key: str, result: Result) -> None:
        """Have a result sent, some time before ``finish`` ends."""
        with self._changed:
            if not self._cache.takes:
                return
            if len(self._queue) >= QUEUE:
                self._unsent += 1
                return
            self._queue.append((key, result))
            if len(self._threads) < WORKERS:
                thread = threading.Thread(target=self._work, name="upload", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many results are not sent yet."""
        with self._changed:
            return len(self._queue) + self._busy

    def finish(self, seconds: float) -> int:
        """Wait until all is sent, or for ``seconds``; give how many results are not, and drop them."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue and not self._busy, seconds)
            return self._drop()

    def drop(self) -> int:
        """Send nothing more; give how many results are not sent."""
        with self._changed:
            return self._drop()

    def _drop(self) -> int:
        self._unsent += len(self._queue)
        self._queue.clear()
        return self._unsent + self._busy

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                key, result = self._queue.popleft()
                self._busy += 1
            try:
                self._send(key, result)
            except (LinuxKitError, OSError):
                pass  # the store's own fault, which the build meets too
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _send(self, key: str, result: Result) -> None:
        """Send one result, if the cache has all its blobs or gets them."""

        def put(backend: Backend) -> bool:
            backend.put_result(key, result)
            return True

        if all(self._send_blob(blob) for blob in dict.fromkeys(result.blobs)):
            self._ask(put)

    def _send_blob(self, blob: Descriptor) -> bool:
        """Have the cache have ``blob``, which no other thread sends meanwhile; whether it has."""
        with self._changed:
            self._changed.wait_for(lambda: blob.digest not in self._being_sent)
            if blob.digest in self._known:
                return True
            self._being_sent.add(blob.digest)
        there = False
        try:
            there = self._is_there(blob) or self._put(blob)
            return there
        finally:
            with self._changed:
                self._being_sent.discard(blob.digest)
                if there:
                    self._known.add(blob.digest)
                self._changed.notify_all()

    def _is_there(self, blob: Descriptor) -> bool:
        """Whether the cache has the blob; one that it had and did not give whole is sent anew."""
        return not self._cache.has_failed(blob.digest) and self._ask(lambda backend: backend.has(blob))

    def _put(self, blob: Descriptor) -> bool:
        """Send the blob, verified; no where it has gone from the store, or is only promised by the cache."""
        if not self._store.has(blob):
            return False
        with self._store.open(blob.digest) as file:

            def put(backend: Backend) -> bool:
                backend.put(blob, file)
                return True

            return self._ask(put)

    def _ask(self, action: Callable[[Backend], bool]) -> bool:
        return self._cache.takes and self._cache.ask(action, False)
