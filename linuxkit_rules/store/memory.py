"""The memory of stages: which digests came out of which recipe.

An entry is a small JSON file ``entries/<key>`` beside the blobs: the descriptor that the stage gave, those of
the other blobs that it refers to, and for people the stage and what it worked on.  An entry one of whose
blobs has gone, and is not promised by a remote cache, is a miss.
"""

from __future__ import annotations

import json
import os

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import FormatError
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.usage import cannot_write
from linuxkit_rules.values import dataclass

ENTRIES = "entries"


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage gives: its ``output``, and the blobs ``refers`` that the output names and needs."""

    output: Descriptor
    refers: tuple[Descriptor, ...] = ()

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All of them, the output first."""
        return (self.output, *self.refers)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered: a result, and the ``stage`` and ``label`` of the step (``""`` in old entries)."""

    result: Result
    stage: str = ""
    label: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Entry:
        """Read an entry's file; raise FormatError where it is damaged."""
        try:
            value = json.loads(data)
            refers = tuple(Descriptor.from_json(item) for item in value["refers"])
            result = Result(Descriptor.from_json(value["output"]), refers)
            return cls(result, str(value.get("stage", "")), str(value.get("label", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError("an entry of the store is damaged") from error

    def to_bytes(self) -> bytes:
        """Give the file's bytes."""
        value = {
            "output": self.result.output.to_json(),
            "refers": [item.to_json() for item in self.result.refers],
            "stage": self.stage,
            "label": self.label,
        }
        return canonical_json(value)


class Memory:
    """Entries of one store, by key (64 hex digits: the sha256 of a recipe)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries = store.root / ENTRIES

    def get(self, key: str) -> Result | None:
        """Give what the recipe ``key`` gave, or None where that is not known or no longer there whole."""
        path = self._entries / key
        try:
            result = Entry.parse(path.read_bytes()).result
            if not self.whole(result):
                return None
            self._store.usage.keeps(path, path.stat().st_mtime)
        except (OSError, FormatError):
            return None
        return result

    def put(self, key: str, result: Result, stage: str = "", label: str = "") -> None:
        """Remember ``result``; raise StoreError where it cannot be written."""
        with self._store.scratch() as path:
            path.write_bytes(Entry(result, stage, label).to_bytes())
            try:
                self._entries.mkdir(exist_ok=True)
                os.replace(path, self._entries / key)  # noqa: PTH105 - Path.replace would hide the pair of names
            except OSError as error:
                raise cannot_write(self._store.root, error) from error

    def whole(self, result: Result) -> bool:
        """Whether every blob of ``result`` is promised or here; what is here stays while this runs."""
        return all(self._store.can_have(item) for item in result.blobs)
