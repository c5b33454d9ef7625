"""The memory of stages: which digests came out of which recipe.

An entry is a small JSON file ``entries/<key>`` beside the blobs: the descriptor that the stage gave, and
those of the other blobs that it refers to.  An entry one of whose blobs has gone is a miss.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import FormatError
from linuxkit_rules.store.blobs import Store


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage gives: its ``output``, and the blobs ``refers`` that the output names and needs."""

    output: Descriptor
    refers: tuple[Descriptor, ...] = ()


class Memory:
    """Entries of one store, by key (64 hex digits: the sha256 of a recipe)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries = store.root / "entries"

    def get(self, key: str) -> Result | None:
        """Give what the recipe ``key`` gave, or None where that is not known or no longer there whole."""
        try:
            value = json.loads((self._entries / key).read_bytes())
            refers = tuple(Descriptor.from_json(item) for item in value["refers"])
            result = Result(Descriptor.from_json(value["output"]), refers)
        except (OSError, ValueError, KeyError, TypeError, FormatError):
            return None
        return result if self.whole(result) else None

    def put(self, key: str, result: Result) -> None:
        """Remember ``result``; raise StoreError where it cannot be written."""
        value = {"output": result.output.to_json(), "refers": [item.to_json() for item in result.refers]}
        with self._store.scratch() as path:
            path.write_bytes(canonical_json(value))
            self._entries.mkdir(exist_ok=True)
            os.replace(path, self._entries / key)  # noqa: PTH105 - Path.replace would hide the pair of names

    def whole(self, result: Result) -> bool:
        """Whether every blob of ``result`` is in the store."""
        return all(self._store.has(item) for item in (result.output, *result.refers))
