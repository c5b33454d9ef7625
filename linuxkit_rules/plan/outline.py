"""The outline of a plan: what SCons needs to know of its steps, without the stages themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from linuxkit_rules.plan.graph import Step


class Task(NamedTuple):
    """A step: its name, its stage's ``name/version``, and its recipe as canonical JSON.

    ``inputs`` are pairs of a role and either the number of a task or the path of a local file.  Tasks of one
    ``group`` share a target; without one a task has a target of its own.
    """

    name: str
    stage: str
    recipe: str
    inputs: tuple[tuple[str, int | str], ...]
    group: str = ""


class Outline(NamedTuple):
    """The tasks, each after those that it needs; ``outputs`` is format to suffix to the number of a task.

    ``warnings`` are for the user, at each build.
    """

    tasks: tuple[Task, ...]
    outputs: Mapping[str, Mapping[str, int]]
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Any) -> Outline:
        """Read what ``to_json`` gave."""
        rows = value["tasks"]
        tasks = (
            Task(name, stage, recipe, tuple(map(tuple, given)), group)
            for name, stage, recipe, given, group in rows
        )
        return cls(tuple(tasks), value["outputs"], tuple(value["warnings"]))

    def to_json(self) -> dict[str, Any]:
        """Give a JSON value."""
        return {"tasks": self.tasks, "outputs": self.outputs, "warnings": self.warnings}


def outline(
    outputs: Mapping[str, Mapping[str, Step]], warnings: tuple[str, ...] = ()
) -> tuple[Outline, tuple[Step, ...]]:
    """Give the outline of ``outputs`` (format to suffix to step), and the step of each task."""
    numbers: dict[Step, int] = {}
    tasks: list[Task] = []

    def number(step: Step) -> int:
        if step not in numbers:
            inputs = tuple((item.role, given(item.source)) for item in step.inputs)
            stage = f"{step.stage.name}/{step.stage.version}"
            tasks.append(Task(step.name, stage, step.recipe().decode(), inputs, step.group))
            numbers[step] = len(numbers)
        return numbers[step]

    def given(source: Any) -> int | str:
        return str(source.path) if hasattr(source, "path") else number(source)

    found = {
        name: {suffix: number(step) for suffix, step in steps.items()} for name, steps in outputs.items()
    }
    return Outline(_grouped(tasks, found), found, warnings), tuple(numbers)


def _grouped(tasks: Sequence[Task], outputs: Mapping[str, Mapping[str, int]]) -> tuple[Task, ...]:
    """Put a task that is needed by tasks of one group alone into that group; outputs stand alone.

    In a build with nothing to do each target costs a millisecond, whatever it stands for.
    """
    users: dict[int, set[str]] = {number: {""} for files in outputs.values() for number in files.values()}
    groups = ["" if number in users else task.group for number, task in enumerate(tasks)]
    for number in reversed(range(len(tasks))):  # each comes after all that need it
        asked = users.get(number, set())
        if len(asked) == 1 and not groups[number]:
            (groups[number],) = asked
        for _, given in tasks[number].inputs:
            if isinstance(given, int):
                users.setdefault(given, set()).add(groups[number])
    return tuple(task._replace(group=group) for task, group in zip(tasks, groups, strict=True))
