"""What SCons runs: one action for all stages, one that delivers a file, one for a YAML that is itself built.

SCons signs a plain function by its byte code, so that a changed helper or parameter rebuilds nothing.  These
actions sign themselves by the recipe: the stage's name and version, and its parameters.
"""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import SCons.Action
import SCons.Errors
from SCons.Action import _ActionAction

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import DamagedError, FormatError, LinuxKitError, StoreError
from linuxkit_rules.plan.written import replacing
from linuxkit_rules.scons.delivered import Note, boot, stamp_of
from linuxkit_rules.scons.settings import Site
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.pieces import write_out

if TYPE_CHECKING:
    from linuxkit_rules.plan.graph import Step
    from linuxkit_rules.plan.outline import Task

Node = Any
"""A node of SCons, which carries no types."""

Nodes = Sequence[Node]


class Action(_ActionAction):  # type: ignore[misc]
    """An action of ours: prints its own lines, turns our errors into one clean line."""

    def __init__(self) -> None:
        super().__init__(cmdstr=None)

    def __hash__(self) -> int:
        return id(self)

    def __str__(self) -> str:
        return type(self).__name__

    def strfunction(self, target: Nodes, source: Nodes, env: Any, executor: Any = None) -> str:
        """Give the line that ``scons -n`` and error messages show."""
        return f"{type(self).__name__} {target[0]}"

    def get_implicit_deps(self, target: Any, source: Any, env: Any, executor: Any = None) -> list[Node]:
        """Give nothing: all dependencies are declared."""
        return []

    def execute(self, target: Any, source: Any, env: Any, executor: Any = None) -> Any:
        """Run, giving 0, or the BuildError that SCons shows."""
        targets = executor.get_all_targets() if executor else target
        sources = executor.get_all_sources() if executor else source
        try:
            self.work(targets, sources, env)
        except LinuxKitError as error:
            return self.failure(targets, str(error))
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return self.failure(targets, f"{place}{error.strerror or error}")
        return 0

    def failure(self, targets: Sequence[Node], message: str) -> Any:
        """Give the error that SCons prints as one line after the target's name."""
        return SCons.Errors.BuildError(node=targets, errstr=message, action=self)

    @abstractmethod
    def work(self, targets: Sequence[Node], sources: Sequence[Node], env: Any) -> None:
        """Make the targets."""


class Origin(NamedTuple):
    """Where an input comes from: the part number ``part`` of the source number ``source``.

    Without a source it is an earlier part of the same target.
    """

    source: int | None
    part: int = 0


class Part(NamedTuple):
    """One of the tasks of a target: ``step`` gives its true step, and may have to plan."""

    task: Task
    inputs: tuple[Origin, ...]
    step: Callable[[], Step]


class Job(NamedTuple):
    """What a descriptor target stands for: its tasks, each after those that it needs.

    ``signature`` tells everything that decides the results but the sources' contents.
    """

    parts: tuple[Part, ...]
    site: Site
    signature: str

    @classmethod
    def of(cls, parts: tuple[Part, ...], site: Site) -> Job:
        """Give the job with its signature."""
        recipes = (
            f"{part.task.stage} {part.task.recipe} {[(item.source, item.part) for item in part.inputs]}"
            for part in parts
        )
        return cls(parts, site, "\n".join(filter(None, (*recipes, site.limits_note))))


class RunStage(Action):
    """Runs the step that a descriptor target stands for, and writes the descriptor."""

    def strfunction(self, target: Nodes, source: Nodes, env: Any, executor: Any = None) -> str:
        """Name the stage and the step where nothing is run; else the engine's report tells more."""
        if SCons.Action.execute_actions:
            return ""
        tasks = [part.task for part in target[0].attributes.linuxkit_job.parts]
        return "\n".join(f"{task.stage.partition('/')[0]} {task.name}" for task in tasks)

    def genstring(self, target: Nodes, source: Nodes, env: Any, executor: Any = None) -> str:
        """Give what ``scons --debug=explain`` shows, old and new, where the recipe has changed."""
        job: Job = target[0].attributes.linuxkit_job
        return job.signature

    def get_presig(self, target: Sequence[Node], source: Any, env: Any, executor: Any = None) -> bytes:
        """Sign by what the target stands for."""
        return self.genstring(target, source, env, executor).encode()

    def work(self, targets: Sequence[Node], sources: Sequence[Node], env: Any) -> None:
        """Read the inputs' descriptors, run the stage, write its descriptor."""
        from linuxkit_rules.plan.graph import blamed, gather

        job: Job = targets[0].attributes.linuxkit_job
        done: list[Result] = []
        for part in job.parts:
            step = part.step()
            given = (
                done[origin.part].output
                if origin.source is None
                else self._read(sources[origin.source], origin.part, job.site)
                for origin in part.inputs
            )
            inputs = gather(zip((item.role for item in step.inputs), given, strict=True))
            with blamed(step):
                try:
                    result = job.site.engine.run(step.stage, inputs, step.name)
                except DamagedError as error:
                    result = remade(part, job.site, error, set())
            done.append(result)
        write(Path(targets[0].get_abspath()), encode(done))

    @staticmethod
    def _read(node: Node, part: int, site: Site) -> Descriptor:
        from linuxkit_rules.plan.graph import LocalFile, ingest

        if hasattr(node.attributes, "linuxkit_job"):
            return decode(Path(node.get_abspath()).read_bytes())[part].output
        return ingest(LocalFile(Path(node.rfile().get_abspath())), site.engine)


class Deliver(Action):
    """Copies a blob out of the store to the file that the user asked for; the old file stays until then."""

    def strfunction(self, target: Nodes, source: Nodes, env: Any, executor: Any = None) -> str:
        """Name the file."""
        return f"deliver {target[0]}"

    def get_presig(self, target: Any, source: Any, env: Any, executor: Any = None) -> bytes:
        """Sign by this action's name alone: bytes are named by the source."""
        return b"deliver/1"

    def work(self, targets: Sequence[Node], sources: Sequence[Node], env: Any) -> None:
        """Note what is delivered, copy, then rename over the target."""
        from linuxkit_rules.stages.stage import Event

        attributes = targets[0].attributes
        engine, target = attributes.linuxkit_site.engine, Path(targets[0].get_abspath())
        job: Job = sources[0].attributes.linuxkit_job
        part = attributes.linuxkit_part
        blob = decode(Path(sources[0].get_abspath()).read_bytes())[part].output
        note = attributes.linuxkit_note
        # of two folders with one image, one has no descriptors
        Path(note.get_abspath()).parent.mkdir(parents=True, exist_ok=True)
        known = Note(str(blob.digest), boot=boot())
        known.write(note, sync=True)
        lost: set[str] = set()
        with engine.trace.step(Event("deliver", "deliver", str(targets[0]))):
            while True:
                try:
                    deliver(engine.store, blob, target, sync=not boot())
                    break
                except DamagedError as error:
                    blob = remade(job.parts[part], job.site, error, lost).output
        known._replace(stamp=stamp_of(target)).write(note)


class Discard(Action):
    """Removes a file that an earlier build made and that the image has no longer."""

    def strfunction(self, target: Nodes, source: Nodes, env: Any, executor: Any = None) -> str:
        """Name the file."""
        return f"remove {target[0].attributes.linuxkit_stale}"

    def get_presig(self, target: Any, source: Any, env: Any, executor: Any = None) -> bytes:
        """Sign by this action's name alone."""
        return b"discard/1"

    def work(self, targets: Sequence[Node], sources: Sequence[Node], env: Any) -> None:
        """Remove it."""
        Path(targets[0].attributes.linuxkit_stale.get_abspath()).unlink(missing_ok=True)


class Generate(Action):
    """Makes the outputs of a YAML that is itself built: its steps are known only when it is there."""

    def get_presig(self, target: Any, source: Any, env: Any, executor: Any = None) -> bytes:
        """Sign by this action's name; what decides bytes besides the YAML is a Value source."""
        return b"generate/1"

    def work(self, targets: Sequence[Node], sources: Sequence[Node], env: Any) -> None:
        """Plan and run everything, stage by stage from memory where that has it."""
        make: Callable[[Sequence[Path]], None] = targets[0].attributes.linuxkit_make
        make([Path(node.get_abspath()) for node in targets])


def remade(part: Part, site: Site, error: DamagedError, lost: set[str]) -> Result:
    """Make what ``part`` gives from the bottom up, and with it what was lost on the way.

    ``lost`` are the digests that have been made again before: one that is lost twice is a fault.
    """
    from linuxkit_rules.plan.graph import realise

    while True:
        if error.digest in lost:
            raise error
        lost.add(error.digest)
        print(f"note: {error.message}: it is made again", file=sys.stderr, flush=True)
        try:
            return realise(part.step(), site.engine)
        except DamagedError as another:
            error = another


def deliver(store: Store, blob: Descriptor, target: Path, *, sync: bool = True) -> None:
    """Write a blob, or what it lists, to ``target``, which changes in one step.

    Without ``sync`` a power cut can leave anything there.  Raises StoreError where that cannot be done.
    """
    try:
        with replacing(target, sync=sync) as file:
            write_out(store, blob, file, flush=sync)
    except OSError as error:
        raise StoreError(f"cannot write the output: {error.strerror}", where=str(target)) from error


def write(path: Path, data: bytes) -> None:
    """Write a descriptor target; raise StoreError where that cannot be done."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StoreError(f"cannot write: {error.strerror}", where=str(path)) from error


def encode(results: Sequence[Result]) -> bytes:
    """Give the text of a descriptor target: a line for each of its parts.

    A line is the output's descriptor, and what that refers to.
    """
    return b"".join(canonical_json(_to_json(result)) + b"\n" for result in results)


def _to_json(result: Result) -> dict[str, Any]:
    value: dict[str, Any] = dict(result.output.to_json())
    if result.refers:
        value["refers"] = [item.to_json() for item in result.refers]
    return value


def decode(data: bytes) -> list[Result]:
    """Read a descriptor target; raise FormatError where it is none."""
    try:
        values = json.loads(b"[" + b",".join(data.splitlines()) + b"]")
        refers = [tuple(Descriptor.from_json(item) for item in value.get("refers", ())) for value in values]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise FormatError("a descriptor target is damaged", hint="remove the .linuxkit folder") from error
    return [Result(Descriptor.from_json(value), items) for value, items in zip(values, refers, strict=True)]
