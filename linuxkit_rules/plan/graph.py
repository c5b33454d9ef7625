"""The graph of steps: values that say which stage runs on what.

SCons walks this graph target by target; ``realise`` walks it alone, for tests and other programs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import DamagedError, ErrorList, LinuxKitError, SpecError
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of the user's that a step reads; it may itself be built before."""

    path: Path


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a step, under the role by which the stage knows it."""

    role: str
    source: Step | LocalFile


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A stage and its inputs.  ``name`` is unique in a plan and readable: ``services/redis/rootfs``.

    ``where`` is the place in the YAML that asks for the step, for messages.  Steps of one ``group`` are
    wanted together or not at all, so that one target can stand for them.
    """

    name: str
    stage: Stage
    inputs: tuple[Input, ...] = ()
    where: str = ""
    group: str = ""

    def identity(self) -> tuple[Any, ...]:
        """Give what is equal for steps that give the same bytes: recipes and local files, all the way."""
        below = (
            item.source.path if isinstance(item.source, LocalFile) else item.source.identity()
            for item in self.inputs
        )
        return (self.recipe(), *below)

    def recipe(self) -> bytes:
        """Everything about the step but its inputs' contents, as canonical JSON."""
        value = {
            "stage": self.stage.name,
            "version": self.stage.version,
            "parameters": self.stage.parameters(),
            "roles": [item.role for item in self.inputs],
        }
        return canonical_json(value)


def inputs(*groups: tuple[str, Step | LocalFile]) -> tuple[Input, ...]:
    """Give Inputs for pairs of role and source."""
    return tuple(Input(role, source) for role, source in groups)


def ingest(file: LocalFile, engine: Engine) -> Descriptor:
    """Store a local file's bytes; raise SpecError where it cannot be read."""
    try:
        return engine.store.put_file(file.path)
    except OSError as error:
        raise SpecError(f"cannot read the file: {error.strerror}", where=str(file.path)) from error


def gather(pairs: Iterator[tuple[str, Descriptor]]) -> Inputs:
    """Group descriptors by role, keeping their order."""
    grouped: dict[str, list[Descriptor]] = {}
    for role, descriptor in pairs:
        grouped.setdefault(role, []).append(descriptor)
    return grouped


@contextlib.contextmanager
def blamed(step: Step) -> Iterator[None]:
    """Have the errors of the block name the place in the YAML that asks for ``step``."""
    try:
        yield
    except ErrorList as error:
        raise ErrorList([_blamed(item, step) for item in error.errors]) from error
    except LinuxKitError as error:
        _blamed(error, step)
        raise


def _blamed(error: LinuxKitError, step: Step) -> LinuxKitError:
    known = error.where or ""
    if not known.startswith(step.where.partition(": ")[0] or known):
        error.where = f"{step.where}: {known}".removesuffix(": ")
    return error


def realise(step: Step, engine: Engine, done: dict[Step, Result] | None = None) -> Result:
    """Run ``step`` and what it needs, in this thread; ``done`` keeps what was run, to share between calls.

    A blob that turns out to be lost or rotten on the way is made again by the step that made it.
    """
    results = {} if done is None else done
    lost: set[str] = set()
    while True:
        try:
            return _realised(step, engine, results)
        except DamagedError as error:
            if error.digest in lost:
                raise
            lost.add(error.digest)
            results.clear()


def _realised(step: Step, engine: Engine, results: dict[Step, Result]) -> Result:
    if step not in results:
        pairs = (
            (
                item.role,
                ingest(item.source, engine)
                if isinstance(item.source, LocalFile)
                else _realised(item.source, engine, results).output,
            )
            for item in step.inputs
        )
        given = gather(pairs)
        with blamed(step):
            results[step] = engine.run(step.stage, given, step.name)
    return results[step]


def local_files(step: Step) -> frozenset[Path]:
    """Every local file that ``step`` or a step below it reads."""
    found: set[Path] = set()
    for item in step.inputs:
        found |= {item.source.path} if isinstance(item.source, LocalFile) else local_files(item.source)
    return frozenset(found)
