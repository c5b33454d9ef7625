"""Where each value of a container's config.json and runtime.json comes from.

The values are those of the documents themselves; who counts is asked of the code that joins them
(``overlay``, and ``mounts`` and ``expanded`` of ``runtime``).  Paths of runtime.json begin with ``runtime``,
a key that config.json does not have.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from linuxkit_rules.oci.config import ImageSettings
from linuxkit_rules.oci.overlay import Said, extended, overlay, speaker
from linuxkit_rules.oci.resources import Json
from linuxkit_rules.oci.runtime import NAMESPACES, Placed, expanded, mounts
from linuxkit_rules.spec.image import ImageConfig
from linuxkit_rules.spec.runtime import Runtime
from linuxkit_rules.values import dataclass

Path = tuple[str | int, ...]
"""Keys and indexes from the top of a document."""


@dataclass(frozen=True, slots=True)
class Source:
    """One origin of a value.

    ``kind`` is the container's YAML, the image's label, the image's own configuration, or LinuxKit's default;
    ``path`` is the key there (``binds.add[0]``, ``Cmd[1]``).  A ``derived`` value follows from what stands
    there without being it.
    """

    kind: Literal["yaml", "label", "image", "default"]
    path: str = ""
    derived: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A value, its place in its document, and everything that makes it; ``note`` says more, in words."""

    path: Path
    value: Any
    sources: tuple[Source, ...]
    note: str = ""

    @property
    def text(self) -> str:
        """The path as it is written: ``process.args[0]``."""
        return written(self.path)


DEFAULT = (Source("default"),)


def written(path: Path) -> str:
    """Give a path as text; a key that cannot be printed as JSON.

    >>> written(("linux", "namespaces", 0, "type"))
    'linux.namespaces[0].type'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def shown(text: str) -> str:
    """Give ``text``, or JSON where it has signs that do not print."""
    return text if text.isprintable() else json.dumps(text)


def explain(
    documents: Mapping[str, Json], own: ImageConfig, label: ImageConfig, settings: ImageSettings
) -> tuple[Line, ...]:
    """Give the lines of ``config.json`` and ``runtime.json``, which were made of the rest, in their order.

    ``own`` is what the YAML says, with paths in place of volumes' names.  An item of a list is a line, an
    object in one too; other objects are taken apart.
    """
    config = _Config(own, label, settings)
    lines = [config.line(path, value) for path, value in leaves(documents["config.json"])]
    runtime = _Runtime(own, label, len(documents["runtime.json"]["mounts"]))
    lines += [
        Line(path, value, runtime.sources(path[1:]))
        for path, value in leaves(documents["runtime.json"], ("runtime",))
    ]
    return tuple(lines)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Take a document apart: scalars, items of lists, and empty lists and objects."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield (*path, index), item
    else:
        yield path, value


def grouped(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Give the lines with those of a set of capabilities joined where one list says them."""
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        alike: tuple[Any, ...] = line.path
        if line.path[:2] == ("process", "capabilities"):
            alike = (line.path[:3], tuple((item.kind, _list(item.path)) for item in line.sources))
        found.setdefault(alike, []).append(line)
    return tuple(items[0] if len(items) == 1 else _group(items) for items in found.values())


def _group(lines: Sequence[Line]) -> Line:
    sources = lines[0].sources
    if any(line.sources != sources for line in lines):
        sources = tuple(dataclasses.replace(item, path=_list(item.path)) for item in sources)
    return Line(lines[0].path[:3], [line.value for line in lines], sources)


def _list(path: str) -> str:
    """Give the path of the list that an item lies in."""
    return path.rpartition("[")[0] or path


def _source(said: Said, derived: bool = False) -> Source:
    return Source("yaml" if said.by == "own" else "label", said.path, derived)


class _Config:
    """Origins in config.json."""

    def __init__(self, own: ImageConfig, label: ImageConfig, settings: ImageSettings) -> None:
        self._own = own
        self._label = label
        self._settings = settings
        self._joined = overlay(label, own)
        self._mounts = mounts(self._joined, "")
        self._devices = [index for index, item in enumerate(self._joined.devices or ()) if item.path != "all"]

    def line(self, path: Path, value: Any) -> Line:
        """Give the line of what lies at ``path``."""
        note = ""
        if path[:2] == ("process", "user"):
            asked = getattr(self._joined, str(path[2]))
            name = asked[int(path[3])] if isinstance(asked, tuple) else asked
            note = f"name {shown(name)} = {value}" if isinstance(name, str) and name else ""
        return Line(path, value, self._sources(path, value), note)

    def _sources(self, path: Path, value: Any) -> tuple[Source, ...]:
        match path:
            case ("process", "args", int(index)):
                return self.field("command", index) or (self._command(index),)
            case ("process", "env", int(index)):
                return self.field("env", index) or (Source("image", f"Env[{index}]"),)
            case ("process", "cwd"):
                image = (Source("image", "WorkingDir"),) if self._settings.working_dir else DEFAULT
                return self.field("cwd") or image
            case ("process", "capabilities", *rest):
                return self._capabilities(rest[0] if rest else "", value)
            case ("mounts", int(index)):
                return self._mount(self._mounts[index])
            case ("linux", "namespaces", int(_)):
                return self.field(dict(NAMESPACES).get(value["type"], "")) or DEFAULT
            case ("linux", "devices", int(index)):
                return self.field("devices", self._devices[index])
            case ("linux", "resources", *rest):
                return self._resources(tuple(rest))
            case (
                ("process", "user", str(name), *rest)
                | ("process" | "root" | "linux", str(name), *rest)
                | (str(name), *rest)
            ):
                return self.field(name, *rest) or DEFAULT
        raise AssertionError(path)

    def field(self, name: str, *below: str | int, derived: bool = False) -> tuple[Source, ...]:
        """Give who says the field ``name``, at the path ``below`` it; nothing where nobody does."""
        if name not in _FIELDS:
            return ()
        by = speaker(name, self._label, self._own)
        return (_source(Said(by, written((name, *below))), derived),) if by else ()

    def _command(self, index: int) -> Source:
        first = len(self._settings.entrypoint)
        part = f"Entrypoint[{index}]" if index < first else f"Cmd[{index - first}]"
        return Source("image", part)

    def _capabilities(self, kind: str | int, name: Any) -> tuple[Source, ...]:
        """Give who names a capability in the set ``kind``; for no set at all, who says none."""
        joined = extended("capabilities", self._label, self._own)
        if not kind:
            none = [_source(said) for _, all_said in joined for said in all_said]
            ambient = [self.field("ambient", index)[0] for index, _ in enumerate(self._joined.ambient or ())]
            return (*(none or self.field("capabilities")), *(ambient or self.field("ambient"))) or DEFAULT
        found: list[Source] = []
        if kind != "ambient":
            for item, index in expanded(text for text, _ in joined):
                found += [_source(said) for said in joined[index][1] if item == name]
        if kind != "effective":
            for item, index in expanded(self._joined.ambient):
                found += self.field("ambient", index) if item == name else ()
        return tuple(dict.fromkeys(found))

    def _mount(self, item: Placed) -> tuple[Source, ...]:
        if item.field in ("", "readonly"):
            return (*DEFAULT, *self.field(item.field, derived=True))
        if item.field == "binds":
            return tuple(_source(said) for said in extended("binds", self._label, self._own)[item.index][1])
        return self.field(item.field, item.index)

    def _resources(self, below: Path) -> tuple[Source, ...]:
        """Give who asks for a limit; a rule of a device may follow from its node."""
        if below and below[0] == "devices":
            resources = self._joined.resources
            after = int(below[1]) - (len(resources.devices) if resources else 0)
            if after >= 0:
                return self.field("devices", after, derived=True)
        names = {"blockIO": "blockio"}
        return self.field("resources", *(names.get(str(part), part) for part in below)) or DEFAULT


_FIELDS = frozenset(item.name for item in dataclasses.fields(ImageConfig))


class _Runtime:
    """Origins in runtime.json, which has ``mounted`` mounts, those of the root file system first."""

    def __init__(self, own: ImageConfig, label: ImageConfig, mounted: int) -> None:
        self._own = own.runtime or Runtime()
        self._label = label.runtime or Runtime()
        self._readonly = speaker("readonly", label, own)
        self._root = mounted - len(overlay(label, own).runtime.mounts or ())  # type: ignore[union-attr]

    def sources(self, path: Path) -> tuple[Source, ...]:
        """Give who makes what lies at ``path``."""
        name, *below = path
        if name == "mounts":
            index = int(below[0])
            if index < self._root:
                by = self._readonly
                return (*DEFAULT, *((_source(Said(by, "readonly"), derived=True),) if by else ()))
            below = [index - self._root]
        if name == "bindNS":
            said = speaker(str(below[0]), self._label.bindNS, self._own.bindNS)
        else:
            said = speaker(str(name), self._label, self._own)
        return (_source(Said(said, written(("runtime", name, *below)))),) if said else DEFAULT
