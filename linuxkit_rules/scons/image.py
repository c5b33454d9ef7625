"""One image in SCons: its YAML read, its steps planned, its files declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SCons.Builder import Builder
from SCons.Scanner import ScannerBase

from linuxkit_rules.digest import canonical_json
from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.outputs.base import Output
from linuxkit_rules.plan.graph import Step, local_files, realise
from linuxkit_rules.plan.image import Parts, plan
from linuxkit_rules.scons.actions import Generate, Node, deliver
from linuxkit_rules.scons.declare import STATE, declarations
from linuxkit_rules.scons.settings import engine_of, settings_of
from linuxkit_rules.stages.stage import as_json


class Image:
    """The image ``name`` in ``folder``, described by the YAMLs ``sources``."""

    def __init__(self, env: Any, folder: Node, name: str, sources: Sequence[Node]) -> None:
        self._env = env
        self._folder = folder
        self._name = name
        self._sources = sources
        self._settings = settings_of(env)
        self._engine = engine_of(env)
        self._declared = declarations(self._engine)

    def claim(self, output: Output) -> None:
        """Note that the output's files are its own; raise UsageError where another format has one."""
        for target in self._targets(output).values():
            self._declared.claim(target, output.name)

    def declare(self, output: Output) -> list[Node]:
        """Declare the output's files; raise LinuxKitError where the YAML is at fault."""
        targets = self._targets(output)
        if any(source.has_builder() for source in self._sources):
            return self._generate(output, targets)
        state = self._env["LINUXKIT_STATE"]
        folder = (self._env.Dir(state) if state else self._folder.Dir(STATE)).Dir(self._name)
        steps = output.steps(self._plan())
        return [
            self._declared.output(self._env, target, folder, steps[suffix], self._node)
            for suffix, target in targets.items()
        ]

    def _targets(self, output: Output) -> dict[str, Node]:
        return {suffix: self._folder.File(self._name + suffix) for suffix in output.suffixes}

    def _plan(self) -> Parts:
        files = {str(source): _readable(source) for source in self._sources}
        return plan(files, self._name, self._settings, self._exists)

    def _exists(self, path: Path) -> bool:
        """Whether a local file is there, or a target that has been declared makes it."""
        node = self._node(path)
        return bool(node.has_builder() or node.exists() or node.srcnode().exists())

    def _node(self, path: Path) -> Node:
        """Give the node of a local file, in the variant folder where the YAML's own node lies in one."""
        for source in self._sources:
            base = _readable(source).parent
            if path.is_relative_to(base):
                return source.dir.File(str(path.relative_to(base)))
        return self._env.File(str(path))

    def _generate(self, output: Output, targets: Mapping[str, Node]) -> list[Node]:
        """Declare the files of a YAML that is itself built: one node plans and runs all once it is there."""

        def make(paths: Sequence[Path]) -> None:
            steps = output.steps(self._plan())
            done: dict[Step, Any] = {}
            for suffix, path in zip(targets, paths, strict=True):
                deliver(self._engine.store, realise(steps[suffix], self._engine, done).output, path)

        def scan(node: Node, env: Any, path: Any, argument: Any = None) -> list[Node]:
            try:
                steps = output.steps(self._plan())
            except LinuxKitError:
                return []  # the action meets the same fault, and can say so
            return [self._node(file) for step in steps.values() for file in sorted(local_files(step))]

        settings = self._env.Value(canonical_json([output.name, as_json(self._settings)]).decode())
        builder = Builder(action=Generate(), source_scanner=ScannerBase(scan, name="linuxkit"))
        sources = [*self._sources, settings]
        nodes: list[Node] = builder(self._env, target=list(targets.values()), source=sources)
        for node in nodes:
            node.attributes.linuxkit_make = make
        self._env.Precious(nodes)
        self._env.NoCache(nodes)
        return nodes


def _readable(source: Node) -> Path:
    """Where a YAML can be read while SConscripts are: a variant folder may not be filled yet."""
    return Path(source.rfile().get_abspath() if source.exists() else source.srcnode().get_abspath())
