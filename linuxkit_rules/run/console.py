"""A machine's serial console: read by a thread, searched by pattern."""

from __future__ import annotations

import codecs
import re
import socket
import threading

from linuxkit_rules.errors import RunError

_NOISE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[^\[]|[\r\0]")  # ECMA-48 control sequences
_UNFINISHED = re.compile(r"\x1b(\[[0-?]*[ -/]*)?\Z")


class Console:
    """What comes out of ``stream``, as text without carriage returns and terminal control sequences.

    ``expect`` moves through the text as it matches; ``text`` always is all of it.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._pending = ""
        self._seen = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """All that was written so far."""
        with self._changed:
            return self._text

    def send(self, text: str) -> None:
        """Type ``text``; raise RunError where the machine has gone."""
        try:
            self._stream.sendall(text.encode())
        except OSError as error:
            raise RunError(f"the console is closed: {error.strerror}") from error

    def expect(self, pattern: str, timeout: float) -> re.Match[str]:
        """Wait until ``pattern`` (multi-line) occurs after the last match; ``timeout`` is in seconds.

        Raise RunError with the last lines where it does not occur.
        """
        regex = re.compile(pattern, re.MULTILINE)
        with self._changed:
            match: re.Match[str] | None = None

            def arrived() -> bool:
                nonlocal match
                match = regex.search(self._text, self._seen)
                return match is not None or self._closed

            self._changed.wait_for(arrived, timeout)
            if match is None:
                why = (
                    "the machine ended before" if self._closed else f"{timeout:g} seconds were not enough for"
                )
                raise RunError(f"{why} {pattern!r} on the console\n{self.tail()}")
            self._seen = match.end()
            return match

    def tail(self, lines: int = 40) -> str:
        """Give the last lines, each marked as the console's."""
        with self._changed:
            return "\n".join(f"  | {line}" for line in self._text.splitlines()[-lines:])

    def join(self, timeout: float) -> None:
        """Wait until everything has been read."""
        self._thread.join(timeout)

    def _read(self) -> None:
        while data := self._receive():
            self._feed(self._decoder.decode(data))
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _receive(self) -> bytes:
        try:
            return self._stream.recv(1 << 16)
        except OSError:
            return b""

    def _feed(self, text: str) -> None:
        text = self._pending + text
        cut = _UNFINISHED.search(text)
        end = cut.start() if cut else len(text)
        self._pending = text[end:]
        with self._changed:
            self._text += _NOISE.sub("", text[:end])
            self._changed.notify_all()
