"""Stages that bring an image into the store, from a registry, a layout or an archive.

Each gives the descriptor of a normalised OCI manifest (``oci/image.py``) and refers to the configuration, to
the layers, as plain tar, and to the documents that led to it.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError, SignatureError
from linuxkit_rules.oci.archive import ArchiveFiles, DockerArchive
from linuxkit_rules.oci.image import choose
from linuxkit_rules.oci.layout import Layout, LayoutRepository
from linuxkit_rules.oci.manifest import Platform
from linuxkit_rules.oci.origin import Origin
from linuxkit_rules.oci.pins import HINT, ImagePin, PinnedImage
from linuxkit_rules.oci.reference import ArchiveSource, LayoutSource, Reference
from linuxkit_rules.oci.signature import Place
from linuxkit_rules.oci.verify import Requirement
from linuxkit_rules.stages.fetch import bring
from linuxkit_rules.stages.obtain import store_first
from linuxkit_rules.stages.stage import WHERE_SET, Engine, Inputs, Stage
from linuxkit_rules.stages.verify import VerifySignature
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass


@dataclass(frozen=True)
class ImageStage(Stage):
    """A stage that brings an image: it knows where the blobs are, and who must have signed it (``trust``)."""

    trust: tuple[Requirement, ...] = field(default=(), kw_only=True, metadata=WHERE_SET)

    def is_shared(self) -> bool:
        """Not where signatures are asked for: they are verified here."""
        return not self.trust

    @abstractmethod
    def located(self, inputs: Inputs, work: Engine) -> AbstractContextManager[tuple[Origin, Descriptor]]:
        """Open the place; give it and the manifest or index that is meant there, unverified.

        Raises ImageError where there is none, NetworkError where a registry cannot be asked.
        """

    def signatures(self, work: Engine) -> AbstractContextManager[Place]:
        """Open the place where the image's signatures lie; raise SignatureError where there is none."""
        raise SignatureError("what is no reference has no signatures", where=self.label())

    @contextmanager
    def opened(
        self, inputs: Inputs, work: Engine, platform: Platform | None = None
    ) -> Iterator[tuple[Origin, Descriptor]]:
        """Open the place as ``located`` does, after the image has been found signed as it must be.

        Where one ``platform``'s image alone is wanted, its own signature counts as that of the index above.
        Raises SignatureError too.
        """
        with self.located(inputs, work) as (origin, top):
            self.check(origin, top, work, platform)
            yield origin, top

    def check(
        self, origin: Origin, top: Descriptor, work: Engine, platform: Platform | None = None
    ) -> tuple[Descriptor, ...]:
        """Check that what ``located`` gave is signed as it must be, for ``opened``, which see.

        Gives the outputs of ``VerifySignature``, one for each requirement.
        """
        return tuple(self._verified(item, origin, top, platform, work) for item in self.trust)

    def _verified(
        self,
        requirement: Requirement,
        origin: Origin,
        top: Descriptor,
        platform: Platform | None,
        work: Engine,
    ) -> Descriptor:
        def verified(image: Descriptor) -> Descriptor:
            stage = VerifySignature(image.digest, requirement, lambda: self.signatures(work), self.label())
            return work.run(stage, {}).output

        try:
            return verified(top)
        except SignatureError:
            if platform is None:
                raise
            below = choose(origin, top, platform, self.label(), work.limits).descriptor
            if below == top:
                raise
            with contextlib.suppress(SignatureError):
                return verified(below)
            raise


@dataclass(frozen=True)
class PullImage(ImageStage):
    """An image of a registry.  A tag is asked for once; what it meant then stays, until the store forgets it.

    No inputs.  ``top`` is what a lock says that the reference means: then nothing is asked for that the store
    has.  ``pin`` is what the lock says of the image for ``arch``.
    """

    name: ClassVar[str] = "pull-image"
    version: ClassVar[int] = 2
    reference: str
    arch: str
    top: Descriptor | None = field(default=None, metadata=WHERE_SET)
    pin: ImagePin | None = field(default=None, metadata=WHERE_SET)

    def label(self) -> str:
        """What is fetched."""
        return self.reference

    def is_shared(self) -> bool:
        """Not where a tag is yet to be asked for: what it means is the registry's to say."""
        settled = self.top is not None or Reference.parse(self.reference).digest is not None
        return super().is_shared() and settled

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch, verify, normalise; raise ImageError or NetworkError."""
        platform = Platform("linux", self.arch)
        with self.opened(inputs, work, platform) as (origin, top):
            return bring(origin, top, platform, work, self.label(), self.pin)

    @contextmanager
    def located(self, inputs: Inputs, work: Engine) -> Iterator[tuple[Origin, Descriptor]]:
        """Ask the registry what the reference means, unless a lock has said so."""
        reference = Reference.parse(self.reference)
        registry = partial(work.access.registry, reference)
        if self.top:
            with store_first(work.store, reference.repository, registry) as origin:
                yield origin, self.top
            return
        with registry() as place, store_first(work.store, place.name, lambda: nullcontext(place)) as origin:
            yield origin, place.resolve()

    def signatures(self, work: Engine) -> AbstractContextManager[Place]:
        """Open the image's repository."""
        return work.access.registry(Reference.parse(self.reference))


@dataclass(frozen=True)
class LayoutImage(ImageStage):
    """The image or index ``digest`` of an OCI layout.  No inputs; where the layout lies does not matter.

    ``pin`` is what a lock says of the image for ``arch``.
    """

    name: ClassVar[str] = "layout-image"
    version: ClassVar[int] = 2
    digest: Digest
    size: int
    media_type: str
    arch: str
    directory: Path = field(compare=False)
    reference: str = field(default="", compare=False)
    pin: ImagePin | None = field(default=None, metadata=WHERE_SET)

    def label(self) -> str:
        """What is fetched."""
        return self.reference or str(self.digest)

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch, verify, normalise; raise ImageError or NetworkError."""
        platform = Platform("linux", self.arch)
        with self.opened(inputs, work, platform) as (origin, top):
            return bring(origin, top, platform, work, self.label(), self.pin)

    @contextmanager
    def located(self, inputs: Inputs, work: Engine) -> Iterator[tuple[Origin, Descriptor]]:
        """Give the layout and the descriptor that its index had."""
        yield Layout.at(self.directory), Descriptor(self.media_type, self.digest, self.size)

    def signatures(self, work: Engine) -> AbstractContextManager[Place]:
        """Give what the layout has of the image's repository; no registry is asked."""
        return nullcontext(LayoutRepository(Layout.at(self.directory), Reference.parse(self.reference)))


@dataclass(frozen=True)
class ArchiveImage(ImageStage):
    """An image of a Docker or OCI archive.  Input ``archive``: the file.  ``ref`` ``""`` is the only one."""

    name: ClassVar[str] = "archive-image"
    version: ClassVar[int] = 2
    form: Literal["docker", "oci"]
    ref: str
    arch: str
    file: str = field(default="archive", compare=False)

    def label(self) -> str:
        """What is fetched."""
        return self.file

    def is_remote(self) -> bool:
        """The archive is all that it reads; but signatures are verified here."""
        return not self.trust

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch, verify, normalise; raise ImageError or NetworkError."""
        platform = Platform("linux", self.arch)
        with self.opened(inputs, work, platform) as (origin, top):
            return bring(origin, top, platform, work, self.label())

    @contextmanager
    def located(self, inputs: Inputs, work: Engine) -> Iterator[tuple[Origin, Descriptor]]:
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
    source: Reference | LayoutSource | ArchiveSource,
    arch: str,
    layouts: Sequence[Layout],
    base: Path,
    pinned: PinnedImage | None = None,
    trust: tuple[Requirement, ...] = (),
) -> Resolved:
    """Say which stage gives the image for Debian's architecture name ``arch``, at planning time.

    A reference is looked for in ``layouts`` first, in their order, by its full name, or by the digest that
    ``pinned`` says that it means; else it comes from its registry; ``trust`` says who must have signed it.
    Relative paths start at ``base``.  Reads indexes of layouts only; raises ImageError where a layout has no
    such image, or another one than the lock.
    """
    if isinstance(source, ArchiveSource):
        stage = ArchiveImage(source.form, source.ref, arch, source.file)
        return Resolved(stage, base / source.file)
    if isinstance(source, LayoutSource):
        layout = Layout.at(base / source.directory)
        return Resolved(_layout_image(layout, layout.find_ref(source.ref), arch, str(source)))
    pin = pinned.platforms.get(str(Platform("linux", arch))) if pinned else None
    wanted = source.with_digest(pinned.top.digest) if pinned else source
    for layout in layouts:
        found = layout.find(wanted)
        if found is not None:
            return Resolved(replace(_layout_image(layout, found, arch, str(source)), pin=pin, trust=trust))
    if pinned is None:
        return Resolved(PullImage(str(source), arch, trust=trust))
    _refuse_others(source, pinned, layouts)
    return Resolved(PullImage(str(source), arch, pinned.top, pin, trust=trust))


def _refuse_others(reference: Reference, pinned: PinnedImage, layouts: Sequence[Layout]) -> None:
    """Raise ImageError where a layout has another image under a locked name than the one locked."""
    for layout in layouts:
        found = layout.find(reference)
        if found is not None:
            message = f"the layout has {found.digest} as {reference}, the lock {pinned.top.digest}"
            raise ImageError(message, where=layout.name, hint=HINT)


def _layout_image(layout: Layout, top: Descriptor, arch: str, reference: str) -> LayoutImage:
    return LayoutImage(top.digest, top.size, top.media_type, arch, Path(layout.name), reference)
