"""Steps become targets: each step a small descriptor file, each output a real file.

A step that two images share is declared once.  A descriptor whose blobs have left the store is always
rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from SCons.Builder import Builder

from linuxkit_rules.errors import FormatError, UsageError
from linuxkit_rules.plan.graph import LocalFile, Step
from linuxkit_rules.scons.actions import Deliver, Node, RunStage, decode
from linuxkit_rules.stages.stage import Engine

FileNode = Callable[[Path], Node]
"""Gives the node of a local file."""

STATE = ".linuxkit"
"""Folder of the descriptor targets, beside the outputs."""

_run_stage = Builder(action=RunStage())
_deliver = Builder(action=Deliver())


@dataclass
class Declarations:
    """What has been declared in this run of SCons for one engine."""

    engine: Engine
    nodes: dict[tuple[bytes, tuple[Node, ...]], Node] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    owners: dict[Node, str] = field(default_factory=dict)

    def claim(self, target: Node, format_name: str) -> None:
        """Note that ``target`` is a file of that format; raise UsageError where another format has it."""
        owner = self.owners.setdefault(target, format_name)
        if owner != format_name:
            raise UsageError(
                f"formats {owner} and {format_name} both make this file",
                where=str(target),
                hint="ask for one of them, or put them into different folders",
            )

    def step(self, env: Any, folder: Node, step: Step, files: FileNode) -> Node:
        """Declare ``step`` and what it needs; give its descriptor target below ``folder``."""
        sources = tuple(
            files(item.source.path)
            if isinstance(item.source, LocalFile)
            else self.step(env, folder, item.source, files)
            for item in step.inputs
        )
        recipe = step.recipe()
        node = self.nodes.get((recipe, sources))
        if node is None:
            node = self._declare(env, folder, step, sources, recipe)
            self.nodes[recipe, sources] = node
        return node

    def output(self, env: Any, target: Node, folder: Node, step: Step, files: FileNode) -> Node:
        """Declare that ``target`` is a copy of what ``step`` gives; ``files`` gives local files' nodes."""
        (node,) = _deliver(env, target=target, source=[self.step(env, folder, step, files)])
        node.attributes.linuxkit_engine = self.engine
        env.Precious(node)
        env.NoCache(node)
        return node

    def _declare(self, env: Any, folder: Node, step: Step, sources: Sequence[Node], recipe: bytes) -> Node:
        target = folder.File(self._free(str(folder), step.name) + ".json")
        (node,) = _run_stage(env, target=target, source=[*sources, env.Value(recipe.decode())])
        node.attributes.linuxkit_step = step
        node.attributes.linuxkit_engine = self.engine
        env.NoCache(node)
        if not self._whole(Path(node.get_abspath())):
            env.AlwaysBuild(node)
        return node

    def _free(self, folder: str, name: str) -> str:
        """Give ``name``, or ``name-2`` … where another recipe of this run has taken it."""
        number, candidate = 1, name
        while f"{folder}/{candidate}" in self.taken:
            number += 1
            candidate = f"{name}-{number}"
        self.taken.add(f"{folder}/{candidate}")
        return candidate

    def _whole(self, path: Path) -> bool:
        """Whether the descriptor at ``path`` may be trusted, or is not there, so that SCons builds it."""
        try:
            return self.engine.memory.whole(decode(path.read_bytes()))
        except FileNotFoundError:
            return True
        except (OSError, FormatError):
            return False


_declarations: dict[int, Declarations] = {}


def declarations(engine: Engine) -> Declarations:
    """Give the declarations of this run that belong to ``engine``."""
    return _declarations.setdefault(id(engine), Declarations(engine))
