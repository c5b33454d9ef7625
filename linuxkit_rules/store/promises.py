"""Blobs that are not here yet: a remote cache has them, and they come when somebody reads them.

What a step gave on another machine is known by digests.  Most of it nobody asks for: of an image whose every
step is known, the last one's blobs alone.  A *promise* is a small file, ``promises/<place>/<hex>``, that
holds the blob's descriptor.  One that cannot be kept is dropped, and the blob is then what any lost blob is:
made again.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Protocol

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.store.scratch import write_fixed
from linuxkit_rules.store.usage import Usage, cannot_write

PROMISES = "promises"


class Source(Protocol):
    """A place that keeps blobs for stores of many machines.  Threads call it at the same time."""

    @property
    def place(self) -> str:
        """A file's name that stands for the place: what one promises, another does not keep."""

    @property
    def answers(self) -> bool:
        """Whether it is worth asking."""

    def fetch(self, blob: Descriptor, out: SupportsWrite) -> bool:
        """Write ``blob`` to ``out``, verified; no where it cannot be had: ``out`` may have got bytes."""


class Promises:
    """What ``source`` has for the store at ``root``; ``usage`` notes that a promise was counted on."""

    def __init__(self, root: Path, source: Source, usage: Usage) -> None:
        self.source = source
        self._root = root
        self._folder = root / PROMISES / source.place
        self._usage = usage

    def add(self, blob: Descriptor) -> None:
        """Note that the source has ``blob``; raise StoreError where that cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_fixed(self._folder / blob.digest.hex, canonical_json(blob.to_json()))
        except OSError as error:
            raise cannot_write(self._root, error) from error

    def holds(self, blob: Descriptor) -> bool:
        """Whether ``blob``, with this size, can be had as far as is known; nobody is asked."""
        found = self.find(blob.digest)
        return found is not None and found.size == blob.size

    def find(self, digest: Digest) -> Descriptor | None:
        """Give the descriptor of a promised blob, None where there is no promise or nobody to keep it."""
        path = self._folder / digest.hex
        if not self.source.answers:
            return None
        try:
            blob = Descriptor.from_json(json.loads(path.read_bytes()))
            kept = self._usage.keeps(path, path.stat().st_mtime)
        except (OSError, ValueError, FormatError):
            return None
        return blob if kept and blob.digest == digest else None

    def drop(self, digest: Digest) -> None:
        """Forget a promise that was not kept."""
        with contextlib.suppress(OSError):
            (self._folder / digest.hex).unlink(missing_ok=True)
