"""LinuxKit's YAML as a JSON schema, for editors: made of the dataclasses that the parser reads into.

Draft 7 (https://json-schema.org/draft-07) is the newest that both VS Code's YAML extension and JetBrains'
editors know in full.  There keywords beside a ``$ref`` count for nothing, so a reference stands alone.

The schema refuses what is of a wrong shape.  What values say about each other is judged by the parser alone.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from linuxkit_rules.spec.checks import SHAPES, Check
from linuxkit_rules.spec.decode import keys_of
from linuxkit_rules.spec.linuxkit import Spec

Json = dict[str, Any]
Field = dataclasses.Field[Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
_TYPES = {str: "string", bool: "boolean", int: "integer"}


def schema() -> Json:
    """Give the schema; parts that occur in lists are under ``definitions``, by their class's name."""
    definitions: dict[str, Json] = {}
    top = _record(Spec, definitions)
    return {
        "$schema": DRAFT,
        "title": "LinuxKit YAML",
        "description": "A system made of containers: kernel, init, onboot, services, files and volumes.",
        **top,
        "definitions": dict(sorted(definitions.items())),
    }


def text() -> str:
    """Give the schema as it is written to ``linuxkit.schema.json``."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def properties(cls: Any) -> dict[str, tuple[Field, Any]]:
    """Give key to (field, annotation) of a dataclass, and of parts whose keys stand beside its own."""
    found = dict(keys_of(cls))
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        if item.metadata.get("beside"):
            found |= keys_of(hints[item.name])
    return found


def _record(cls: Any, definitions: dict[str, Json]) -> Json:
    keys = properties(cls)
    needed = [name for name, (item, _) in keys.items() if _is_needed(item)]
    return {
        "type": "object",
        "properties": {name: _key(item, kind, definitions) for name, (item, kind) in keys.items()},
        **({"required": needed} if needed else {}),
        "additionalProperties": False,
    }


def _is_needed(item: Field) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _key(item: Field, kind: Any, definitions: dict[str, Json]) -> Json:
    shown = {"default": item.default} if item.default is False or item.default is True else {}
    described = {"description": item.metadata.get("doc", "")}
    return {**described, **_value(kind, item.metadata.get("check"), definitions), **shown}


def _value(kind: Any, check: Check | None, definitions: dict[str, Json]) -> Json:
    """Give what the annotation ``kind`` takes; ``check`` is that of its scalars."""
    origin, shape = typing.get_origin(kind), SHAPES[check] if check else {}
    if origin in (typing.Union, types.UnionType):
        kinds = [item for item in typing.get_args(kind) if item is not type(None)]
        if len(kinds) == 1:
            return _value(kinds[0], check, definitions)
        return {"type": [_TYPES[item] for item in kinds], **shape}
    if origin is Literal:
        return {"enum": list(typing.get_args(kind))}
    if origin is tuple:
        return {"type": "array", "items": _item(typing.get_args(kind)[0], check, definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": {"type": "string", **shape}}
    if dataclasses.is_dataclass(kind):
        return _record(kind, definitions)
    return {"type": _TYPES[kind], **shape}


def _item(kind: Any, check: Check | None, definitions: dict[str, Json]) -> Json:
    if not dataclasses.is_dataclass(kind):
        return _value(kind, check, definitions)
    name = kind.__name__  # type: ignore[union-attr]
    definitions[name] = _record(kind, definitions)
    return {"$ref": f"#/definitions/{name}"}
