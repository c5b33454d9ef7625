"""Stages that bring an image into the store, from a registry, a layout or an archive.

Each gives the descriptor of a normalised OCI manifest (``oci/image.py``) and refers to the configuration and
the layers, as plain tar.  A layer is a step of its own, remembered by its digests: images that share layers
fetch and unpack them once, wherever they come from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError, ImageError, LinuxKitError, StoreError
from linuxkit_rules.formats.compression import decompressed
from linuxkit_rules.oci.archive import ArchiveFiles, DockerArchive
from linuxkit_rules.oci.image import choose, diff_ids, save
from linuxkit_rules.oci.layout import Layout
from linuxkit_rules.oci.manifest import LAYER, Platform
from linuxkit_rules.oci.origin import Origin, copy_verified, naming, read_verified
from linuxkit_rules.oci.reference import ArchiveSource, LayoutSource, Reference
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result

WORKERS = 4
"""How many blobs of an image are fetched at once."""


@dataclass(frozen=True)
class FetchLayer(Stage):
    """One layer: fetched, verified, unpacked to plain tar, verified against its diff_id.

    No inputs.  ``origin`` only says where to fetch from; ``image`` is what messages call the image.
    """

    name: ClassVar[str] = "fetch-layer"
    version: ClassVar[int] = 1
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
        with work.store.scratch() as path, path.open("w+b") as packed:
            with naming(self.image or self.origin.name, self.origin):
                copy_verified(self.origin, Descriptor(LAYER, self.digest, self.size), packed)
            packed.seek(0)
            with work.store.writer() as writer:
                try:
                    for piece in decompressed(packed, work.limits):
                        writer.write(piece)
                    return Result(writer.commit(LAYER, self.diff_id))
                except FormatError as error:
                    raise ImageError(error.message, where=where, hint=error.hint) from error
                except StoreError as error:
                    raise ImageError(f"unpacked, {error.message}", where=where) from error


@dataclass(frozen=True)
class ImageStage(Stage):
    """A stage that brings an image: it knows where the blobs are."""

    @abstractmethod
    def opened(self, inputs: Inputs, work: Engine) -> AbstractContextManager[tuple[Origin, Descriptor]]:
        """Open the place; give it and the manifest or index that is meant there.

        Raises ImageError where there is none, NetworkError where a registry cannot be asked.
        """


@dataclass(frozen=True)
class PullImage(ImageStage):
    """An image of a registry.  A tag is asked for once; what it meant then stays, until the store forgets it.

    No inputs.
    """

    name: ClassVar[str] = "pull-image"
    version: ClassVar[int] = 1
    reference: str
    arch: str

    def label(self) -> str:
        """What is fetched."""
        return self.reference

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch, verify, normalise; raise ImageError or NetworkError."""
        with self.opened(inputs, work) as (origin, top):
            return _bring(origin, top, self.arch, work, self.label())

    @contextmanager
    def opened(self, inputs: Inputs, work: Engine) -> Iterator[tuple[Origin, Descriptor]]:
        """Ask the registry what the reference means."""
        with work.access.registry(Reference.parse(self.reference)) as registry:
            yield registry, registry.resolve()


@dataclass(frozen=True)
class LayoutImage(ImageStage):
    """The image or index ``digest`` of an OCI layout.  No inputs; where the layout lies does not matter."""

    name: ClassVar[str] = "layout-image"
    version: ClassVar[int] = 1
    digest: Digest
    size: int
    media_type: str
    arch: str
    directory: Path = field(compare=False)
    reference: str = field(default="", compare=False)

    def label(self) -> str:
        """What is fetched."""
        return self.reference or str(self.digest)

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch, verify, normalise; raise ImageError or NetworkError."""
        with self.opened(inputs, work) as (origin, top):
            return _bring(origin, top, self.arch, work, self.label())

    @contextmanager
    def opened(self, inputs: Inputs, work: Engine) -> Iterator[tuple[Origin, Descriptor]]:
        """Give the layout and the descriptor that its index had."""
        yield Layout.at(self.directory), Descriptor(self.media_type, self.digest, self.size)


@dataclass(frozen=True)
class ArchiveImage(ImageStage):
    """An image of a Docker or OCI archive.  Input ``archive``: the file.  ``ref`` ``""`` is the only one."""

    name: ClassVar[str] = "archive-image"
    version: ClassVar[int] = 1
    form: Literal["docker", "oci"]
    ref: str
    arch: str
    file: str = field(default="archive", compare=False)

    def label(self) -> str:
        """What is fetched."""
        return self.file

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch, verify, normalise; raise ImageError or NetworkError."""
        with self.opened(inputs, work) as (origin, top):
            return _bring(origin, top, self.arch, work, self.label())

    @contextmanager
    def opened(self, inputs: Inputs, work: Engine) -> Iterator[tuple[Origin, Descriptor]]:
        """Index the archive and find the image."""
        (archive,) = inputs["archive"]
        files = ArchiveFiles(work.store, archive, self.file, work.limits)
        if self.form == "docker":
            docker = DockerArchive(files, self.ref, work.limits)
            yield docker, docker.top
        else:
            layout = Layout(files)
            yield layout, layout.find_ref(self.ref)


@dataclass(frozen=True, slots=True)
class Resolved:
    """How to get an image: the stage, and the local file that is its input ``archive``, if it has one."""

    stage: Stage
    archive: Path | None = None


def resolve(
    source: Reference | LayoutSource | ArchiveSource, arch: str, layouts: Sequence[Layout], base: Path
) -> Resolved:
    """Say which stage gives the image for Debian's architecture name ``arch``, at planning time.

    A reference is looked for in ``layouts`` first, in their order, by its full name; else it comes from its
    registry.  Relative paths start at ``base``.  Reads indexes of layouts only; raises ImageError where a
    layout has no such image.
    """
    if isinstance(source, ArchiveSource):
        stage = ArchiveImage(source.form, source.ref, arch, source.file)
        return Resolved(stage, base / source.file)
    if isinstance(source, LayoutSource):
        layout = Layout.at(base / source.directory)
        return Resolved(_layout_image(layout, layout.find_ref(source.ref), arch, str(source)))
    for layout in layouts:
        found = layout.find(source)
        if found is not None:
            return Resolved(_layout_image(layout, found, arch, str(source)))
    return Resolved(PullImage(str(source), arch))


def _layout_image(layout: Layout, top: Descriptor, arch: str, reference: str) -> LayoutImage:
    return LayoutImage(top.digest, top.size, top.media_type, arch, Path(layout.name), reference)


def _bring(origin: Origin, top: Descriptor, arch: str, work: Engine, where: str) -> Result:
    """Fetch the image for ``linux/<arch>`` below ``top`` and store it in the one form."""
    platform, limits = Platform("linux", arch), work.limits
    with naming(where, origin):
        manifest = choose(origin, top, platform, where, limits)
    if sum(layer.size for layer in manifest.layers) > limits.image:
        raise limits.excess("image", "layers of many bytes", ImageError, where)
    with naming(where, origin):
        config = read_verified(origin, manifest.config, limits.document)
    ids = diff_ids(config, manifest, platform, where)
    stages = [
        FetchLayer(layer.digest, layer.size, diff_id, origin, where)
        for layer, diff_id in zip(manifest.layers, ids, strict=True)
    ]
    return save(work.store, config, tuple(_fetched(stages, work, where)))


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
