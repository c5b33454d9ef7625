"""Documents that tests begin with: YAMLs of the conformance suite and of this repository; values as YAML."""

import dataclasses
import json
import re
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from linuxkit_rules.spec.schema import properties

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT.parent / "shared" / "conformance"
_ODD = re.compile("[\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]|[^\x00-\uffff]")


@cache
def valid() -> dict[str, bytes]:
    """Name to text of every YAML that builds."""
    here = [*(ROOT / "examples").glob("*.yml")]
    for golden in SUITE.glob("cases/*/golden.json"):
        here += [golden.parent / name for name in json.loads(golden.read_text())["inputs"]]
    return {str(path.relative_to(ROOT.parent)): path.read_bytes() for path in sorted(here)}


@cache
def components() -> dict[str, bytes]:
    """Name to text of the library's ``build.yml``s."""
    return {
        path.parent.name: path.read_bytes() for path in sorted(ROOT.glob("linuxkit_rules/pkg/*/build.yml"))
    }


def names(cls: type) -> list[str]:
    """Give every key that is anywhere in a document of a dataclass."""
    return sorted({name for record in _records(cls) for name in properties(record)})


def _records(kind: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(kind):
        yield kind
        for _, part in properties(kind).values():
            yield from _records(part)
    for part in typing.get_args(kind):
        yield from _records(part)


class Pairs(list[tuple[Any, Any]]):
    """A mapping whose keys may be anything, and may be there twice."""


def pairs(value: Any) -> Any:
    """Give a plain value with Pairs in the place of dicts."""
    if isinstance(value, dict):
        return Pairs((key, pairs(item)) for key, item in value.items())
    return [pairs(item) for item in value] if isinstance(value, list) else value


def as_yaml(value: Any) -> str:
    """Give a value as YAML in flow style, every string quoted."""
    if isinstance(value, dict):
        value = pairs(value)
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"? {as_yaml(key)} : {as_yaml(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_yaml(item) for item in value) + "]"
    if isinstance(value, str):
        return _ODD.sub(lambda match: f"\\U{ord(match[0]):08x}", json.dumps(value, ensure_ascii=False))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
