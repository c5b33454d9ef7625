"""From the text of an ``image:`` to the step that brings the image into the store."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from linuxkit_rules.debian.lock import Lock, load_lock
from linuxkit_rules.errors import LinuxKitError, SpecError
from linuxkit_rules.oci.layout import Layout
from linuxkit_rules.oci.reference import DirectorySource, LayoutSource, LibrarySource, Source, parse_source
from linuxkit_rules.plan.graph import Input, LocalFile, Step, inputs
from linuxkit_rules.plan.memo import PACKAGE, Evidence
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.spec.component import Component, load_component
from linuxkit_rules.stages.component import ComponentImage, overlay
from linuxkit_rules.stages.image import resolve

LIBRARY = PACKAGE
"""Where the folders ``pkg`` (components) and ``tools`` (host programs, boot loaders) lie."""

OWN_LOCK = "packages.lock"
"""Lock of a component outside the library, beside its build.yml."""


class Sources:
    """Gives one step for each image, however often it is asked for; notes in ``evidence`` what it reads."""

    def __init__(self, settings: Settings, evidence: Evidence | None = None) -> None:
        self._settings = settings
        self._evidence = Evidence() if evidence is None else evidence
        self._layouts = [Layout.at(self._noted(path)) for path in settings.layouts]
        self._steps: dict[tuple[str, Path], Step] = {}
        self._components: dict[Path, Component] = {}

    def image(self, text: str, base: Path, where: str) -> Step:
        """Give the step for ``image: text`` of the YAML in the folder ``base``.

        Raises LinuxKitError, saying ``where``, for a component, layout or lock that is not there.
        """
        key = text, base
        if key not in self._steps:
            try:
                self._steps[key] = replace(self._step(parse_source(text), base), where=where)
            except LinuxKitError as error:
                error.where = f"{where}: {error.where}" if error.where else where
                raise
        return self._steps[key]

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

    def _noted(self, layout: Path) -> Path:
        for name in ("oci-layout", "index.json"):
            self._evidence.file(layout / name)
        return layout

    def _step(self, source: Source, base: Path) -> Step:
        if isinstance(source, LibrarySource):
            return self._component(LIBRARY / "pkg" / source.name)
        if isinstance(source, DirectorySource):
            return self._component(base / source.directory)
        if isinstance(source, LayoutSource):
            self._noted(base / source.directory)
        found = resolve(source, self._settings.arch, self._layouts, base)
        files = inputs(("archive", LocalFile(found.archive))) if found.archive else ()
        return Step(f"images/{_file_name(str(source))}", found.stage, files)

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
                raise SpecError(f"there is no component {folder.name!r}", hint=_choices(folder))
            self._components[folder] = load_component(self._evidence.file(folder / "build.yml"))
        return self._components[folder]

    def _lock(self, folder: Path) -> Lock:
        """Give the lock of a component: its own beside it, else the library's."""
        own = self._evidence.file(folder / OWN_LOCK)
        return load_lock(own) if own.is_file() else self._library_lock


def _choices(folder: Path) -> str:
    """Say what could be meant instead of a component that is not there."""
    if not folder.is_relative_to(LIBRARY):
        return f"{folder / 'build.yml'} is missing"
    names = sorted(path.parent.name for path in folder.parent.glob("*/build.yml"))
    return f"the library has {', '.join(names)}"


def _file_name(text: str) -> str:
    """Give a name for a target: readable, without slashes, which would make folders."""
    return "".join(sign if sign.isalnum() or sign in "-_.@" else "_" for sign in text)
