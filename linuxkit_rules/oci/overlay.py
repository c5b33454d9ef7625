"""An image's label and a container's YAML to one image configuration: what the YAML says counts.

The rules are LinuxKit's (src/cmd/linuxkit/moby/config.go, ConfigToOCI and the assign functions).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

from linuxkit_rules.spec.image import ImageConfig, Namespaces, Runtime

T = TypeVar("T", ImageConfig, Runtime, Namespaces)


def overlay(label: ImageConfig, own: ImageConfig) -> ImageConfig:
    """Give ``own`` with absent values from ``label``; ``….add`` lists extend those of the label.

    An additive list counts only where the YAML has no full list.  The label's own additive lists say nothing.
    """
    return dataclasses.replace(
        _first(label, own),
        capabilities=_extended(own.capabilities, label.capabilities, own.capabilities_add),
        binds=_extended(own.binds, label.binds, own.binds_add),
        capabilities_add=None,
        binds_add=None,
        runtime=_runtime(label.runtime or Runtime(), own.runtime or Runtime()),
    )


def _first(label: T, own: T) -> T:
    """Give ``own`` with those fields that it leaves at their default from ``label``."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(own):
        value = getattr(own, item.name)
        values[item.name] = getattr(label, item.name) if value == item.default else value
    return type(own)(**values)


def _extended(
    own: tuple[str, ...] | None, label: tuple[str, ...] | None, added: tuple[str, ...] | None
) -> tuple[str, ...]:
    return own if own is not None else unique([*(label or ()), *(added or ())])


def _runtime(label: Runtime, own: Runtime) -> Runtime:
    return dataclasses.replace(_first(label, own), bindNS=_first(label.bindNS, own.bindNS))


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Give each item once, at its first place."""
    return tuple(dict.fromkeys(items))
