"""The lock: which Debian packages, pinned by version, size and digest, each component takes its files from.

A JSON file, sorted, with one package and one component's list on a line, so that changes read well:

    {"suites": ["bookworm"],
     "components": {"redis": {"recipe": "sha256:…", "amd64": ["libc6", …], "arm64": […]}, …},
     "packages": {"amd64": {"libc6": {"version": …, "arch": …, "filename": …, "size": …, "sha256": …}, …}, …}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from linuxkit_rules.digest import Digest, canonical_json
from linuxkit_rules.errors import FormatError, PackageError
from linuxkit_rules.spec.component import Component
from linuxkit_rules.values import dataclass

LIBRARY_LOCK = Path(__file__).resolve().parents[1] / "packages.lock"
"""The lock of the component library and of the tools."""

_HINT = "run `moby lock`"


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """One package, exactly: ``filename`` in the archive, ``size`` in bytes, and ``digest`` of the .deb.

    ``arch`` is the package's own: ``all`` where it is the same for every machine.
    """

    name: str
    version: str
    arch: str
    filename: str
    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Needs:
    """A component in the lock: its recipe when it was resolved, and by machine the names of its packages."""

    recipe: Digest
    packages: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file's content; ``packages`` is by machine (amd64, arm64) and name; ``where`` is its path."""

    suites: tuple[str, ...]
    components: Mapping[str, Needs] = field(default_factory=dict)
    packages: Mapping[str, Mapping[str, Pin]] = field(default_factory=dict)
    where: str = field(default="the lock", compare=False)

    def pins(self, component: Component, arch: str) -> tuple[Pin, ...]:
        """Give the packages of ``component``, sorted by name.

        Raises PackageError where the component is not locked, not for ``arch``, or has changed since.
        """
        name = component.image
        if not component.packages:
            return ()
        needs = self.components.get(name)
        if needs is None:
            raise PackageError(
                f"component {name} is not in {self.where}", where=_place(component), hint=_HINT
            )
        if arch not in component.arch:
            raise PackageError(f"component {name} is not made for {arch}", where=_place(component))
        if needs.recipe != recipe(component) or arch not in needs.packages:
            message = f"component {name} has changed since {self.where} was made"
            raise PackageError(message, where=_place(component), hint=_HINT)
        try:
            return tuple(self.packages[arch][package] for package in needs.packages[arch])
        except KeyError as error:
            message = f"{self.where} names {error.args[0]} for {name} but does not pin it"
            raise PackageError(message, hint=_HINT) from None


def recipe(component: Component) -> Digest:
    """Give the digest of what decides a component's packages; other changes need no new lock."""
    value = {
        "arch": sorted(component.arch),
        "closure": component.closure,
        "exclude": list(component.exclude),
        "kernel": component.kernel.package if component.kernel else None,
        "packages": [[item.name, item.files and list(item.files)] for item in component.packages],
    }
    return Digest.of(canonical_json(value))


def load_lock(path: Path) -> Lock:
    """Read the lock file ``path``; raise PackageError where it is missing or malformed."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise PackageError(f"cannot read the lock: {error.strerror}", where=str(path), hint=_HINT) from None
    return parse_lock(text, str(path))


def parse_lock(text: str, where: str) -> Lock:
    """Read a lock; raise PackageError, saying ``where``, where it is malformed."""
    try:
        value = json.loads(text)
        components = {name: _needs(item) for name, item in value["components"].items()}
        packages = {
            arch: {name: _pin(name, item) for name, item in group.items()}
            for arch, group in value["packages"].items()
        }
        return Lock(tuple(value["suites"]), components, packages, where)
    except (ValueError, KeyError, TypeError, AttributeError, FormatError) as error:
        raise PackageError(f"the lock is damaged: {error}", where=where, hint=_HINT) from None


def format_lock(lock: Lock) -> str:
    """Give the lock's text, always the same for equal locks."""
    components = [
        f"  {json.dumps(name)}: {_group(_needs_rows(needs), 4)}"
        for name, needs in sorted(lock.components.items())
    ]
    packages = [
        f"  {json.dumps(arch)}: {_group(_pin_rows(group.values()), 4)}"
        for arch, group in sorted(lock.packages.items())
    ]
    parts = [f'"suites": {json.dumps(list(lock.suites))}']
    parts += [f'"components": {_braces(components)}', f'"packages": {_braces(packages)}']
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _needs(value: Any) -> Needs:
    lists = {arch: tuple(names) for arch, names in value.items() if arch != "recipe"}
    return Needs(Digest.parse(value["recipe"]), lists)


def _pin(name: str, value: Any) -> Pin:
    texts = (value["version"], value["arch"], value["filename"])
    size = value["size"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(size, int):
        raise TypeError(f"package {name} is not well described")
    return Pin(name, *texts, size, Digest.parse(f"sha256:{value['sha256']}"))


def _needs_rows(needs: Needs) -> list[str]:
    rows = [f'"recipe": {json.dumps(str(needs.recipe))}']
    return rows + [
        f"{json.dumps(arch)}: {json.dumps(list(names))}" for arch, names in sorted(needs.packages.items())
    ]


def _pin_rows(pins: Iterable[Pin]) -> list[str]:
    rows = []
    for pin in sorted(pins):
        value = {"version": pin.version, "arch": pin.arch, "filename": pin.filename, "size": pin.size}
        rows.append(f"{json.dumps(pin.name)}: {json.dumps({**value, 'sha256': pin.digest.hex})}")
    return rows


def _group(rows: list[str], indent: int) -> str:
    return _braces([" " * indent + row for row in rows], indent - 2)


def _braces(rows: list[str], indent: int = 0) -> str:
    return "{\n" + ",\n".join(rows) + f"\n{' ' * indent}}}" if rows else "{}"


def _place(component: Component) -> str | None:
    return component.where or None
