"""An image's label and a container's YAML to one image configuration: what the YAML says counts.

The rules are LinuxKit's (src/cmd/linuxkit/moby/config.go, ConfigToOCI and the assign functions).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeVar

from linuxkit_rules.spec.image import ImageConfig
from linuxkit_rules.spec.runtime import Namespaces, Runtime
from linuxkit_rules.values import dataclass

T = TypeVar("T", ImageConfig, Runtime, Namespaces)


@dataclass(frozen=True, slots=True)
class Said:
    """Who says a value: the container's ``own`` YAML or the image's ``label``; ``path`` is its key there."""

    by: Literal["own", "label"]
    path: str


def overlay(label: ImageConfig, own: ImageConfig) -> ImageConfig:
    """Give ``own`` with absent values from ``label``; ``….add`` lists extend those of the label.

    An additive list counts only where the YAML has no full list.  The label's own additive lists say nothing.
    """
    return dataclasses.replace(
        _first(label, own),
        capabilities=tuple(text for text, _ in extended("capabilities", label, own)),
        binds=tuple(text for text, _ in extended("binds", label, own)),
        capabilities_add=None,
        binds_add=None,
        runtime=_runtime(label.runtime or Runtime(), own.runtime or Runtime()),
    )


def extended(
    name: Literal["capabilities", "binds"], label: ImageConfig, own: ImageConfig
) -> tuple[tuple[str, tuple[Said, ...]], ...]:
    """Give the joined list ``name``, each item with all who say it."""
    listed = getattr(own, name)
    if listed is not None:
        return tuple((text, (Said("own", f"{name}[{index}]"),)) for index, text in enumerate(listed))
    found: dict[str, tuple[Said, ...]] = {}
    for index, text in enumerate(getattr(label, name) or ()):
        found[text] = (*found.get(text, ()), Said("label", f"{name}[{index}]"))
    for index, text in enumerate(getattr(own, f"{name}_add") or ()):
        found[text] = (*found.get(text, ()), Said("own", f"{name}.add[{index}]"))
    return tuple(found.items())


def speaker(name: str, label: T, own: T) -> Literal["own", "label"] | None:
    """Give who says the field ``name``, or None where its default counts."""
    default = type(own).__dataclass_fields__[name].default
    if getattr(own, name) != default:
        return "own"
    return "label" if getattr(label, name) != default else None


def _first(label: T, own: T) -> T:
    """Give ``own`` with those fields that it leaves at their default from ``label``."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(own):
        said = own if speaker(item.name, label, own) == "own" else label
        values[item.name] = getattr(said, item.name)
    return type(own)(**values)


def _runtime(label: Runtime, own: Runtime) -> Runtime:
    return dataclasses.replace(_first(label, own), bindNS=_first(label.bindNS, own.bindNS))
