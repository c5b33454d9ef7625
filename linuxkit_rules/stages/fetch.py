"""Stage ``fetch-layer``, and how the stages of ``image.py`` bring an image with it.

A layer is a step of its own, remembered by its digests: images that share layers fetch and unpack them once,
wherever they come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import field
from typing import BinaryIO, ClassVar

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError, ImageError, LinuxKitError, StoreError
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.compression import decompressed
from linuxkit_rules.oci.archive import DockerArchive
from linuxkit_rules.oci.image import choose, diff_ids, save
from linuxkit_rules.oci.layout import Layout
from linuxkit_rules.oci.manifest import LAYER, Platform
from linuxkit_rules.oci.origin import Origin, copy_verified, naming
from linuxkit_rules.oci.pins import HINT, ImagePin
from linuxkit_rules.stages.obtain import document, obtain
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

WORKERS = 4
"""How many blobs of an image are fetched at once."""


@dataclass(frozen=True)
class FetchLayer(Stage):
    """One layer: fetched, verified, unpacked to plain tar, verified against its diff_id.

    No inputs.  ``origin`` only says where to fetch from, ``image`` what messages call the image.
    """

    name: ClassVar[str] = "fetch-layer"
    version: ClassVar[int] = 2
    digest: Digest
    size: int
    diff_id: Digest
    origin: Origin = field(compare=False, repr=False)
    image: str = field(default="", compare=False)

    def label(self) -> str:
        """What is fetched."""
        return f"{self.origin.name} {self.digest.hex[:12]}"

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch, verify, unpack, verify; raise ImageError or NetworkError."""
        where = f"{self.image or self.origin.name}: layer {self.digest}"
        with self._packed(work.store) as packed, work.store.writer() as writer:
            try:
                for piece in decompressed(packed, work.limits):
                    writer.write(piece)
                return Result(writer.commit(LAYER, self.diff_id))
            except FormatError as error:
                raise ImageError(error.message, where=where, hint=error.hint) from error
            except StoreError as error:
                raise ImageError(f"unpacked, {error.message}", where=where) from error

    @contextmanager
    def _packed(self, store: Store) -> Iterator[BinaryIO]:
        """Open the layer as it is where it comes from.

        What a registry gave stays in the store, though no entry names it: another process may want it as it
        is, for a volume that holds the image.  ``gc`` drops it.
        """
        layer = Descriptor(LAYER, self.digest, self.size)
        with naming(self.image or self.origin.name, self.origin):
            if not isinstance(self.origin, (Layout, DockerArchive)):
                obtain(self.origin, layer, store)
        if store.has(layer):
            with store.open(layer.digest) as packed:
                yield packed
            return
        with store.scratch() as path, path.open("w+b") as packed:
            with naming(self.image or self.origin.name, self.origin):
                copy_verified(self.origin, layer, packed)
            note(written=layer.size)
            packed.seek(0)
            yield packed


def bring(
    origin: Origin, top: Descriptor, platform: Platform, work: Engine, where: str, pin: ImagePin | None = None
) -> Result:
    """Fetch the image for ``platform`` below ``top`` and store it in the one form (``oci/image.py``).

    The documents that led to it are kept beside it, so that a lock made later asks for none of them again.
    ``pin`` is what a lock says of the image, ``where`` its name in messages.  Raises ImageError or
    NetworkError.
    """
    limits = work.limits
    with naming(where, origin):
        chosen = choose(origin, top, platform, where, limits)
        if pin not in (None, chosen.pin):
            raise ImageError("the lock says something else of this image", where=where, hint=HINT)
        if sum(layer.size for layer in chosen.manifest.layers) > limits.image:
            raise limits.excess("image", "layers of many bytes", ImageError, where)
        config = document(origin, chosen.manifest.config, work.store, limits.document)
    ids = diff_ids(config, chosen.manifest, platform, where)
    documents = tuple(work.store.put(data, item.media_type) for item, data in chosen.documents)
    stages = [
        FetchLayer(layer.digest, layer.size, diff_id, origin, where)
        for layer, diff_id in zip(chosen.manifest.layers, ids, strict=True)
    ]
    image = save(work.store, config, tuple(_fetched(stages, work, where)))
    return Result(image.output, (*image.refers, *documents))


def _fetched(stages: Sequence[FetchLayer], work: Engine, where: str) -> Iterator[Descriptor]:
    """Give the layers as plain tar; raise ImageError where one is not sound, or they are too large."""
    contexts = [copy_context() for _ in stages]
    size = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for result in pool.map(lambda context, stage: context.run(work.run, stage, {}), contexts, stages):
                size += result.output.size
                if size > work.limits.image:
                    what = f"layers of {size} bytes uncompressed"
                    raise work.limits.excess("image", what, ImageError, where)
                yield result.output
        except LinuxKitError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
