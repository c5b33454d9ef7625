"""A LinuxKit package's ``build.yml``: what decides the reference of the image that is built of the folder.

LinuxKit's docs/packages.md describes the file.  A folder is such a package if its build.yml has none of the
keys that only this project's components have (``packages``, ``cmd``, ``links`` …, spec/component.py).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec.component import Component
from linuxkit_rules.spec.decode import Decoder, NotedError, hidden, key, keys_of
from linuxkit_rules.spec.yamlfile import Node, parse
from linuxkit_rules.values import dataclass

_BUILDING = frozenset(
    (
        "arches",
        "buildArgs",
        "config",
        "depends",
        "disable-cache",
        "disable-content-trust",
        "dockerfile",
        "gitrepo",
        "network",
    )
)
"""Keys of LinuxKit that say how the image is built; they do not change its name."""

_HASH = re.compile(r"\{\{ *\.Hash *\}\}")


def _not_empty(value: str) -> str | None:
    return None if value else "must not be empty"


def _template(value: str) -> str | None:
    rest = _HASH.sub("", value)
    return f"{value!r} holds something other than {{{{.Hash}}}}" if "{{" in rest else None


def _extra(value: str) -> str | None:
    source, colon, target = value.partition(":")
    ok = source and colon and target and ":" not in target
    return None if ok else f"{value!r} must be source:destination"


@dataclass(frozen=True, slots=True)
class Package:
    """What names a package's image.

    ``tag`` is a Go template that knows ``{{.Hash}}``; ``extra_sources`` are ``folder:destination``, where the
    folder counts from the package's.
    """

    image: str = key(check=_not_empty)
    org: str = ""
    tag: str = key("", check=_template)
    extra_sources: tuple[str, ...] = key((), name="extra-sources", check=_extra)
    where: str = hidden("")

    def name(self, tree: str) -> str:
        """Give ``org/image:tag`` for the hash ``tree`` of the package."""
        tag = _HASH.sub(lambda _: tree, self.tag or "{{.Hash}}")
        return f"{self.org or 'linuxkit'}/{self.image}:{tag}"

    def sources(self) -> list[str]:
        """Give the folders of the extra sources, as written."""
        return [item.partition(":")[0] for item in self.extra_sources]


def load_package(path: Path) -> Package | None:
    """Read a ``build.yml``: None where it is a component's; raise SpecError or ErrorList for its faults."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return parse_package(data, str(path))


def parse_package(text: bytes | str, name: str) -> Package | None:
    """Read a ``build.yml`` shown as ``name`` in messages; otherwise like ``load_package``."""
    node, decoder = parse(text, name), Decoder()
    own = keys_of(Component).keys() - keys_of(Package).keys() - _BUILDING
    if isinstance(node.value, Mapping) and own & node.value.keys():
        return None
    package = _read(decoder, node, sorted(own))
    decoder.finish()
    return package


def _read(decoder: Decoder, node: Node, own: list[str]) -> Package | None:
    try:
        decoder.known(node, "", [*keys_of(Package), *sorted(_BUILDING), *own])
        assert isinstance(node.value, Mapping)  # noqa: S101 - known() has looked
        value = {name: item for name, item in node.value.items() if name in keys_of(Package)}
        return decoder.record(Package, dataclasses.replace(node, value=value), "", where=node.where)
    except NotedError:
        return None
