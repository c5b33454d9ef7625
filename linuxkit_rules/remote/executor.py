"""A remote executor as builds use it: steps are done elsewhere, and never is it a reason for a build to fail.

What is not done there, for whatever reason, is done here.  An executor that does not answer, or refuses, is
left alone from then on: it costs one time-out at most, and one warning.  One whose workers err, or whose
results are not what they are said to be, is left alone after a few times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import DamagedError, FormatError, ImageError, LinuxKitError, NetworkError, one_line
from linuxkit_rules.oci.origin import copy_verified, read_verified
from linuxkit_rules.remote.action import (
    RESULT,
    Action,
    FailedError,
    LacksError,
    Order,
    Properties,
    action_of,
    decode_result,
)
from linuxkit_rules.remote.backend import ENTRY_LIMIT
from linuxkit_rules.store.blobs import OCTET_STREAM, Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    from linuxkit_rules.remote.execution import Done
    from linuxkit_rules.remote.reapi import Server

DOUBTS = 3
"""How often an executor may give something wrong."""

STRANGE = 3
"""Exit status of a worker's command that would not make the same bytes as this machine."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order: a result, or none; ``fault`` says that the step itself failed there."""

    result: Result | None = None
    fault: LinuxKitError | None = None


class Executor:
    """The executor that ``connect`` gives, which is called when something is to be done first.

    Workers must have ``properties``.  ``warn`` hears why the executor is left alone.
    """

    def __init__(
        self, connect: Callable[[], Server], warn: Callable[[str], None], properties: Properties = ()
    ) -> None:
        self.answers = True
        """Whether it is worth asking."""
        self._connect = connect
        self._warn = warn
        self._properties = properties
        self._server: Server | None = None
        self._doubts = 0
        self._guard = threading.Lock()
        self._asking = threading.Lock()

    def run(self, ordered: Callable[[], Order], store: Store) -> Outcome:
        """Have the step done that ``ordered`` gives; its result's blobs are in ``store`` then, or promised.

        What the order's making raises of lost or wrong inputs is left to whoever runs the step here.  Raises
        StoreError where blobs cannot be written, UsageError where the executor cannot be meant, StoppedError.
        """
        try:
            order = ordered()
        except (DamagedError, FormatError, ImageError):
            return Outcome()
        try:
            return Outcome(self._done(order, store))
        except DamagedError:
            return Outcome()  # an input has gone while it was sent
        except FailedError as error:
            return self._failed(error)
        except (FormatError, ImageError) as error:
            self.doubt(error)
        except NetworkError as error:
            self._leave(error)
        return Outcome()

    def doubt(self, error: LinuxKitError) -> None:
        """Count something wrong, as a step that failed there and not here; the first is told."""
        with self._guard:
            self._doubts += 1
            doubts = self._doubts
        if doubts >= DOUBTS:
            self._leave(error)
        elif doubts == 1:
            self._warn(f"{self._shown(error)}: the step is run here")

    def _done(self, order: Order, store: Store) -> Result | None:
        with self._asking:  # one at a time: what several steps need is sent once, and a time-out met once
            if not self.answers:
                return None
            try:
                server = self._connected()
                task = _Task(server, order, action_of(order, self._properties), store)
                task.bring()
            except NetworkError as error:
                self._leave(error)  # before the next one asks
                return None
        return task.result()

    def _failed(self, error: FailedError) -> Outcome:
        if error.status == STRANGE:
            self._leave(error)
            return Outcome()
        if error.status is None:
            self.doubt(error)
            return Outcome()
        return Outcome(fault=error)

    def _connected(self) -> Server:
        if self._server is None:
            self._server = self._connect()
            self._server.check()
        return self._server

    def _leave(self, error: LinuxKitError) -> None:
        with self._guard:
            known, self.answers = not self.answers, False
        if known:
            return
        self._warn(f"{self._shown(error)}: everything is run here from now on")
        if self._server is not None:
            self._server.end()

    def _shown(self, error: LinuxKitError) -> str:
        name = self._server.name if self._server else ""
        return f"the remote executor {name}: {one_line(str(error))}".replace(f"{name}: {name}", name)


class _Task:
    """An order that a server has to do."""

    def __init__(self, server: Server, order: Order, action: Action, store: Store) -> None:
        self._server = server
        self._order = order
        self._action = action
        self._store = store

    def bring(self) -> None:
        """Send what the server lacks."""
        messages = self._action.messages
        lacks = self._server.missing((*messages, *self._order.blobs))
        self._server.send(lacks, messages, self._store)

    def result(self) -> Result:
        """Have it done; one that an action cache knows, and that is not as it should be, is made anew."""
        done = self._executed(fresh=False)
        try:
            return self._taken(done.result)
        except (FormatError, ImageError):
            if not done.is_cached:
                raise
        return self._taken(self._executed(fresh=True).result)

    def _executed(self, *, fresh: bool) -> Done:
        """Have the action done; what the server has lost meanwhile is sent again, once."""
        try:
            return self._server.execute(self._action, fresh=fresh)
        except LacksError:
            self.bring()
            return self._server.execute(self._action, fresh=fresh)

    def _taken(self, done: Any) -> Result:
        """Have the store have what an ActionResult names."""
        result = decode_result(_document(self._server, done), self._order.key)
        lacks = [blob for blob in dict.fromkeys(result.blobs) if not self._store.can_have(blob)]
        self._bound(lacks)
        for blob in lacks:
            _fetch(self._server, blob, self._store)
        return result

    def _bound(self, blobs: Sequence[Descriptor]) -> None:
        limits, where = self._order.limits, self._server.name
        for blob in blobs:
            if blob.size > limits.total:
                raise limits.excess("total", f"gives a blob of {blob.size} bytes", where=where)
        if (size := sum(blob.size for blob in blobs)) > limits.image:
            raise limits.excess("image", f"gives blobs of {size} bytes", where=where)


def _document(server: Server, done: Any) -> bytes:
    """Give the document that an action has left; raise FormatError, ImageError."""
    for file in done.output_files:
        if file.path == RESULT:
            size = file.digest.size_bytes
            if len(file.contents) == size:
                return bytes(file.contents)
            digest = Digest.parse(f"sha256:{file.digest.hash}")
            return read_verified(server, Descriptor(OCTET_STREAM, digest, size), ENTRY_LIMIT)
    raise FormatError("gives a result without the file that says what it is")


def _fetch(server: Server, blob: Descriptor, store: Store) -> None:
    """Have ``store`` have a blob; raise ImageError where it is missing there or wrong."""
    with store.writer() as writer:
        copy_verified(server, blob, writer)
        writer.commit(blob.media_type, blob.digest)
