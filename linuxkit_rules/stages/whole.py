"""Stage ``whole-image``: the blobs of an image as they are where it comes from, for all platforms or some.

Other stages want one platform's image, its layers as plain tar; this one copies indexes, manifests,
configurations and layers byte for byte, verified by size and digest, whatever they hold.  Attestations and
other artefacts that an index names are copied too, unless platforms are chosen.  A chosen index keeps naming
the manifests that are left out: it would have another digest otherwise.

The output is JSON: ``{"top": descriptor, "blobs": [descriptor …]}``, the blobs by digest, the top among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import field
from typing import ClassVar

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import ImageError
from linuxkit_rules.formats.limits import Limits
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.manifest import (
    INDEXES,
    MANIFESTS,
    Index,
    Manifest,
    Member,
    Platform,
    load_object,
    parse,
    read_platform,
)
from linuxkit_rules.oci.origin import Origin
from linuxkit_rules.stages.fetch import WORKERS
from linuxkit_rules.stages.image import ImageStage
from linuxkit_rules.stages.join import whole
from linuxkit_rules.stages.obtain import document, obtain
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

WHOLE_IMAGE = "application/vnd.linuxkit-rules.whole-image.v1+json"
"""Media type of the stage's output."""

_DEPTH = 4


@dataclass(frozen=True)
class WholeImage(Stage):
    """Copies what ``source`` brings, with its inputs; without one, the input ``image``, already in the store.

    ``platforms`` chooses images by what they run on; empty, all there is.  ``shown`` is what messages call
    the image.
    """

    name: ClassVar[str] = "whole-image"
    version: ClassVar[int] = 2
    source: ImageStage | None = None
    platforms: tuple[Platform, ...] = ()
    shown: str = field(default="image", compare=False)

    def label(self) -> str:
        """What is copied."""
        return self.shown

    def is_shared(self) -> bool:
        """As its source is."""
        return self.source is None or self.source.is_shared()

    def is_remote(self) -> bool:
        """Not where it has to bring the image."""
        return self.source is None

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Copy and verify; raise ImageError, also where a platform is missing, or NetworkError."""
        with self._opened(inputs, work) as (origin, top):
            tree = _Tree(origin, work.store, self.platforms, self.shown, work.limits)
            tree.gather(top)
            if (size := sum(item.size for item in tree.blobs)) > work.limits.image:
                raise work.limits.excess("image", f"blobs of {size} bytes", ImageError, self.shown)
            _fetch(origin, tree.blobs, work.store)
        blobs = tuple(sorted(tree.blobs, key=lambda item: item.digest))
        value = {"top": top.to_json(), "blobs": [item.to_json() for item in blobs]}
        return Result(work.store.put(canonical_json(value), WHOLE_IMAGE), blobs)

    def _opened(self, inputs: Inputs, work: Engine) -> AbstractContextManager[tuple[Origin, Descriptor]]:
        if self.source is not None:
            return self.source.opened(inputs, work)
        (image,) = inputs["image"]
        return nullcontext((StoreOrigin(work.store), image))


def read_whole(output: Descriptor, store: Store) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Give the top and all blobs of what ``WholeImage`` gave; raise StoreError where that is gone."""
    value = json.loads(store.read(output.digest))
    return Descriptor.from_json(value["top"]), tuple(Descriptor.from_json(item) for item in value["blobs"])


class StoreOrigin:
    """The store as an origin of blobs."""

    name = "the store"

    def __init__(self, store: Store) -> None:
        self._store = store

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write the blob to ``out``."""
        self._store.copy(whole(descriptor), out)


class _Tree:
    """What hangs below a manifest or index, as far as it is wanted."""

    def __init__(
        self, origin: Origin, store: Store, wanted: tuple[Platform, ...], where: str, limits: Limits
    ) -> None:
        self._origin = origin
        self._store = store
        self._limits = limits
        self._wanted = wanted
        self._where = where
        self._there: list[Platform] = []
        self._blobs: dict[Digest, Descriptor] = {}
        self._documents: dict[Descriptor, bytes] = {}

    @property
    def blobs(self) -> Iterable[Descriptor]:
        """Everything, each blob once."""
        return self._blobs.values()

    def gather(self, top: Descriptor) -> None:
        """Find everything; raise ImageError where a document is not sound, or a platform is missing."""
        value = self._parsed(top)
        if isinstance(value, Manifest) and self._wanted:
            self._there.append(self._platform(value))
        self._add(top, value, 0)
        missing = [item for item in self._wanted if not any(item.runs(other) for other in self._there)]
        if missing:
            names = ", ".join(map(str, missing))
            there = ", ".join(dict.fromkeys(map(str, self._there))) or "none"
            raise ImageError(f"there is no image for {names}; there are: {there}", where=self._where)

    def _add(self, item: Descriptor, value: Manifest | Index, depth: int) -> None:
        if depth > _DEPTH:
            raise ImageError(f"indexes are nested more than {_DEPTH} deep", where=self._where)
        self._blobs[item.digest] = item
        if isinstance(value, Manifest):
            if len(value.layers) > self._limits.layers:
                raise self._limits.excess("layers", f"{len(value.layers)} layers", ImageError, self._where)
            for blob in (value.config, *value.layers):
                self._blobs.setdefault(blob.digest, blob)
            return
        for member in self._chosen(value):
            below = member.descriptor
            if below.digest in self._blobs:
                continue
            if below.media_type in INDEXES + MANIFESTS:
                self._add(below, self._parsed(below), depth + 1)
            else:
                self._blobs[below.digest] = below

    def _chosen(self, index: Index) -> Iterator[Member]:
        """Give the members that are wanted: for each platform the best one; of attestations none."""
        if not self._wanted:
            yield from index.members
            return
        images = [(member, self._runs_on(member)) for member in index.members if member.is_image]
        there = [platform for _, platform in images if platform]
        self._there += there
        best = {item.best(there) for item in self._wanted}
        yield from (member for member, platform in images if platform is None or platform in best)

    def _runs_on(self, member: Member) -> Platform | None:
        """Give what an image runs on; None for an index that does not say, which is to be looked into."""
        if member.platform is not None:
            return member.platform
        value = self._parsed(member.descriptor)
        return None if isinstance(value, Index) else self._platform(value)

    def _platform(self, manifest: Manifest) -> Platform:
        """Give what the manifest's configuration says that the image runs on."""
        where = f"{self._where}: {manifest.config.digest}"
        return read_platform(load_object(self._read(manifest.config), where), where)

    def _parsed(self, item: Descriptor) -> Manifest | Index:
        return parse(self._read(item), item.media_type, f"{self._where}: {item.digest}")

    def _read(self, item: Descriptor) -> bytes:
        if item not in self._documents:
            self._documents[item] = document(self._origin, item, self._store, self._limits.document)
        return self._documents[item]


def _fetch(origin: Origin, blobs: Iterable[Descriptor], store: Store) -> None:
    """Copy blobs into the store; raise ImageError where one is not what its descriptor says."""
    with ThreadPoolExecutor(WORKERS) as pool:
        tasks = [pool.submit(copy_context().run, obtain, origin, blob, store) for blob in blobs]
        for task in tasks:
            task.result()
