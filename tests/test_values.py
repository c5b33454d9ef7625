"""Values do what ``dataclasses`` does: each test compares the two."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from linuxkit_rules import values

SLOTS = pytest.mark.parametrize("slots", [False, True], ids=["dict", "slots"])


def pair(make: Callable[[Any], type]) -> tuple[Any, Any]:
    """The same class by the standard library and by ours."""
    return make(dataclasses.dataclass), make(values.dataclass)


def point(dataclass: Any, **options: Any) -> type:
    @dataclass(frozen=True, **options)
    class Point:
        """A point."""

        x: int
        y: int = 2
        shown: str = dataclasses.field(default="", compare=False)
        hidden: list[int] = dataclasses.field(default_factory=list, repr=False, hash=False)
        late: int = dataclasses.field(default=7, init=False)
        last: int = dataclasses.field(default=0, kw_only=True, metadata={"a": 1})

        def __post_init__(self) -> None:
            object.__setattr__(self, "late", self.x + self.late)

    return Point


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except TypeError as error:
        return "TypeError", str(error)


@SLOTS
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1,), {}),
        ((1, 3), {"shown": "s", "last": 4}),
        ((), {"x": 1, "hidden": [1]}),
        ((), {}),
        ((1, 2, "", [], 5), {}),
        ((1,), {"late": 1}),
        ((1,), {"other": 1}),
        ((1,), {"x": 1}),
    ],
)
def test_initializer_and_repr(arguments: tuple[Any, ...], named: dict[str, Any], slots: bool) -> None:
    theirs, ours = pair(lambda dataclass: point(dataclass, slots=slots))
    for _ in range(2):  # the first makes the initializer of the others
        assert outcome(lambda: repr(ours(*arguments, **named))) == outcome(
            lambda: repr(theirs(*arguments, **named))
        )


@SLOTS
def test_equality_and_hash(slots: bool) -> None:
    for cls in pair(lambda dataclass: point(dataclass, slots=slots)):
        assert cls(1) == cls(1, shown="other")
        assert hash(cls(1, hidden=[1])) == hash(cls(1, hidden=[2]))
        assert cls(1, hidden=[1]) != cls(1, hidden=[2])
        assert len({cls(1), cls(1, 2), cls(2), cls(1, last=1)}) == 3
        assert cls(1) != (1, 2, [], 8, 0)
        assert cls(1).__eq__(3) is NotImplemented


@SLOTS
def test_values_are_frozen(slots: bool) -> None:
    for cls in pair(lambda dataclass: point(dataclass, slots=slots)):
        value = cls(1)
        with pytest.raises(dataclasses.FrozenInstanceError, match="^cannot assign to field 'x'$"):
            value.x = 2
        with pytest.raises(dataclasses.FrozenInstanceError, match="^cannot delete field 'x'$"):
            del value.x
        assert value.x == 1


@SLOTS
def test_functions_of_dataclasses(slots: bool) -> None:
    theirs, ours = pair(lambda dataclass: point(dataclass, slots=slots))
    assert [(item.name, item.type, item.metadata) for item in dataclasses.fields(ours)] == [
        (item.name, item.type, item.metadata) for item in dataclasses.fields(theirs)
    ]
    value = dataclasses.replace(ours(1, 5), x=2)
    assert (value.x, value.y, value.late) == (2, 5, 9)
    assert dataclasses.asdict(value) == dataclasses.asdict(dataclasses.replace(theirs(1, 5), x=2))
    assert ours.__match_args__ == theirs.__match_args__
    assert hasattr(ours, "__slots__") == slots


def test_without_equality_values_are_themselves() -> None:
    @values.dataclass(frozen=True, eq=False)
    class Thing:
        """A thing."""

        x: int

    assert Thing(1) != Thing(1)
    assert len({Thing(1), Thing(1)}) == 2


def test_methods_of_the_class_stay() -> None:
    @values.dataclass(frozen=True, slots=True)
    class Word:
        """A word."""

        text: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Word) and self.text.lower() == other.text.lower()

        def __hash__(self) -> int:
            return hash(self.text.lower())

        def __repr__(self) -> str:
            return self.text

    assert Word("A") == Word("a")
    assert len({Word("A"), Word("a")}) == 1
    assert repr(Word("A")) == "A"


def test_a_class_of_a_class() -> None:
    @values.dataclass(frozen=True)
    class Below:
        """Below."""

        x: int
        y: int = 2

    @values.dataclass(frozen=True, kw_only=True)
    class Above(Below):
        """Above."""

        z: int

    assert Above(1, z=3) == Above(x=1, y=2, z=3)
    assert Above(1, z=3) != Below(1)
    assert (Below(1).y, Above(1, 5, z=3).y) == (2, 5)
    assert repr(Above(1, z=3)) == "test_a_class_of_a_class.<locals>.Above(x=1, y=2, z=3)"


def test_others_are_made_by_dataclasses() -> None:
    @values.dataclass
    class Open:
        """Open."""

        x: int = 1

    @values.dataclass(frozen=True, order=True)
    class Ordered:
        """Ordered."""

        x: int

    value = Open()
    value.x = 2
    assert value == Open(2)
    assert Ordered(1) < Ordered(2)


@values.dataclass(frozen=True, slots=True)
class Kept:
    """A value that is copied and pickled."""

    x: int
    y: str = "y"


def test_copies() -> None:
    value = Kept(3)
    for made in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301
        assert made == value
        assert made is not value


def test_an_undecorated_class_may_have_more() -> None:
    for dataclass in (dataclasses.dataclass, values.dataclass):

        @dataclass(frozen=True)  # type: ignore[arg-type]
        class Base:
            """A base."""

            x: int

        class More(Base):
            """With an attribute that is no field."""

        value = More(1)
        value.more = 2  # type: ignore[attr-defined]
        del value.more  # type: ignore[attr-defined]
        with pytest.raises(dataclasses.FrozenInstanceError, match="^cannot assign to field 'x'$"):
            value.x = 3  # type: ignore[misc]


def test_a_hash_of_none_stays() -> None:
    for dataclass in (dataclasses.dataclass, values.dataclass):

        @dataclass(frozen=True)  # type: ignore[arg-type]
        class Unhashable:
            """None can be in a set."""

            x: int
            __hash__ = None  # type: ignore[assignment]

        with pytest.raises(TypeError, match="unhashable"):
            hash(Unhashable(1))


@pytest.mark.parametrize("names", [("self",), ("_set", "_missing"), ("cls", "values")])
def test_names_of_fields_are_free(names: tuple[str, ...]) -> None:
    for dataclass in (dataclasses.dataclass, values.dataclass):
        body = {"__annotations__": dict.fromkeys(names, int), "__doc__": "Named.", names[-1]: 5}
        made = dataclass(frozen=True)(type("Named", (), body))
        for _ in range(2):
            value = made(**{name: number for number, name in enumerate(names)})
            assert [getattr(value, name) for name in names] == list(range(len(names)))


def test_one_field_is_compared_as_many_are() -> None:
    """Two NaNs are the same in tuples where they are one object."""
    nan = float("nan")

    @values.dataclass(frozen=True)
    class One:
        """One field."""

        x: float

    @values.dataclass(frozen=True)
    class Two:
        """Two fields."""

        x: float
        y: int = 1

    assert One(nan) == One(nan)
    assert Two(nan) == Two(nan)


def test_own_ways_to_be_pickled_stay() -> None:
    @values.dataclass(frozen=True, slots=True)
    class Word:
        """A word."""

        text: str

        def __getstate__(self) -> str:
            return self.text.upper()

    assert Word("a").__getstate__() == "A"


def refused(define: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        define()


def test_what_is_refused_is_refused_when_the_class_is_defined() -> None:
    def body(**fields: Any) -> dict[str, Any]:
        return {"__annotations__": dict.fromkeys(fields, "int"), "__doc__": "A class.", **fields}

    frozen = values.dataclass(frozen=True)
    base = frozen(type("Base", (), body(x=1)))
    other = dataclasses.dataclass(frozen=True)(type("Other", (), body(x=1)))
    disordered = {"__annotations__": {"x": "int", "y": "int"}, "__doc__": "A class.", "x": 1}
    initial = {"__annotations__": {"x": "dataclasses.InitVar[int]"}, "__doc__": "A class."}
    refused(lambda: frozen(type("Wrong", (), disordered)), "^non-default argument 'y' follows default")
    refused(lambda: frozen(type("Initial", (), initial)), "has an InitVar")
    mutable = values.dataclass(type("Mutable", (), body(x=1)))
    refused(lambda: frozen(type("Mixed", (mutable,), body(y=1))), "frozen dataclass from a non-frozen one")
    refused(lambda: values.dataclass(type("Open", (base,), body(y=1))), "non-frozen dataclass from a frozen")
    refused(lambda: frozen(type("Mixed", (other,), body(y=1))), "or one that dataclasses made")
    refused(
        lambda: dataclasses.dataclass(frozen=True)(type("Mixed", (base,), body(y=1))), "from a non-frozen"
    )
    refused(lambda: values.dataclass(frozen=True, repr=False), "unexpected keyword")  # type: ignore[call-overload]


def test_no_fields() -> None:
    @values.dataclass(frozen=True)
    class Nothing:
        """Nothing."""

    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
