"""Steps become targets: each step a small descriptor file, each output a real file.

A step that two images share is declared once.  A descriptor whose blobs have left the store is always rebuilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from SCons.Builder import Builder

from linuxkit_rules.errors import FormatError
from linuxkit_rules.plan.graph import LocalFile, Step
from linuxkit_rules.scons.actions import Deliver, Generate, Node, RunStage, decode
from linuxkit_rules.stages.stage import Engine

STATE = ".linuxkit"
"""Folder of the descriptor targets, beside the outputs."""

_run_stage = Builder(action=RunStage())
_deliver = Builder(action=Deliver())
_generate = Builder(action=Generate())


@dataclass
class Declarations:
    """What has been declared in this run of SCons for one engine."""

    engine: Engine
    nodes: dict[tuple[bytes, tuple[Node, ...]], Node] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def step(self, env: Any, folder: Node, step: Step) -> Node:
        """Declare ``step`` and what it needs; give its descriptor target below ``folder``."""
        sources = tuple(self._source(env, folder, item.source) for item in step.inputs)
        recipe = step.recipe()
        node = self.nodes.get((recipe, sources))
        if node is None:
            node = self._declare(env, folder, step, sources, recipe)
            self.nodes[recipe, sources] = node
        return node

    def output(self, env: Any, target: Node, folder: Node, step: Step) -> Node:
        """Declare that ``target`` is a copy of what ``step`` gives."""
        (node,) = _deliver(env, target=target, source=[self.step(env, folder, step)])
        node.attributes.linuxkit_engine = self.engine
        env.Precious(node)
        env.NoCache(node)
        return node

    def _source(self, env: Any, folder: Node, source: Step | LocalFile) -> Node:
        if isinstance(source, LocalFile):
            return env.File(str(source.path))
        return self.step(env, folder, source)

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
        """Whether the descriptor at ``path`` may be trusted; True where there is none, for SCons builds it then."""
        try:
            return self.engine.memory.whole(decode(path.read_bytes()))
        except FileNotFoundError:
            return True
        except (OSError, FormatError):
            return False


def generated(env: Any, targets: Sequence[Node], sources: Sequence[Node], engine: Engine, make: Any) -> list[Node]:
    """Declare targets of a YAML that is itself built; ``make(paths)`` is called when it is there."""
    nodes: list[Node] = _generate(env, target=list(targets), source=list(sources))
    for node in nodes:
        node.attributes.linuxkit_make = make
        node.attributes.linuxkit_engine = engine
        env.Precious(node)
        env.NoCache(node)
    return nodes
