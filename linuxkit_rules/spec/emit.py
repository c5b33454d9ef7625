"""A spec as YAML again: the keys that differ from their defaults, in the order of the schema.

What is written reads the same to this package, to Go's yaml.v3 (LinuxKit) and to readers of YAML 1.1: a
string that any of them would take for something else is quoted.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import yaml

from linuxkit_rules.spec.decode import keys_of
from linuxkit_rules.spec.linuxkit import Container, Spec
from linuxkit_rules.spec.yamlfile import resolve

_YAML_1_1 = frozenset(("y", "Y", "n", "N", "-", "="))
"""Words that YAML 1.1 gives a meaning, and PyYAML does not."""

_BLOCK = re.compile(r"[!-~](?:[ -~]*[!-~])?(?:\n+[ -~]*[!-~])+\n?")
"""Texts that are sure to survive as a literal block: ASCII, no white space before, or at a line's end."""

_WIDTH = 1 << 30


def emit(spec: Spec) -> str:
    """Give the YAML of a spec, the same for equal specs.  Places and folders of YAMLs are not in it."""
    text: str = yaml.dump(
        _record(spec),
        Dumper=_Dumper,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=_WIDTH,
    )
    return text


def _record(value: Any) -> dict[str, Any]:
    written = {
        name: _value(getattr(value, item.name))
        for name, (item, _) in keys_of(type(value)).items()
        if getattr(value, item.name) != _default(item)
    }
    return written | _record(value.config) if isinstance(value, Container) else written


def _default(item: dataclasses.Field[Any]) -> Any:
    """Give the value that a field has where its key is left out; a required one has none."""
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def _value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _record(value)
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and quotes what some reader might take for another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if _BLOCK.fullmatch(text):
        style = "|"
    elif text in _YAML_1_1 or not isinstance(resolve(text), str) or not text.isprintable():
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)
