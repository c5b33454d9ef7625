"""Locks the images of YAMLs: asks what each reference means now, and writes that down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import ErrorList, ImageError, LinuxKitError, PlatformError
from linuxkit_rules.oci.image import choose, diff_ids
from linuxkit_rules.oci.layout import Layout
from linuxkit_rules.oci.manifest import INDEXES, Platform
from linuxkit_rules.oci.origin import Origin
from linuxkit_rules.oci.pins import ImageLock, ImagePin, PinnedImage, format_pins, load_pins
from linuxkit_rules.oci.reference import Reference, parse_source
from linuxkit_rules.plan.settings import ARCHES, Settings
from linuxkit_rules.plan.sources import Sources
from linuxkit_rules.plan.trust import Policies
from linuxkit_rules.plan.written import replace_file
from linuxkit_rules.spec.linuxkit import Spec, load
from linuxkit_rules.spec.merge import merge
from linuxkit_rules.stages.fetch import WORKERS
from linuxkit_rules.stages.image import ImageStage, resolve
from linuxkit_rules.stages.obtain import document
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.values import dataclass


@dataclass(frozen=True)
class Locking:
    """A lock that is made: images are looked for as a build with ``settings`` would, but asked for anew.

    Of each image that of every one of ``arches`` that it has is pinned, if it is signed as ``trust`` says;
    ``report`` hears of changes.
    """

    engine: Engine
    settings: Settings
    trust: Policies
    arches: tuple[str, ...] = ARCHES
    report: Callable[[str], None] = field(default=lambda text: None)

    def lock(self, references: Mapping[Reference, str]) -> ImageLock:
        """Give what ``references`` (each with its place in a YAML) mean.

        Raises ErrorList with what is wrong with each of them.
        """
        layouts = [Layout.at(path) for path in self.settings.layouts]
        faults: list[LinuxKitError] = []

        def pinned(reference: Reference) -> PinnedImage | None:
            try:
                return self._pinned(reference, layouts)
            except LinuxKitError as error:
                error.where = f"{references[reference]}: {error.where or reference}"
                faults.append(error)
                return None

        with ThreadPoolExecutor(WORKERS) as pool:
            found = list(pool.map(pinned, references))
        if faults:
            raise faults[0] if len(faults) == 1 else ErrorList(sorted(faults, key=str))
        pairs = zip(references, found, strict=True)
        return ImageLock({str(reference): item for reference, item in pairs if item})

    def _pinned(self, reference: Reference, layouts: Sequence[Layout]) -> PinnedImage:
        trust = self.trust.requirements(reference)
        stage = resolve(reference, self.arches[0], layouts, Path(), trust=trust).stage
        assert isinstance(stage, ImageStage)  # noqa: S101 - a reference gives nothing else
        pins: dict[str, ImagePin] = {}
        missing: list[PlatformError] = []
        with stage.located({}, self.engine) as (origin, top):
            for platform in (Platform("linux", arch) for arch in self.arches):
                try:
                    stage.check(origin, top, self.engine, platform)
                    pins[str(platform)] = self._pin(origin, top, platform, str(reference))
                except PlatformError as error:
                    missing.append(error)
        if not pins:
            raise missing[0]
        return PinnedImage(top if top.media_type in INDEXES else None, pins)

    def _pin(self, origin: Origin, top: Descriptor, platform: Platform, where: str) -> ImagePin:
        """Read the image for ``platform`` but for its layers; what is read stays in the store."""
        limits = self.engine.limits
        chosen = choose(origin, top, platform, where, limits)
        config = document(origin, chosen.manifest.config, self.engine.store, limits.document)
        diff_ids(config, chosen.manifest, platform, where)
        for item, data in chosen.documents:
            self.engine.store.put(data, item.media_type)
        return chosen.pin

    def before(self, output: Path) -> ImageLock:
        """Give the lock that is there; raise ImageError where that is some other file."""
        try:
            return load_pins(output, str(output)) if output.exists() else ImageLock()
        except ImageError as error:
            error.hint = "remove it, or choose another file by --output"
            raise

    def write(self, lock: ImageLock, output: Path, before: ImageLock) -> None:
        """Write the lock, and report what is different from ``before``; raise ImageError."""
        replace_file(
            output,
            format_pins(lock).encode(),
            lambda reason: ImageError(f"cannot write the lock: {reason}", where=str(output)),
        )
        for line in changes(before, lock):
            self.report(line)


def changes(before: ImageLock, after: ImageLock) -> Iterator[str]:
    """Say, a line for each image, what ``after`` has that ``before`` had not, or the other way."""
    for name in sorted({*before.images, *after.images}):
        old, new = before.images.get(name), after.images.get(name)
        if new is None:
            yield f"{name} is no longer there"
        elif old is None:
            yield f"{name} is {new.top.digest}"
        elif old != new:
            yield f"{name} is {new.top.digest}, was {old.top.digest}"


def read(files: Mapping[str, Path], folders: Mapping[str, Path]) -> Spec:
    """Read YAMLs, as ``plan`` has them; raise LinuxKitError with all their faults."""
    return merge([load(path, shown, folders[shown]) for shown, path in files.items()])


def references(spec: Spec, settings: Settings, folders: Mapping[str, Path]) -> dict[Reference, str]:
    """Give the references of all images that YAMLs name, with their places, each once.

    ``folders`` are those of the YAMLs.  Raises LinuxKitError where a template has no reference.
    """
    sources = Sources(settings)
    found: dict[Reference, str] = {}
    for text, where in spec.images():
        base = folders[where.rsplit(":", 2)[0]]
        source = parse_source(sources.reference(text, base, where))
        if isinstance(source, Reference):
            found.setdefault(source, where)
    return found
