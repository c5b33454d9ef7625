"""YAML text to nodes that know their place, with the semantics of Go's yaml.v3.

LinuxKit reads its files with gopkg.in/yaml.v3, so plain scalars mean what they mean there
(https://github.com/go-yaml/yaml/blob/v3/resolve.go): ``yes``, ``on``, ``1:30`` and dates are strings, ``010``
and ``0o17`` are octal, underscores in numbers are skipped, a key given twice is an error.  The syntax is that
of libyaml, of which yaml.v3 is a port.  Anchors, aliases and ``<<`` work; a document is bounded in size, in
depth and in what its aliases expand to.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, TypeAlias

import yaml

from linuxkit_rules.errors import ErrorList, LinuxKitError, SpecError, one_line
from linuxkit_rules.values import dataclass

MAX_BYTES = 16 << 20
MAX_DEPTH = 100
MAX_ALIASED = 100_000
MAX_FAULTS = 100
"""Bounds of one document: bytes of text, nesting, nodes that aliases add, and faults that are told."""

Scalar: TypeAlias = bool | int | float | str | None
_TAG = "tag:yaml.org,2002:"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may have been built without libyaml
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document.

    ``value`` is a scalar, a tuple of nodes, or a mapping from key to node in the order written.  ``where`` is
    ``file:line:column``, counted from 1.  ``keys`` says where the keys of a mapping stand.
    """

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    where: str
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the value is, in words for messages."""
        return _kind(self.value)

    def plain(self) -> Any:
        """Give the value as JSON knows it: dicts, lists and scalars."""
        if isinstance(self.value, tuple):
            return [item.plain() for item in self.value]
        if isinstance(self.value, Mapping):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    for kinds, name in ((bool, "a boolean"), (int, "an integer"), (float, "a number"), (str, "a string")):
        if isinstance(value, kinds):
            return name
    return "a list" if isinstance(value, tuple) else "a mapping"


def parse(text: bytes | str, name: str) -> Node:
    """Read one document; raise SpecError (or ErrorList of them) for anything that is not one.

    ``name`` stands in messages for the file.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > MAX_BYTES:
        raise SpecError(f"the file is larger than {MAX_BYTES >> 20} MiB", where=name)
    composer = _Composer(name)
    try:
        node = composer.document(yaml.parse(data, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise SpecError(f"not well-formed YAML: {error.problem or error.context}", where=where) from None
    except yaml.reader.ReaderError as error:
        where = f"{name}:{_place(data, error.position)}"
        raise SpecError(f"not well-formed YAML: {error.reason}", where=where) from None
    except (yaml.YAMLError, ValueError, OverflowError):  # numbers in escapes, without libyaml
        raise SpecError("not well-formed YAML", where=f"{name}:1:1") from None
    if len(composer.faults) == 1:
        raise composer.faults[0]
    if composer.faults:
        raise ErrorList(composer.faults)
    return node


def _place(data: bytes, position: int) -> str:
    """Give line and column of a position in bytes."""
    head = data[:position]
    return f"{head.count(10) + 1}:{len(head.rpartition(bytes([10]))[2].decode('utf-8', 'replace')) + 1}"


def resolve(text: str) -> Scalar:
    """Give what a plain scalar means to yaml.v3.

    >>> [resolve(text) for text in ("yes", "010", "0o17", "1_000", "1:30", "~", "True", "1e3")]
    ['yes', 8, 15, 1000, '1:30', None, True, 1000.0]
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "+-0123456789.":
        digits = text if text[0] == "." else text.replace("_", "")
        number = _number(digits)
        if number is not None:
            return number
    return text


def _number(digits: str) -> int | float | None:
    if (match := _INTEGER.fullmatch(digits)) and len(digits) < 80:
        sign, *groups = match.groups()
        for base, group in zip((16, 2, 8, 10), groups, strict=True):
            if group is not None and -(1 << 63) <= (value := int(sign + group, base)) < 1 << 64:
                return value
    return float(digits) if _FLOAT.fullmatch(digits) else None


class _Composer:
    """Builds nodes out of libyaml's events; faults that leave the structure intact are collected."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults: list[LinuxKitError] = []
        self._anchors: dict[str, Node | None] = {}
        self._weights: dict[int, int] = {}
        self._aliased = 0

    def document(self, events: Iterator[Any]) -> Node:
        """Compose the only document of the stream."""
        node: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if node is not None:
                    hint = "give several files instead"
                    raise SpecError("a second document is not read", where=self._where(event), hint=hint)
                node, _ = self._node(next(events), events, 0)
        if node is None:
            raise SpecError("the document is empty", where=f"{self.name}:1:1")
        return node

    def _where(self, event: Any) -> str:
        return f"{self.name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> tuple[Node, int]:
        """Compose what begins with ``event``; give it and the number of nodes in it, aliases expanded."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if depth > MAX_DEPTH:
            raise SpecError(f"nested deeper than {MAX_DEPTH} levels", where=self._where(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node, weight = Node(self._scalar(event), self._where(event)), 1
        elif isinstance(event, yaml.SequenceStartEvent):
            node, weight = self._sequence(event, events, depth)
        else:
            node, weight = self._mapping(event, events, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
            self._weights[id(node)] = weight
        return node, weight

    def _alias(self, event: Any) -> tuple[Node, int]:
        if event.anchor not in self._anchors:
            raise SpecError(f"no anchor &{event.anchor} before this alias", where=self._where(event))
        node = self._anchors[event.anchor]
        if node is None:
            raise SpecError(f"anchor &{event.anchor} contains itself", where=self._where(event))
        weight = self._weights[id(node)]
        self._aliased += weight
        if self._aliased > MAX_ALIASED:
            raise SpecError("aliases expand to too much", where=self._where(event))
        return node, weight

    def _sequence(self, event: Any, events: Iterator[Any], depth: int) -> tuple[Node, int]:
        self._check_tag(event, "seq")
        items, weight = [], 1
        while not isinstance(inner := next(events), yaml.SequenceEndEvent):
            node, size = self._node(inner, events, depth + 1)
            items.append(node)
            weight += size
        return Node(tuple(items), self._where(event)), weight

    def _mapping(self, event: Any, events: Iterator[Any], depth: int) -> tuple[Node, int]:
        self._check_tag(event, "map")
        own: dict[str, Node] = {}
        keys: dict[str, str] = {}
        merged: list[Node] = []
        merges, weight = 0, 1
        while not isinstance(inner := next(events), yaml.MappingEndEvent):
            merge = isinstance(inner, yaml.ScalarEvent) and inner.value == "<<" and inner.implicit[0]
            where = self._where(inner)
            key, _ = self._node(inner, events, depth + 1)
            value, size = self._node(next(events), events, depth + 1)
            weight += size + 1
            if merge:
                merges += 1
                merged += self._merged(value)
                if merges > 1:
                    self._fault("<< given twice", where, "give a list of aliases")
            elif not isinstance(key.value, str):
                self._fault(f"a key must be a string, not {key.kind}", where, "quote it")
            elif key.value in own:
                self._fault(f"key {key.value!r} is given twice", where, f"first at {keys[key.value]}")
            else:
                own[key.value], keys[key.value] = value, where
        for base in merged:
            assert isinstance(base.value, Mapping)  # noqa: S101 - _merged gives mappings only
            for name, item in base.value.items():
                if name not in own:
                    own[name], keys[name] = item, base.keys[name]
        return Node(own, self._where(event), keys), weight

    def _merged(self, value: Node) -> list[Node]:
        nodes = value.value if isinstance(value.value, tuple) else (value,)
        good = [node for node in nodes if isinstance(node.value, Mapping)]
        if len(good) != len(nodes):
            self._fault("<< takes a mapping or a list of mappings", value.where, None)
        return good

    def _fault(self, message: str, where: str, hint: str | None) -> None:
        self.faults.append(SpecError(one_line(message), where=where, hint=hint))
        if len(self.faults) >= MAX_FAULTS:
            raise ErrorList(self.faults)

    def _check_tag(self, event: Any, wanted: str) -> None:
        if event.tag not in (None, "!", _TAG + wanted):
            self._fault(f"tag {_short(event.tag)} is not known here", self._where(event), None)

    def _scalar(self, event: Any) -> Scalar:
        plain = event.style in (None, "")
        tag, text = event.tag, event.value
        if not text.isascii() and _SURROGATE.search(text):
            self._fault("half of a surrogate pair is no character", self._where(event), None)
        if tag is None:
            return resolve(text) if plain else str(text)
        if tag in ("!", _TAG + "str"):
            return str(text)
        if tag == _TAG + "binary":
            return self._binary(event)
        value = resolve(text)
        wanted = {"null": type(None), "bool": bool, "int": int, "float": float, "timestamp": str}
        kind = wanted.get(tag.removeprefix(_TAG))
        if kind is float and type(value) is int:
            return float(value)
        if kind is None or type(value) is not kind:
            self._fault(f"{text!r} is not a {_short(tag)}", self._where(event), None)
        return value

    def _binary(self, event: Any) -> str:
        try:
            return base64.b64decode("".join(event.value.split()), validate=True).decode()
        except (binascii.Error, ValueError):
            self._fault("!!binary must be base64 of UTF-8 text", self._where(event), None)
            return ""


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
