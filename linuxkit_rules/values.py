"""Values: the frozen dataclasses of ``dataclasses``, quick to define.

That module compiles six functions for each frozen class, in up to a millisecond; a build whose YAML was
edited defines 135 classes, which was a tenth of all that it computed.  Here classes share what five of the
functions do, and the initializer is compiled when the first value is made: many a class of a build has none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # what a type checker knows

_FROZEN = "__init__", "__setattr__", "__delattr__"


def _dataclass(
    cls: Any = None,
    /,
    *,
    frozen: bool = False,
    eq: bool = True,
    order: bool = False,
    slots: bool = False,
    kw_only: bool = False,
) -> Any:
    """Do what ``dataclasses.dataclass`` does, for a frozen class with no InitVar.

    That module makes those that are not frozen, are ordered, or have an initializer of their own; one of them
    and one of these cannot be a base of each other.  What is refused is refused when the class is defined, as
    there: TypeError, or ValueError for a mutable default.  Values are compared as tuples of their fields.
    """
    options = {"slots": slots, "kw_only": kw_only}

    def made(cls: Any) -> Any:
        if frozen and not order and not any(name in vars(cls) for name in _FROZEN):
            if any("__dataclass_params__" in vars(base) and not _is_ours(base) for base in cls.__mro__):
                raise TypeError(
                    "cannot inherit frozen dataclass from a non-frozen one, or one that dataclasses made"
                )
            return _frozen(cls, eq, options)
        if not frozen and any(map(_is_ours, cls.__mro__)):
            raise TypeError("cannot inherit non-frozen dataclass from a frozen one")
        return dataclasses.dataclass(frozen=frozen, eq=eq, order=order, **options)(cls)

    return made if cls is None else made(cls)


if not TYPE_CHECKING:
    dataclass = _dataclass


def _is_ours(cls: type) -> bool:
    return vars(cls).get("__setattr__") is _set


def _frozen(cls: Any, eq: bool, options: Mapping[str, bool]) -> Any:
    """Give ``cls`` the methods of a frozen dataclass, but for those that it has of its own."""
    own = frozenset(vars(cls))
    hashes = "__hash__" in own and not ("__eq__" in own and cls.__hash__ is None)
    cls = dataclasses.dataclass(init=False, repr=False, eq=False, **options)(cls)
    _check(cls)
    cls.__init__, cls.__setattr__, cls.__delattr__ = _first_of(cls), _set, _delete
    methods: dict[str, Any] = {"__repr__": _shown}
    if eq:
        methods["__eq__"] = _equal(_getter(item.name for item in fields(cls) if item.compare))
    if options["slots"]:
        methods |= {"__getstate__": _state, "__setstate__": _restore}
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    if eq and not hashes:
        cls.__hash__ = _hashed(_getter(item.name for item in fields(cls) if _counts(item)))
    return cls


def _check(cls: Any) -> None:
    """Raise TypeError for what the initializer could not be."""
    if any("InitVar" in str(kind) for kind in cls.__annotations__.values()):
        raise TypeError(f"{cls.__qualname__} has an InitVar, which a value cannot have")
    optional = False
    for item in fields(cls):
        if item.init and not item.kw_only:
            if optional and not _default(item):
                raise TypeError(f"non-default argument {item.name!r} follows default argument")
            optional = bool(_default(item))


def _counts(item: Field[Any]) -> bool:
    """Whether a field is a part of the hash."""
    return item.compare if item.hash is None else item.hash


def _getter(names: Iterator[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Give what gives the values of fields as a tuple."""
    listed = tuple(names)
    if len(listed) > 1:
        return attrgetter(*listed)
    return lambda value: tuple(getattr(value, name) for name in listed)


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


def _set(self: Any, name: str, value: object) -> None:
    if _is_held(self, name):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _delete(self: Any, name: str) -> None:
    if _is_held(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _is_held(value: Any, name: str) -> bool:
    """Whether an attribute stays: a field, or any of a class that is itself a dataclass."""
    return "__dataclass_fields__" in vars(type(value)) or name in value.__dataclass_fields__


def _state(self: Any) -> list[Any]:
    return [getattr(self, item.name) for item in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for item, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, item.name, value)


def _first_of(cls: Any) -> Callable[..., None]:
    """Give the initializer of the first value, which makes that of all later ones."""

    def __init__(self: Any, /, *values: Any, **named: Any) -> None:  # noqa: N807
        cls.__init__ = _initializer(cls)
        cls.__init__(self, *values, **named)

    return __init__


def _initializer(cls: Any) -> Callable[..., None]:
    """Compile the initializer of ``cls``; its parameters are the fields, those by keyword alone the last.

    What it uses beside them has names that no field can have in a class, as they would be mangled there.
    """
    known: dict[str, Any] = {"__set": object.__setattr__, "__missing": MISSING}
    plain: list[str] = []
    named: list[str] = []
    body: list[str] = []
    for item in fields(cls):
        name, value = item.name, item.name
        if item.default_factory is not MISSING:
            known[f"__make_{name}"] = item.default_factory
            value = f"__make_{name}() if {name} is __missing else {name}" if item.init else f"__make_{name}()"
        elif item.default is not MISSING:
            known[f"__default_{name}"] = item.default
            value = name if item.init else f"__default_{name}"
        elif not item.init:
            continue
        if item.init:
            (named if item.kw_only else plain).append(name + _default(item))
        body.append(f" __set(__self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" __self.__post_init__()")
    head = f"def __init__({', '.join(['__self', *plain, *(['*', *named] if named else [])])}):"
    exec("\n".join([head, *(body or [" pass"])]), known)  # noqa: S102 - names of fields, as dataclasses does
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _default(item: Field[Any]) -> str:
    """Give what follows a parameter's name."""
    if item.default_factory is not MISSING:
        return "=__missing"
    return f"=__default_{item.name}" if item.default is not MISSING else ""
