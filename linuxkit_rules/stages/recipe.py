"""A step as a document, for a machine that has nothing but this package and the blobs that the step needs.

The document is canonical JSON: ``stage`` and its ``fields``, ``inputs`` (role to descriptors), ``limits``,
and the ``key`` that the sender has computed.  Who reads it computes the key anew: where that differs, the two
machines would not make the same bytes.  Fields that decide no bytes, as names in messages, are not in it.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError, LinuxKitError, one_line
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.oci.manifest import MANIFEST, Manifest, parse
from linuxkit_rules.stages.stage import Inputs, Stage, as_json, key
from linuxkit_rules.stages.unpack import LAYER_INDEX, TAR
from linuxkit_rules.stages.whole import WHOLE_IMAGE, read_whole
from linuxkit_rules.store.blobs import OCTET_STREAM, Store
from linuxkit_rules.store.pieces import contents, is_list
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    from cattrs import Converter

ROOM = "linuxkit_rules.stages"
_LINE = 4096
"""Bytes of an index's first line that are read, at most."""


class StrangeRecipeError(LinuxKitError):
    """A recipe is one of another version of this package or of a compressor, or none for workers."""


@dataclass(frozen=True)
class Recipe:
    """A stage, its inputs and the limits of images: what ``key`` is computed from."""

    stage: Stage
    inputs: Inputs
    limits: Limits = DEFAULT_LIMITS

    @property
    def key(self) -> str:
        """The recipe's key, 64 hex digits."""
        return key(self.stage, self.inputs, self.limits)

    def to_bytes(self) -> bytes:
        """Give the document, the same bytes for equal recipes.

        Media types of inputs are in it, as they say how blobs are read, though they are no part of the key.
        """
        value = {
            "stage": self.stage.name,
            "fields": as_json(self.stage),
            "inputs": {role: [item.to_json() for item in items] for role, items in self.inputs.items()},
            "limits": self.limits.changed(),
            "key": self.key,
        }
        return canonical_json(value)

    @classmethod
    def parse(cls, data: bytes) -> Recipe:
        """Read a document; raise StrangeRecipeError where this package would not make of it what is meant."""
        try:
            value = json.loads(data)
            stage = _converter().structure(value["fields"], _stages()[value["stage"]])
            inputs = {
                role: tuple(Descriptor.from_json(item) for item in items)
                for role, items in value["inputs"].items()
            }
            if as_json(stage) != value["fields"]:  # such as places of files, which decide no bytes
                raise FormatError("there are fields that are no part of a recipe")
            limits = _converter().structure(value["limits"], Limits)
            recipe, meant = cls(stage, inputs, limits), value["key"]
        except Exception as error:  # whatever a converter raises for a document that is not ours
            raise StrangeRecipeError(f"the recipe cannot be read: {one_line(repr(error))}") from error
        if not stage.is_remote():
            raise StrangeRecipeError(f"the stage {stage.name} is no work for another machine")
        if recipe.key != meant:
            message = f"the recipe of the stage {stage.name} has the key {recipe.key} here, not {meant}"
            raise StrangeRecipeError(message, hint="use the same versions of this package and its libraries")
        return recipe

    def needed(self, store: Store) -> tuple[Descriptor, ...]:
        """Give all blobs that the stage may read: inputs, and what they refer to; by digest, each once.

        Raises DamagedError where one that has to be read for that is missing, and ImageError or FormatError.
        """
        found: dict[Digest, Descriptor] = {}
        for blob in (item for items in self.inputs.values() for item in items):
            found.update((each.digest, each) for each in (blob, *below(blob, store)))
        return tuple(found[digest] for digest in sorted(found))


def below(blob: Descriptor, store: Store) -> tuple[Descriptor, ...]:
    """Give what a blob refers to, told by its media type.

    Raises DamagedError where it has to be read and is missing, FormatError or ImageError where it is not
    what its media type says: workers and caches may have made it.
    """
    try:
        return tuple(_below(blob, store))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("is not what its media type says", where=f"blob {blob.digest}") from error


def _below(blob: Descriptor, store: Store) -> Iterator[Descriptor]:
    if is_list(blob):
        for piece in contents(store, blob):
            yield Descriptor(OCTET_STREAM, piece.digest, store.size(piece.digest))
    elif blob.media_type in _REFERRING:
        yield from _REFERRING[blob.media_type](blob, store)


def _of_manifest(blob: Descriptor, store: Store) -> Iterator[Descriptor]:
    manifest = parse(store.read(blob.digest), blob.media_type, str(blob.digest))
    if isinstance(manifest, Manifest):
        yield from (manifest.config, *manifest.layers)


def _of_whole_image(blob: Descriptor, store: Store) -> Iterator[Descriptor]:
    yield from read_whole(blob, store)[1]


def _of_index(blob: Descriptor, store: Store) -> Iterator[Descriptor]:
    with store.open(blob.digest) as file:
        digest = Digest.parse(json.loads(file.readline(_LINE))["tar"])
    yield Descriptor(TAR, digest, store.size(digest))


_REFERRING: dict[str, Callable[[Descriptor, Store], Iterator[Descriptor]]] = {
    MANIFEST: _of_manifest,
    WHOLE_IMAGE: _of_whole_image,
    LAYER_INDEX: _of_index,
}
"""Media types of the documents that stages take and that name other blobs, besides lists of pieces."""


def stages() -> Iterator[type[Stage]]:
    """Give every stage of this package that can be run."""
    for module in pkgutil.iter_modules(importlib.import_module(ROOM).__path__):
        importlib.import_module(f"{ROOM}.{module.name}")
    waiting = list(Stage.__subclasses__())
    while waiting:
        found = waiting.pop()
        waiting += found.__subclasses__()
        if found.__module__.startswith(f"{ROOM}.") and "name" in vars(found):
            yield found


@cache
def _stages() -> dict[str, type[Stage]]:
    return {stage.name: stage for stage in stages()}


@cache
def _converter() -> Converter:
    """Give what reads the values that ``as_json`` writes, and refuses fields that it does not know."""
    from cattrs import Converter

    def strict(value: Any, kind: type[Any]) -> Any:
        if type(value) is not kind:
            raise FormatError(f"{value!r} is no {kind.__name__}")
        return value

    converter = Converter(forbid_extra_keys=True, detailed_validation=False)
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, strict)
    converter.register_structure_hook(Digest, lambda value, _: Digest.parse(value))
    converter.register_structure_hook(bytes, lambda value, _: bytes.fromhex(value))
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and issubclass(kind, PurePath), lambda value, kind: kind(value)
    )
    return converter
