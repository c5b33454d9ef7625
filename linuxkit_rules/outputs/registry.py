"""Finds the output formats: every module of this folder that has a class of ``Output``."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence

import linuxkit_rules.outputs
from linuxkit_rules.errors import ErrorList, SpecError, UsageError
from linuxkit_rules.outputs.base import Output
from linuxkit_rules.plan.graph import Step
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.spec import legacy as spec


@functools.cache
def outputs() -> Mapping[str, Output]:
    """Give every format by its name, sorted."""
    for module in _modules():
        _read(module)
    return {kind.name: _made(kind) for kind in sorted(Output.__subclasses__(), key=lambda kind: kind.name)}


def by_name(name: str) -> Output:
    """Give the format ``name``; raise UsageError where there is none.

    Of the folder's modules only the one that is called like the format is read, if there is one.
    """
    name = name.strip()
    module = re.sub(r"[-+]", "_", name)
    if module in _modules():
        _read(module)
        for kind in Output.__subclasses__():
            if kind.name == name:
                return _made(kind)
    try:
        return outputs()[name]
    except KeyError:
        known = ", ".join(outputs())
        raise UsageError(f"there is no format {name!r}", hint=f"one of {known}") from None


@functools.cache
def _modules() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(linuxkit_rules.outputs.__path__))


def _read(module: str) -> None:
    importlib.import_module(f"linuxkit_rules.outputs.{module}")


@functools.cache
def _made(kind: type[Output]) -> Output:
    return kind()


def named(wanted: Sequence[spec.Output]) -> list[str]:
    """Give the names of the formats that a YAML asks for; raise SpecError, or ErrorList, for unknown ones."""
    names: list[str] = []
    faults: list[SpecError] = []
    for item in wanted:
        try:
            names.append(by_name(item.format).name)
        except UsageError as error:
            faults.append(SpecError(error.message, where=item.where, hint=error.hint))
    if len(faults) > 1:
        raise ErrorList(faults)
    if faults:
        raise faults[0]
    return names


def steps_of(parts: Parts, names: Sequence[str]) -> list[Step]:
    """Give the steps of the formats ``names``, or, without names, of all in which the image can be had.

    Raises UsageError for an unknown format, SpecError for one in which the image cannot be had.
    """
    if names:
        return [step for name in names for step in by_name(name).steps(parts).values()]
    found: list[Step] = []
    for output in outputs().values():
        with contextlib.suppress(SpecError):
            found += output.steps(parts).values()
    return found


def suffixes() -> list[tuple[str, Output]]:
    """Give pairs of file suffix and format, longest suffix first; ``.iso`` is the hybrid's."""
    pairs = [(suffix, output) for output in outputs().values() for suffix in output.suffixes]
    return sorted(pairs, key=lambda pair: (-len(pair[0]), pair[1].name))


def by_file(file_name: str) -> tuple[Output, str]:
    """Give the format that makes ``file_name``, and the image's name; raise UsageError where none does."""
    for suffix, output in suffixes():
        if file_name.endswith(suffix) and len(file_name) > len(suffix):
            return output, file_name.removesuffix(suffix)
    known = ", ".join(dict.fromkeys(suffix for suffix, _ in suffixes()))
    raise UsageError(f"no format makes a file of this name: {file_name}", hint=f"names end in {known}")
