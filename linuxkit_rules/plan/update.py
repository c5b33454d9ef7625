"""Refreshing a lock: what ``moby lock`` does."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from linuxkit_rules.debian import mirror
from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.fetch import fetch, read
from linuxkit_rules.debian.index import Index, Package, Release, parse_packages, parse_release
from linuxkit_rules.debian.lock import LIBRARY_LOCK, Lock, Needs, Pin, format_lock, recipe
from linuxkit_rules.debian.machine import machine
from linuxkit_rules.debian.resolve import Resolver
from linuxkit_rules.debian.signature import Gpgv
from linuxkit_rules.debian.tree import Tree
from linuxkit_rules.errors import ErrorList, LinuxKitError, PackageError
from linuxkit_rules.plan.settings import ARCHES
from linuxkit_rules.plan.written import replace_file
from linuxkit_rules.spec.component import Component, load_component
from linuxkit_rules.stages.deb import package_tree
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.stages.tool import Program, install
from linuxkit_rules.values import dataclass

SUITES = ("bookworm",)
"""The suites that are locked where nothing else is asked for; of each, the component ``main``."""

_LIBRARY = LIBRARY_LOCK.parent
_KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"

Report = Callable[[str], None]
"""Hears, in a few words, what is being done."""


@dataclass(frozen=True)
class Update:
    """A refresh of locks; ``gpgv`` verifies the archive's signature."""

    engine: Engine
    gpgv: Gpgv
    suites: tuple[str, ...] = SUITES
    arches: tuple[str, ...] = ARCHES
    report: Report = field(default=lambda text: None)

    def lock(self, components: Sequence[Component]) -> Lock:
        """Resolve ``components`` against the newest indexes.

        Raises ErrorList with what is wrong with each of them, NetworkError, or PackageError where a signature
        does not verify.
        """
        releases = {suite: self._release(suite) for suite in self.suites}
        resolved = {arch: self._resolve(components, arch, releases) for arch in self.arches}
        needs = {item.image: _needs(item, resolved) for item in components if item.packages}
        packages = {
            arch: {item.name: _pin(item) for found in by_name.values() for item in found}
            for arch, by_name in resolved.items()
        }
        return Lock(self.suites, needs, packages)

    def _resolve(
        self, components: Sequence[Component], arch: str, releases: Mapping[str, Release]
    ) -> dict[str, tuple[Package, ...]]:
        index = Index(item for suite in self.suites for item in self._packages(suite, releases[suite], arch))
        resolver = Resolver(index, machine(arch), Contents(self.engine.store), self._tree)
        found: dict[str, tuple[Package, ...]] = {}
        faults: list[LinuxKitError] = []
        for component in components:
            if component.packages and arch in component.arch:
                self.report(f"resolving {component.image} for {arch}")
                try:
                    found[component.image] = resolver.resolve(component)
                except LinuxKitError as error:
                    faults.append(error)
        if faults:
            raise ErrorList(faults)
        return found

    def _tree(self, package: Package) -> Tree:
        return package_tree(_pin(package), self.engine)

    def _packages(self, suite: str, release: Release, arch: str) -> Iterator[Package]:
        base = mirror.release_url(self._mirror(), suite)
        name = f"main/binary-{arch}/Packages.xz"
        file = release.files.get(name)
        if file is None:
            raise PackageError(f"the suite {suite} has no {name}", where=base)
        self.report(f"reading {suite} for {arch}")
        blob = fetch(self.engine.store, f"{base}/{name}", file)
        yield from parse_packages(lzma.decompress(self.engine.store.read(blob.digest)).decode("utf-8"))

    def _release(self, suite: str) -> Release:
        """Fetch and verify what the suite is; another suite's signed file in its place is refused."""
        where = f"{mirror.release_url(self._mirror(), suite)}/InRelease"
        release = parse_release(self.gpgv.verify(read(where), where))
        if suite not in (release.suite, release.codename):
            raise PackageError(f"it describes {release.codename}, not {suite}", where=where)
        return release

    def _mirror(self) -> str:
        access = self.engine.access
        return mirror.find(access.debian_mirror, access.apt_folder)


def locked_gpgv(engine: Engine, lock: Lock, arch: str = "amd64") -> Gpgv:
    """Give gpgv and Debian's keyring as the library's lock pins them."""
    root = install(engine, "gpgv", lock, arch)
    return Gpgv(Program(root, "usr/bin/gpgv").command, root / _KEYRING)


def library(root: Path = _LIBRARY) -> list[Component]:
    """Read all components and tools of the library; raise ErrorList with all faults."""
    return components(sorted([*root.glob("pkg/*/build.yml"), *root.glob("tools/*/build.yml")]))


def components(files: Iterable[Path]) -> list[Component]:
    """Read the build.yml ``files``; raise as ``library`` does."""
    found: dict[str, Component] = {}
    faults: list[LinuxKitError] = []
    for file in files:
        try:
            component = load_component(file)
        except LinuxKitError as error:
            faults.append(error)
            continue
        if component.image in found:
            faults.append(PackageError(f"there are two components {component.image}", where=component.where))
        found[component.image] = component
    if faults:
        raise ErrorList(faults)
    return list(found.values())


def update_library(update: Update, output: Path = LIBRARY_LOCK) -> Lock:
    """Lock the library and write ``output``."""
    return _written(update.lock(library()), output)


def update_folder(update: Update, folder: Path, output: Path | None = None) -> Lock:
    """Lock the component in ``folder`` and write its ``packages.lock``."""
    return _written(update.lock(components([folder / "build.yml"])), output or folder / LIBRARY_LOCK.name)


def _written(lock: Lock, output: Path) -> Lock:
    """Write the lock's file, whole or not at all; one that says the same stays untouched."""
    replace_file(
        output,
        format_lock(lock).encode(),
        lambda reason: PackageError(f"cannot write the lock: {reason}", where=str(output)),
    )
    return lock


def _needs(component: Component, resolved: dict[str, dict[str, tuple[Package, ...]]]) -> Needs:
    packages = {
        arch: tuple(item.name for item in found[component.image])
        for arch, found in resolved.items()
        if component.image in found
    }
    return Needs(recipe(component), packages)


def _pin(package: Package) -> Pin:
    return Pin(package.name, package.version, package.arch, package.filename, package.size, package.digest)
