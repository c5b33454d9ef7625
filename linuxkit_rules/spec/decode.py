"""Nodes to frozen dataclasses: the classes' fields and annotations are the schema.

A field's name is its key, unless the field says ``key(name=…)``.  A field without default is required.  Known
annotations: str, bool, int, ``int | str``, ``Literal[…]``, ``tuple[X, …]``, ``Mapping[str, str]``,
dataclasses, and each of them with ``| None`` for "may be absent".  A field can bring a reader of its own, or
a check that each of its scalars must pass.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from linuxkit_rules.errors import ErrorList, LinuxKitError, SpecError, one_line
from linuxkit_rules.spec.checks import Check
from linuxkit_rules.spec.yamlfile import MAX_FAULTS, Node, resolve

T = TypeVar("T")
Read = Callable[["Decoder", Node, str], Any]
"""Reads one node at a path; faults go to the decoder."""


class NotedError(Exception):
    """A value could not be read; its fault has been noted."""


def key(
    default: Any = dataclasses.MISSING,
    *,
    name: str | None = None,
    check: Check | None = None,
    read: Read | None = None,
    factory: Any = dataclasses.MISSING,
    doc: str = "",
) -> Any:
    """Declare a field: its key in the YAML, a check for each of its scalars, a reader for the whole of it.

    ``doc`` says what the key does, in the units it takes and with its default: editors show it.  A reader
    makes its checks itself; ``check`` beside it only tells the JSON schema what they are.
    """
    metadata = {"name": name, "check": check, "read": read, "doc": doc}
    return dataclasses.field(default=default, default_factory=factory, metadata=metadata)


def hidden(default: Any) -> Any:
    """Declare a field that is no key of the YAML and does not count in comparisons."""
    return dataclasses.field(default=default, compare=False, repr=False, metadata={"hidden": True})


def keys_of(cls: Any) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Give key to (field, annotation) of a dataclass, in its order."""
    return _keys_of(cls)


@functools.cache
def _keys_of(cls: Any) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(cls)
    return {
        item.metadata.get("name") or item.name: (item, hints[item.name])
        for item in dataclasses.fields(cls)
        if not item.metadata.get("hidden")
    }


class Decoder:
    """Reads nodes and collects every fault, so that all are told at once.

    ``places`` maps the path of each node read to its ``file:line:column``; ``base`` is the folder from which
    relative paths in the document count.
    """

    def __init__(self, base: str = "") -> None:
        self.base = base
        self.faults: list[LinuxKitError] = []
        self.places: dict[str, str] = {}

    def finish(self) -> None:
        """Raise what was collected, in the order of the text: one SpecError, or an ErrorList."""
        if len(self.faults) == 1:
            raise self.faults[0]
        if self.faults:
            raise ErrorList(sorted(self.faults, key=_position))

    def fault(self, where: str, path: str, message: str, hint: str | None = None) -> NotedError:
        """Note a fault; give the exception with which a reader can give up.

        Raises ErrorList where there are too many.
        """
        text = one_line(path) + f": {one_line(message)}" if path else one_line(message)
        self.faults.append(SpecError(text, where=where, hint=hint and one_line(hint)))
        if len(self.faults) >= MAX_FAULTS:
            self.finish()
        return NotedError()

    def read(self, kind: Any, node: Node, path: str, check: Check | None = None) -> Any:
        """Read ``node`` as the annotation ``kind``; raise NotedError where it is not one."""
        self.places[path] = node.where
        origin = typing.get_origin(kind)
        if origin in (typing.Union, types.UnionType):
            return self._union(kind, node, path, check)
        if origin is Literal:
            return self._choice(typing.get_args(kind), node, path)
        if origin is tuple:
            return self._items(typing.get_args(kind)[0], node, path, check)
        if dataclasses.is_dataclass(kind):
            return self.record(typing.cast(type, kind), node, path)
        if kind in (str, bool, int):
            return self._scalar((kind,), node, path, check)
        return self._strings(node, path, check)

    def record(self, cls: type[T], node: Node, path: str, **extra: Any) -> T:
        """Read a mapping as a dataclass; ``extra`` are further fields.

        Raises NotedError, after noting all its faults.
        """
        before = len(self.faults)
        self.known(node, path, list(keys_of(cls)))
        values = self.fields(cls, node, path)
        if len(self.faults) > before:
            raise NotedError
        return cls(**values, **extra)

    def known(self, node: Node, path: str, keys: list[str]) -> None:
        """Note the keys of a mapping that are not among ``keys``; raise NotedError where it is none."""
        self.places[path] = node.where
        if not isinstance(node.value, Mapping):
            raise self.fault(node.where, path, f"must be a mapping, not {node.kind}")
        for name in node.value:
            if name not in keys:
                self.fault(node.keys[name], path, f"unknown key {name!r}", nearest(name, keys))

    def fields(self, cls: Any, node: Node, path: str) -> dict[str, Any]:
        """Read those keys of a mapping that are fields of a dataclass; note what is bad or missing."""
        assert isinstance(node.value, Mapping)  # noqa: S101 - known() has looked
        values: dict[str, Any] = {}
        for name, (item, kind) in keys_of(cls).items():
            below = f"{path}.{name}" if path else name
            if name in node.value:
                self._field(values, item, kind, node.value[name], below)
            elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                self.fault(node.where, path, f"{name} is missing")
        return values

    def _field(
        self, values: dict[str, Any], item: dataclasses.Field[Any], kind: Any, node: Node, path: str
    ) -> None:
        read: Read | None = item.metadata.get("read")
        try:
            if read is not None:
                self.places[path] = node.where
                values[item.name] = read(self, node, path)
            else:
                values[item.name] = self.read(kind, node, path, item.metadata.get("check"))
        except NotedError:
            return

    def _union(self, kind: Any, node: Node, path: str, check: Check | None) -> Any:
        kinds = tuple(item for item in typing.get_args(kind) if item is not type(None))
        if len(kinds) == 1:
            return self.read(kinds[0], node, path, check)
        return self._scalar(kinds, node, path, check)

    def _scalar(self, kinds: tuple[type, ...], node: Node, path: str, check: Check | None) -> Any:
        if type(node.value) not in kinds:
            wanted = " or ".join(_NAMES[item] for item in kinds)
            raise self.fault(node.where, path, f"must be {wanted}, not {_given(node)}", _advice(kinds, node))
        problem = check(node.value) if check else None
        if problem:
            raise self.fault(node.where, path, problem)
        return node.value

    def _choice(self, choices: tuple[str, ...], node: Node, path: str) -> Any:
        if node.value not in choices:
            wanted = ", ".join(choice for choice in choices if choice)
            raise self.fault(node.where, path, f"must be one of {wanted}, not {_given(node)}")
        return node.value

    def _items(self, kind: Any, node: Node, path: str, check: Check | None) -> tuple[Any, ...]:
        return tuple(self.each(node, path, lambda item, below: self.read(kind, item, below, check)))

    def each(self, node: Node, path: str, read: Callable[[Node, str], T]) -> list[T]:
        """Read every item of a list; raise NotedError if it is none, or after all items where one was bad."""
        if not isinstance(node.value, tuple):
            hint = f"write [{node.value}]" if isinstance(node.value, str) and node.value else None
            raise self.fault(node.where, path, f"must be a list, not {node.kind}", hint)
        items, bad = [], False
        for index, item in enumerate(node.value):
            try:
                items.append(read(item, f"{path}[{index}]"))
            except NotedError:
                bad = True
        if bad:
            raise NotedError
        return items

    def _strings(self, node: Node, path: str, check: Check | None) -> dict[str, str]:
        if not isinstance(node.value, Mapping):
            raise self.fault(node.where, path, f"must be a mapping of strings, not {node.kind}")
        values, before = {}, len(self.faults)
        for name, item in node.value.items():
            self.places[f"{path}.{name}"] = item.where
            try:
                values[name] = self._scalar((str,), item, f"{path}.{name}", check)
            except NotedError:
                continue
        if len(self.faults) > before:
            raise NotedError
        return values


def _position(error: LinuxKitError) -> list[int]:
    """Give line and column of ``file:line:column``."""
    return [int(part) for part in (error.where or "").split(":")[-2:] if part.isdecimal()]


_NAMES = {str: "a string", int: "an integer", bool: "true or false"}


def _given(node: Node) -> str:
    if isinstance(node.value, (str, bool, int, float)):
        return f"{node.kind} ({node.value!r})"
    return node.kind


def _advice(kinds: tuple[type, ...], node: Node) -> str | None:
    if node.value is None:
        return "leave the key out, or give a value"
    if str in kinds and isinstance(node.value, (bool, int, float)):
        return "quote it"
    if kinds == (bool,) and node.value in ("yes", "no", "on", "off", "Yes", "No", "On", "Off"):
        return "yes, no, on and off are strings in YAML 1.2"
    if str not in kinds and isinstance(node.value, str):
        return "leave the quotes out" if type(resolve(node.value)) in kinds else None
    return None


def nearest(name: str, known: list[str]) -> str:
    """Give the hint for an unknown key: the nearest known one, or all of them."""
    folded = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    return "known keys: " + ", ".join(known) if len(known) < 16 else "see LinuxKit's docs/yaml.md"
