"""What a stage is, and how it runs once for each recipe.

A stage is a frozen dataclass: its fields are its parameters.  ``run`` is a pure function of them and of its
inputs, so the engine keeps what it gave under a *key*: the sha256 of the canonical JSON of stage, version,
parameters and input digests.  Stages need no SCons: tests and other programs call ``Engine.run``.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.trace import Trace, Untraced
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Memory, Result

Inputs = Mapping[str, Sequence[Descriptor]]
"""Inputs of a stage: role to descriptors, in the order given."""


@dataclass(frozen=True)
class Stage(ABC):
    """One kind of build step; a subclass names itself and raises ``version`` whenever its bytes change."""

    name: ClassVar[str]
    version: ClassVar[int]

    @abstractmethod
    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Make the output; raise LinuxKitError where that cannot be done."""

    def label(self) -> str:
        """What the step works on, for people: a component's or a container's name."""
        return ""

    def parameters(self) -> dict[str, Any]:
        """Give the fields, but those with ``compare=False``, as JSON values."""
        value: dict[str, Any] = as_json(self)
        return value


def as_json(value: Any) -> Any:
    """Turn a parameter (dataclasses, enums, digests, tuples, bytes …) into a JSON value.

    Fields with ``compare=False``, such as places in a YAML, do not decide bytes and are left out.
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (Digest, PurePath)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value):
        names = (item.name for item in dataclasses.fields(value) if item.compare)
        return {name: as_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [as_json(item) for item in value]
    raise TypeError(f"a stage's parameter cannot be {type(value).__name__}")


def key(stage: Stage, inputs: Inputs) -> str:
    """Give the recipe's key, 64 hex digits.  Media types do not count: they do not change bytes."""
    recipe = {
        "stage": stage.name,
        "version": stage.version,
        "parameters": stage.parameters(),
        "inputs": [
            [role, str(item.digest), item.size] for role, items in sorted(inputs.items()) for item in items
        ],
    }
    return hashlib.sha256(canonical_json(recipe)).hexdigest()


@dataclass(frozen=True, slots=True)
class Event:
    """A step that begins: ``how`` is ``run``, or ``hit`` where memory has the result already.

    ``depth`` is 0 for a step of the graph, 1 for a step that such a stage asked for, and so on.
    """

    how: str
    stage: str
    label: str
    depth: int = 0


_depth: ContextVar[int] = ContextVar("depth", default=0)  # a thread of a stage's own runs in a copy


@dataclass
class Engine:
    """Runs stages against one store and remembers what they gave.

    ``report`` hears every step when it begins, ``trace`` when it has ended.
    """

    store: Store
    report: Callable[[Event], None] = lambda event: None
    access: Access = Access()  # noqa: RUF009 - a frozen value
    trace: Trace | Untraced = Untraced()  # noqa: RUF009 - it has no state

    def __post_init__(self) -> None:
        self.memory = Memory(self.store)
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def run(self, stage: Stage, inputs: Inputs, label: str = "") -> Result:
        """Give the stage's result, from memory where it is there; two threads never run one recipe twice.

        ``label`` is what reports call the step, instead of the stage's own label.
        """
        recipe = key(stage, inputs)
        with self._guard:
            lock = self._locks.setdefault(recipe, threading.Lock())
        with lock:
            known = self.memory.get(recipe)
            depth = _depth.get()
            event = Event("hit" if known else "run", stage.name, label or stage.label(), depth)
            self.report(event)
            with self.trace.step(event):
                if known is not None:
                    return known
                outer = _depth.set(depth + 1)
                try:
                    result = stage.run(inputs, self)
                finally:
                    _depth.reset(outer)
            self.memory.put(recipe, result)
            return result
