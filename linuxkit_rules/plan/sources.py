"""From the text of an ``image:`` to the step that brings the image into the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from linuxkit_rules.debian.lock import Lock, load_lock
from linuxkit_rules.errors import LinuxKitError, SpecError, UsageError
from linuxkit_rules.oci.layout import Layout
from linuxkit_rules.oci.manifest import Platform
from linuxkit_rules.oci.pins import ImageLock, PinnedImage
from linuxkit_rules.oci.reference import (
    DirectorySource,
    LayoutSource,
    LibrarySource,
    Reference,
    Source,
    parse_source,
)
from linuxkit_rules.plan.graph import Input, LocalFile, Step, inputs
from linuxkit_rules.plan.memo import Evidence
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.template import LIBRARY, located, missing, resolved
from linuxkit_rules.plan.trust import Policies
from linuxkit_rules.spec.component import Component, load_component
from linuxkit_rules.stages.component import ComponentImage, overlay
from linuxkit_rules.stages.image import PullImage, resolve

NO_LOCK = ImageLock()

OWN_LOCK = "packages.lock"
"""Lock of a component outside the library, beside its build.yml."""


class Sources:
    """Gives one step for each image, however often it is asked for; notes in ``evidence`` what it reads.

    ``lock`` says what references mean, ``trust`` who must have signed them.
    """

    def __init__(
        self,
        settings: Settings,
        evidence: Evidence | None = None,
        lock: ImageLock = NO_LOCK,
        trust: Policies | None = None,
    ) -> None:
        self._settings = settings
        self._lock_of_images = lock
        self._trust = trust
        self._evidence = Evidence() if evidence is None else evidence
        self._layouts = [self._searched(path) for path in settings.layouts]
        self._steps: dict[tuple[str, Path], Step] = {}
        self._components: dict[Path, Component] = {}
        self._references: dict[tuple[str, Path], str] = {}

    def image(self, text: str, base: Path, where: str) -> Step:
        """Give the step for ``image: text`` of the YAML in the folder ``base``.

        Raises LinuxKitError, saying ``where``, for a component, layout or lock that is not there.
        """
        key = text, base
        if key not in self._steps:
            reference = self.reference(text, base, where)
            with _at(where):
                self._steps[key] = replace(self._step(parse_source(reference), base), where=where)
        return self._steps[key]

    def reference(self, text: str, base: Path, where: str) -> str:
        """Give ``image: text`` with a LinuxKit package's template replaced by its reference; else as it is.

        Raises LinuxKitError, saying ``where``, for a template that cannot be resolved.
        """
        key = text, base
        if key not in self._references:
            with _at(where):
                self._references[key] = resolved(text, base, self._evidence)
        return self._references[key]

    def tool(self, name: str) -> Step:
        """Give the step for the image of a tool of the library; raise SpecError where there is none."""
        return self._component(LIBRARY / "tools" / name)

    def is_component(self, text: str) -> bool:
        """Whether ``image: text`` is a component, so that its kernel modules can be cut to need."""
        return isinstance(parse_source(text), LibrarySource | DirectorySource)

    def modules(self) -> tuple[str, ...]:
        """Give the kernel modules that the components asked for so far need, sorted."""
        found: set[str] = set()
        for component in self._components.values():
            found |= {*component.modules, *(component.kernel.modules if component.kernel else ())}
        return tuple(sorted(found))

    @cached_property
    def _library_lock(self) -> Lock:
        return load_lock(self._evidence.file(self._settings.package_lock))

    def _searched(self, layout: Path) -> Layout:
        """Give a layout of the settings; raise UsageError where there is no such folder."""
        if not layout.is_dir():
            hint = (
                "--image-layout, --vendor, LINUXKIT_IMAGE_LAYOUTS and LINUXKIT_VENDOR name OCI image layouts"
            )
            raise UsageError("there is no such folder", where=str(layout), hint=hint)
        return Layout.at(self._noted(layout))

    def _noted(self, layout: Path) -> Path:
        for name in ("oci-layout", "index.json"):
            self._evidence.file(layout / name)
        return layout

    def _step(self, source: Source, base: Path) -> Step:
        if isinstance(source, LibrarySource | DirectorySource):
            return self._component(located(source, base, self._evidence))
        if isinstance(source, LayoutSource):
            self._noted(base / source.directory)
        pinned = self._lock_of_images.find(source) if isinstance(source, Reference) else None
        trust = self._trust.requirements(source) if self._trust and isinstance(source, Reference) else ()
        found = resolve(source, self._settings.arch, self._layouts, base, pinned, trust)
        if self._settings.locked and isinstance(found.stage, PullImage):
            self._check_locked(source, pinned)
        if found.archive and self._evidence.folder(found.archive).is_dir():
            raise SpecError(f"{str(source)!r} names a folder, where an archive is needed")
        files = inputs(("archive", LocalFile(found.archive))) if found.archive else ()
        return Step(f"images/{_file_name(str(source))}", found.stage, files)

    def _check_locked(self, source: Source, pinned: PinnedImage | None) -> None:
        """Raise SpecError where the lock does not name the registry's image ``source`` for this machine."""
        platform = str(Platform("linux", self._settings.arch))
        if pinned is None or platform not in pinned.platforms:
            what = f"is not in {self._lock_of_images.where}" + (f" for {platform}" if pinned else "")
            hint = "`moby lock` writes the lock; --no-locked or LINUXKIT_LOCKED=0 builds without"
            raise SpecError(f"{source} {what}", hint=hint)

    def _component(self, folder: Path) -> Step:
        """Give the step of the component in ``folder``; raise LinuxKitError for a fault of it or its lock."""
        folder = self._evidence.place(folder)
        component = self._load(folder)
        arch = self._settings.arch
        self._evidence.folder(folder / "rootfs")
        laid, files = overlay(folder)
        stage = ComponentImage(component, self._lock(folder).pins(component, arch), arch, laid)
        sources = tuple(Input("file", LocalFile(file)) for file in files)
        return Step(f"images/{_file_name(component.image)}", stage, sources)

    def _load(self, folder: Path) -> Component:
        if folder not in self._components:
            if not (folder / "build.yml").is_file():
                raise missing(folder)
            self._components[folder] = load_component(self._evidence.file(folder / "build.yml"))
        return self._components[folder]

    def _lock(self, folder: Path) -> Lock:
        """Give the lock of a component: its own beside it, else the library's."""
        own = self._evidence.file(folder / OWN_LOCK)
        return load_lock(own) if own.is_file() else self._library_lock


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Put the YAML's place before that of any error from inside."""
    try:
        yield
    except LinuxKitError as error:
        error.where = f"{where}: {error.where}" if error.where else where
        raise


def _file_name(text: str) -> str:
    """Give a name for a target: readable, without slashes, which would make folders."""
    return "".join(sign if sign.isalnum() or sign in "-_.@" else "_" for sign in text)
