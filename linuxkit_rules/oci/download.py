"""A blob that is fetched, and goes on where it broke off (RFC 9110, 14: Range requests)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import ImageError, NetworkError, one_line
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.origin import WrongContentError
from linuxkit_rules.oci.place import Place
from linuxkit_rules.oci.retry import PassingError, Patience
from linuxkit_rules.oci.transport import drop, shown

if TYPE_CHECKING:
    import requests

_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")


class Download:
    """A blob on its way to ``out``: what has come stays, from whichever place.

    ``advance`` hears how many bytes came.  Nothing here looks at the content; who owns ``out`` verifies it.
    """

    def __init__(self, descriptor: Descriptor, out: SupportsWrite, advance: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._out = out
        self._advance = advance
        self.size = 0
        self._etag = ""
        self._ranges = True
        self._where = ""

    def fetch(self, place: Place) -> None:
        """Fetch what is missing, asking again after faults that may pass.

        Raises ImageError where the place does not have the blob, or another one; NetworkError where it does
        not answer as it should.
        """
        self._etag, self._ranges = "", True
        self._where = f"{place.where}: {self._descriptor.digest}"
        patience = Patience(place.transport.network.pauses, place.attempts)
        while self.size < self._descriptor.size:
            before = self.size
            try:
                self._part(place)
            except PassingError as error:
                error.where = error.where or place.where
                if self.size > before:
                    patience.progress()
                patience.pause(error)

    def _part(self, place: Place) -> None:
        """Ask once for the rest, and take what comes; raise PassingError where it is not all."""
        start = self.size if self._ranges else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and self._etag:
            headers["If-Range"] = self._etag
        path = f"blobs/{self._descriptor.digest}"
        answer = place.ask(path, "*/*", headers)
        if answer.status_code not in (200, 206) or (answer.status_code == 206 and not start):
            drop(answer)
            if answer.status_code == 416:
                self._without_ranges(answer, "refuses to go on where it broke off")
            raise place.failure(answer, path)
        with answer:
            place.check_encoding(answer)
            self._check_length(answer, self._descriptor.size - (start if answer.status_code == 206 else 0))
            skip = 0 if self._continues(answer, start) else self.size
            etag = answer.headers.get("ETag", "")
            self._etag = etag if etag.startswith('"') else ""
            self._take(place, answer, skip)

    def _continues(self, answer: requests.Response, start: int) -> bool:
        """Whether the body goes on where we are; else it is the whole."""
        if answer.status_code == 200:
            return False
        match = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != start or match[3] not in ("*", str(self._descriptor.size)):
            said = one_line(answer.headers.get("Content-Range", "nothing"))
            self._without_ranges(answer, f"answers with another range than asked for: {said}")
        return True

    def _without_ranges(self, answer: requests.Response, what: str) -> None:
        """Let the next try ask for the whole."""
        self._ranges = False
        raise PassingError(f"{shown(answer.url)} {what}")

    def _take(self, place: Place, answer: requests.Response, skip: int) -> None:
        """Write the body but for its first ``skip`` bytes, which are there already."""
        for block in place.transport.blocks(answer):
            fresh = block[skip:] if skip else block
            skip = max(0, skip - len(block))
            if self.size + len(fresh) > self._descriptor.size:
                raise self._too_long()
            if fresh:
                self._out.write(fresh)
                self.size += len(fresh)
                self._advance(len(fresh))
        if self.size < self._descriptor.size:
            raise PassingError(f"{shown(answer.url)} ends after {self.size} of {self._descriptor.size} bytes")

    def _check_length(self, answer: requests.Response, expected: int) -> None:
        """Refuse a body that is announced with another length than the blob's, before a byte is read."""
        text = answer.headers.get("Content-Length", "")
        if not text:
            return
        if not (text.isascii() and text.isdigit()):
            raise NetworkError(f"{shown(answer.url)} gives no length: {one_line(text)}")
        if int(text[:20]) > expected:
            raise self._too_long()
        if int(text[:20]) < expected:
            got = self._descriptor.size - expected + int(text[:20])
            message = f"ends after {got} bytes where {self._descriptor.size} were expected"
            raise WrongContentError(message, where=self._where)

    def _too_long(self) -> ImageError:
        message = f"is longer than the {self._descriptor.size} bytes it should have"
        return WrongContentError(message, where=self._where)
