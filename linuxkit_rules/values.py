"""Values: the frozen dataclasses of ``dataclasses``, quick to define.

That module compiles six functions for each frozen class, in up to a millisecond; a build whose YAML was
edited defines 135 classes, which was a tenth of all that it computed.  Here classes share what five of the
functions do, and the initializer is compiled when the first value is made: many a class of a build has none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # what a type checker knows

_FROZEN = "__init__", "__setattr__", "__delattr__"


def _dataclass(
    cls: Any = None, /, *, frozen: bool = False, eq: bool = True, order: bool = False, **options: Any
) -> Any:
    """Do what ``dataclasses.dataclass`` does, with its options."""

    def made(cls: Any) -> Any:
        if not frozen or order or any(name in vars(cls) for name in _FROZEN):
            return dataclasses.dataclass(frozen=frozen, eq=eq, order=order, **options)(cls)
        return _frozen(dataclasses.dataclass(init=False, repr=False, eq=False, **options)(cls), eq=eq)

    return made if cls is None else made(cls)


if not TYPE_CHECKING:
    dataclass = _dataclass


def _frozen(cls: Any, *, eq: bool) -> Any:
    """Give ``cls`` the methods of a frozen dataclass, but for those that it has of its own."""
    own = vars(cls)
    methods = {"__init__": _first_of(cls), "__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
    if "__repr__" not in own:
        methods["__repr__"] = _shown
    if eq and "__eq__" not in own:
        methods["__eq__"] = _equal(_getter(item.name for item in fields(cls) if item.compare))
    if eq and own.get("__hash__") is None:
        methods["__hash__"] = _hashed(_getter(item.name for item in fields(cls) if _counts(item)))
    if "__slots__" in own and "__setstate__" not in own:
        methods |= {"__getstate__": _state, "__setstate__": _restore}
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls


def _counts(item: Field[Any]) -> bool:
    """Whether a field is a part of the hash."""
    return item.compare if item.hash is None else item.hash


def _getter(names: Iterator[str]) -> Callable[[Any], Any]:
    listed = tuple(names)
    return attrgetter(*listed) if listed else lambda value: ()


def _equal(values: Callable[[Any], Any]) -> Callable[[Any, object], Any]:
    def __eq__(self: Any, other: object) -> Any:  # noqa: N807 - what it is called in tracebacks
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hashed(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _shown(self: Any) -> str:
    shown = ", ".join(f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{type(self).__qualname__}({shown})"


def _refuse_to_set(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, item.name) for item in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for item, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, item.name, value)


def _first_of(cls: Any) -> Callable[..., None]:
    """Give the initializer of the first value, which makes that of all later ones."""

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        cls.__init__ = _initializer(cls)
        cls.__init__(self, *values, **named)

    return __init__


def _initializer(cls: Any) -> Callable[..., None]:
    """Compile the initializer of ``cls``; its parameters are the fields, those by keyword alone the last."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    plain: list[str] = []
    named: list[str] = []
    body: list[str] = []
    for item in fields(cls):
        name, value = item.name, item.name
        if item.default_factory is not MISSING:
            known[f"_make_{name}"] = item.default_factory
            value = f"_make_{name}() if {name} is _missing else {name}" if item.init else f"_make_{name}()"
        elif item.default is not MISSING:
            known[f"_default_{name}"] = item.default
            value = name if item.init else f"_default_{name}"
        elif not item.init:
            continue
        if item.init:
            (named if item.kw_only else plain).append(name + _default(item))
        body.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    head = f"def __init__({', '.join(['self', *plain, *(['*', *named] if named else [])])}):"
    exec("\n".join([head, *(body or [" pass"])]), known)  # noqa: S102 - names of fields, as dataclasses does
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _default(item: Field[Any]) -> str:
    """Give what follows a parameter's name."""
    if item.default_factory is not MISSING:
        return "=_missing"
    return f"=_default_{item.name}" if item.default is not MISSING else ""
