"""What SCons runs: one action for all stages, one that delivers a file, one for a YAML that is itself built.

SCons signs a plain function by its byte code, so that a changed helper or parameter rebuilds nothing.  These
actions sign themselves by the stage's name and version; parameters are ``Value`` sources beside the inputs.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import SCons.Action
import SCons.Errors
from SCons.Action import _ActionAction

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import FormatError, LinuxKitError, StoreError
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.plan.written import replacing
from linuxkit_rules.scons.settings import Site
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result

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


class Job(NamedTuple):
    """What a descriptor target stands for: ``step`` gives the true step of ``task``, and may have to plan."""

    task: Task
    step: Callable[[], Step]
    site: Site


class RunStage(Action):
    """Runs the step that a descriptor target stands for, and writes the descriptor."""

    def strfunction(self, target: Nodes, source: Nodes, env: Any, executor: Any = None) -> str:
        """Name the stage and the step where nothing is run; else the engine's report tells more."""
        task = target[0].attributes.linuxkit_job.task
        stage, _, _ = task.stage.partition("/")
        return "" if SCons.Action.execute_actions else f"{stage} {task.name}"

    def get_presig(self, target: Sequence[Node], source: Any, env: Any, executor: Any = None) -> bytes:
        """Sign by the stage's name and version."""
        signature: str = target[0].attributes.linuxkit_job.task.stage
        return signature.encode()

    def work(self, targets: Sequence[Node], sources: Sequence[Node], env: Any) -> None:
        """Read the inputs' descriptors, run the stage, write its descriptor."""
        from linuxkit_rules.plan.graph import blamed, gather

        job: Job = targets[0].attributes.linuxkit_job
        step, engine = job.step(), job.site.engine
        pairs = zip((item.role for item in step.inputs), sources, strict=False)
        inputs = gather((role, self._read(node, job.site)) for role, node in pairs)
        with blamed(step):
            result = engine.run(step.stage, inputs, step.name)
        Path(targets[0].get_abspath()).write_bytes(encode(result))

    @staticmethod
    def _read(node: Node, site: Site) -> Descriptor:
        from linuxkit_rules.plan.graph import LocalFile, ingest

        if hasattr(node.attributes, "linuxkit_job"):
            return decode(Path(node.get_abspath()).read_bytes()).output
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
        """Copy, then rename over the target."""
        from linuxkit_rules.stages.stage import Event

        site: Site = targets[0].attributes.linuxkit_site
        result = decode(Path(sources[0].get_abspath()).read_bytes())
        with site.engine.trace.step(Event("deliver", "deliver", str(targets[0]))):
            deliver(site.engine.store, result.output, Path(targets[0].get_abspath()))


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


def deliver(store: Store, blob: Descriptor, target: Path) -> None:
    """Copy a blob to ``target``, which changes in one step; raise StoreError where that cannot be done."""
    try:
        with replacing(target) as file:
            store.copy(Slice(blob.digest, 0, blob.size), file)
    except OSError as error:
        raise StoreError(f"cannot write the output: {error.strerror}", where=str(target)) from error


def encode(result: Result) -> bytes:
    """Give the text of a descriptor target: the output's descriptor, and what it refers to."""
    value: dict[str, Any] = dict(result.output.to_json())
    if result.refers:
        value["refers"] = [item.to_json() for item in result.refers]
    return canonical_json(value) + b"\n"


def decode(data: bytes) -> Result:
    """Read a descriptor target; raise FormatError where it is none."""
    try:
        value = json.loads(data)
        refers = tuple(Descriptor.from_json(item) for item in value.get("refers", ()))
    except (ValueError, AttributeError, TypeError) as error:
        raise FormatError("a descriptor target is damaged", hint="remove the .linuxkit folder") from error
    return Result(Descriptor.from_json(value), refers)
