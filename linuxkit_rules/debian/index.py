"""A Debian archive's indexes: Release and Packages.

Debian's wiki, DebianRepository/Format; Debian Policy Manual, chapter 7 for relationships.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from linuxkit_rules.debian.stanza import Stanza, stanzas
from linuxkit_rules.debian.version import Version
from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import PackageError
from linuxkit_rules.values import dataclass

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the archive: its size in bytes and its digest."""

    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Release:
    """A suite as its Release file describes it; ``files`` are named relative to the suite's folder."""

    suite: str
    codename: str
    files: Mapping[str, File]


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package as the index lists it.

    ``arch`` is ``all`` where it is the same for every machine.  ``depends`` holds Pre-Depends and Depends: a
    tuple of alternatives for each, names only.  ``filename`` is relative to the archive.
    """

    name: str
    version: str
    arch: str
    filename: str
    size: int
    digest: Digest
    depends: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()


class Index:
    """The packages of some suites for one machine; of each name the newest version counts."""

    def __init__(self, packages: Iterable[Package]) -> None:
        self._packages: dict[str, Package] = {}
        self._provided: dict[str, list[str]] = {}
        for package in packages:
            known = self._packages.get(package.name)
            if known is None or Version(known.version) < Version(package.version):
                self._packages[package.name] = package
        for name, package in sorted(self._packages.items()):
            for virtual in package.provides:
                self._provided.setdefault(virtual, []).append(name)

    def get(self, name: str) -> Package | None:
        """Give the package called ``name``, if there is one."""
        return self._packages.get(name)

    def names(self) -> Iterable[str]:
        """Give the names of all packages."""
        return self._packages.keys()

    def providers(self, name: str) -> list[Package]:
        """Give the package called ``name`` and those that provide it."""
        names = [name, *self._provided.get(name, ())]
        return [self._packages[item] for item in names if item in self._packages]


def parse_release(text: str) -> Release:
    """Read a Release file (without its signature); raise PackageError where it is none."""
    stanza = next(stanzas(text), {})
    if "sha256" not in stanza or "codename" not in stanza:
        raise PackageError("the archive's Release file lists no sha256 digests or no code name")
    files = {}
    for line in stanza["sha256"].split("\n"):
        parts = line.split()
        if parts:
            if len(parts) != 3 or not _HEX.fullmatch(parts[0]) or not parts[1].isdigit():
                raise PackageError(f"the archive's Release file has the damaged line {line!r}")
            files[parts[2]] = File(int(parts[1]), Digest(parts[0]))
    return Release(stanza.get("suite", ""), stanza["codename"], files)


def parse_packages(text: str) -> Iterator[Package]:
    """Read a Packages file; raise PackageError where a stanza lacks what it must have."""
    for stanza in stanzas(text):
        yield _package(stanza)


def _package(stanza: Stanza) -> Package:
    try:
        name, size, digest = stanza["package"], stanza["size"], stanza["sha256"]
        version, arch, filename = stanza["version"], stanza["architecture"], stanza["filename"]
    except KeyError as error:
        name = stanza.get("package", "a package")
        raise PackageError(f"the package index has no {error.args[0]} for {name}") from None
    sound = _NAME.fullmatch(name) and size.isdigit() and _HEX.fullmatch(digest)
    if not sound or ".." in filename.split("/") or filename.startswith("/"):
        raise PackageError(f"the package index has a damaged stanza for {name!r}")
    return Package(
        name=name,
        version=version,
        arch=arch,
        filename=filename,
        size=int(size),
        digest=Digest(digest),
        depends=(*_relations(stanza.get("pre-depends", "")), *_relations(stanza.get("depends", ""))),
        provides=tuple(group[0] for group in _relations(stanza.get("provides", ""))),
    )


def _relations(text: str) -> Iterator[tuple[str, ...]]:
    """Read a relationship field: names without versions, a tuple of alternatives for each (Policy 7.1)."""
    for group in text.split(","):
        names = tuple(re.split(r"[\s:(\[<]", item.strip(), maxsplit=1)[0] for item in group.split("|"))
        if names[0]:
            yield names
