"""What a stage is, and how it runs once for each recipe.

A stage is a frozen dataclass: its fields are its parameters.  ``run`` is a pure function of them and of its
inputs, so the engine keeps what it gave under a *key*: the sha256 of the canonical JSON of stage, version,
parameters and input digests.  Stages need no SCons: tests and other programs call ``Engine.run``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Final

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import DamagedError, FormatError, ImageError
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.trace import Trace, Untraced
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Memory, Result
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    from linuxkit_rules.remote.cache import RemoteCache
    from linuxkit_rules.remote.executor import Executor, Outcome
    from linuxkit_rules.remote.uploads import Uploads

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

    def is_shared(self) -> bool:
        """Whether a remote cache may say what the step gives, as it is the same on every machine."""
        return True

    def is_remote(self) -> bool:
        """Whether another machine can run the stage with its inputs alone, and that is worth sending them.

        Not where files of this machine or a network are needed, nor where little is done but to write down
        what is known or to list pieces.
        """
        return False

    def parameters(self) -> dict[str, Any]:
        """Give the fields, but those with ``compare=False``, as JSON values."""
        value: dict[str, Any] = as_json(self)
        return value


WHERE_SET: Final = {"where_set": True}
"""Metadata of a parameter that counts only where it is not its default.

Recipes without it keep the keys that they had before there was such a parameter.
"""


def as_json(value: Any) -> Any:
    """Turn a parameter (dataclasses, enums, digests, tuples, bytes …) into a JSON value.

    Fields with ``compare=False``, such as places in a YAML, do not decide bytes and are left out.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [as_json(item) for item in value]
    if isinstance(value, (Digest, PurePath)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value):
        return {item.name: as_json(getattr(value, item.name)) for item in _parameters(value)}
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    raise TypeError(f"a stage's parameter cannot be {type(value).__name__}")


def _parameters(value: Any) -> Iterator[dataclasses.Field[Any]]:
    """Give the fields of a dataclass that decide bytes."""
    for item in _decisive(value.__class__):
        if "where_set" not in item.metadata or getattr(value, item.name) != item.default:
            yield item


@functools.cache
def _decisive(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(item for item in dataclasses.fields(kind) if item.compare)


def key(stage: Stage, inputs: Inputs, limits: Limits = DEFAULT_LIMITS) -> str:
    """Give the recipe's key, 64 hex digits.  Media types do not count: they do not change bytes.

    Limits count where they are not the default ones: what passed wider ones is to be looked at again.
    """
    recipe: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "parameters": stage.parameters(),
        "inputs": [
            [role, str(item.digest), item.size] for role, items in sorted(inputs.items()) for item in items
        ],
    }
    if changed := limits.changed():
        recipe["limits"] = changed
    return hashlib.sha256(canonical_json(recipe)).hexdigest()


RUN, HIT, REMOTE, EXECUTED = "run", "hit", "remote", "executed"


@dataclass(frozen=True, slots=True)
class Event:
    """A step that begins: ``how`` is RUN, HIT where memory has the result, REMOTE where a remote cache has.

    EXECUTED is one that a remote executor gets; where nothing comes of that, RUN follows.
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

    ``report`` hears every step when it begins, ``trace`` when it has ended; ``limits`` are what images are
    held to.  ``remote`` is looked into after the store, and gets what is run, by ``uploads``, where the user
    says so.  ``executor`` runs the graph's steps that it can; what those that run here ask for runs here too.
    """

    store: Store
    report: Callable[[Event], None] = lambda event: None
    access: Access = dataclasses.field(default_factory=Access)
    limits: Limits = DEFAULT_LIMITS
    remote: RemoteCache | None = None
    uploads: Uploads | None = None
    trace: Trace | Untraced = Untraced()
    executor: Executor | None = None

    def __post_init__(self) -> None:
        self.memory = Memory(self.store)

    def run(self, stage: Stage, inputs: Inputs, label: str = "") -> Result:
        """Give the stage's result, from memory where it is there.

        Two threads or processes never run one recipe at the same time: the second waits, and finds the
        first's result.  A step that waits holds the locks of those that asked for it only; as recipes name
        their inputs' digests they cannot ask for each other in a circle.  ``label`` is what reports call the
        step, instead of the stage's own label.
        """
        recipe, shown = key(stage, inputs, self.limits), label or stage.label()
        known = self.memory.get(recipe)
        if known is None:
            with self.store.exclusive(recipe):
                known = self.memory.get(recipe)
                if known is None:
                    how, result = self._had(stage, inputs, recipe, shown)
                    self.memory.put(recipe, result, stage.name, stage.label() or label)
                    if how != REMOTE and self.uploads and stage.is_shared():
                        self.uploads.add(recipe, result)
                    return result
        with self._told(HIT, stage, shown):
            return known

    def _told(self, how: str, stage: Stage, label: str) -> contextlib.AbstractContextManager[None]:
        """Report that a step begins; have the block traced as that step."""
        event = Event(how, stage.name, label, _depth.get())
        self.report(event)
        return self.trace.step(event)

    def _had(self, stage: Stage, inputs: Inputs, recipe: str, shown: str) -> tuple[str, Result]:
        """Give how the result was come by, which is told, and the result."""
        known = self.remote.result(recipe, self.store) if self.remote and stage.is_shared() else None
        if known:
            with self._told(REMOTE, stage, shown):
                return REMOTE, known
        executor, fault = self.executor, None
        if executor and executor.answers and stage.is_remote() and not _depth.get():
            with self._told(EXECUTED, stage, shown):
                outcome = self._sent(executor, stage, inputs)
            if outcome.result:
                return EXECUTED, outcome.result
            fault = outcome.fault
        with self._told(RUN, stage, shown):
            result = self._made(stage, inputs)
        if executor and fault:
            executor.doubt(fault)
        return RUN, result

    def _sent(self, executor: Executor, stage: Stage, inputs: Inputs) -> Outcome:
        """Have the stage run elsewhere."""
        from linuxkit_rules.remote.action import Order
        from linuxkit_rules.remote.executor import Outcome
        from linuxkit_rules.stages.recipe import Recipe, below

        recipe = Recipe(stage, inputs, self.limits)
        outcome = executor.run(
            lambda: Order(recipe.key, recipe.to_bytes(), recipe.needed(self.store), self.limits), self.store
        )
        try:
            if outcome.result:
                below(outcome.result.output, self.store)  # other steps rely on it
            return outcome
        except (FormatError, ImageError, DamagedError) as error:
            executor.doubt(error)
            return Outcome()

    def _made(self, stage: Stage, inputs: Inputs) -> Result:
        """Run the stage; what it asked other stages for and has rotted since is asked for again."""
        met = {str(item.digest) for items in inputs.values() for item in items}
        outer = _depth.set(_depth.get() + 1)
        try:
            while True:
                try:
                    return stage.run(inputs, self)
                except DamagedError as error:
                    if error.digest in met:
                        raise
                    met.add(error.digest)
        finally:
            _depth.reset(outer)
