"""One image in SCons: its plan remembered or made, its files declared."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linuxkit_rules.digest import canonical_json
from linuxkit_rules.errors import LinuxKitError, SpecError, UsageError
from linuxkit_rules.plan.memo import Evidence, Memo, fingerprint
from linuxkit_rules.plan.outline import Outline, outline
from linuxkit_rules.scons.actions import Generate, Node, deliver
from linuxkit_rules.scons.declare import STATE, Draft, declarations, note_of
from linuxkit_rules.scons.delivered import is_delivered, is_recorded
from linuxkit_rules.scons.formats import Formats
from linuxkit_rules.scons.saving import tell, tell_at_the_end
from linuxkit_rules.scons.settings import choices_of, may_write, settings_of, site_of
from linuxkit_rules.scons.yamls import Yaml, yaml_of

if TYPE_CHECKING:
    from linuxkit_rules.plan.graph import Step

Exists = Callable[[Path], bool]


class Image:
    """The image ``name`` in ``folder`` as files of ``formats``, described by the YAMLs ``sources``."""

    def __init__(
        self, env: Any, folder: Node, name: str, formats: Sequence[str], sources: Sequence[Node]
    ) -> None:
        self._env = env
        self._folder = folder
        self._name = name
        self._formats = formats
        self._sources = sources
        self._yamls: list[Yaml] = [yaml_of(source) for source in sources]
        self._warnings: tuple[str, ...] = ()
        self._choices = choices_of(env)
        self._site = site_of(env)
        self._memo = memo_of(env)
        self._declared = declarations(self._site)
        self._targets = self._claimed(Formats.find(self._memo))

    def declare(self) -> list[Node]:
        """Declare the files; raise LinuxKitError where the YAML is at fault."""
        if any(source.has_builder() for source in self._sources):
            return [node for name in self._formats for node in self._generate(name)]
        draft = self._draft()
        nodes = [node for name in self._targets for node in self._outputs(draft, name)]
        tell_at_the_end(self._name, draft, nodes, self._site)
        return nodes

    def _outputs(self, draft: Draft, name: str) -> list[Node]:
        """Declare the files of one format: all are replaced, or none; what the image has not is removed."""
        tasks = draft.outline.outputs[name]
        targets = self._targets[name]
        outputs = {
            self._declared.output(draft, target, tasks[suffix]): tasks[suffix]
            for suffix, target in targets.items()
            if suffix in tasks
        }
        self._declared.together(draft, outputs)
        for suffix, target in targets.items():
            if suffix not in tasks and is_delivered(target, note_of(draft, target)):
                self._declared.discard(draft, target, outputs)
        return list(outputs)

    def _claimed(self, formats: Formats) -> dict[str, dict[str, Node]]:
        """Give each format's files, by suffix; raise UsageError where two formats make the same file."""
        found: dict[str, dict[str, Node]] = {}
        for name in self._formats:
            suffixes = formats.suffixes[name]
            found[name] = {suffix: file_in(self._folder, self._name + suffix) for suffix in suffixes}
            for target in found[name].values():
                self._declared.claim(target, name)
        return found

    def _draft(self) -> Draft:
        """Give the plan's outline, from memory where nothing that it was made from has changed."""
        state = self._env["LINUXKIT_STATE"]
        folder = (self._env.Dir(state) if state else self._folder.Dir(STATE)).Dir(self._name)
        question = self._question()
        known = self._memo.recall(question, self._exists)
        if known:
            found = Outline.from_json(known.answer)
            steps = _Steps(lambda: self._again(found, question, known.there))
        else:
            evidence = Evidence()
            steps_of = self._plan(self._formats, self._exists, evidence)
            found, made = outline(steps_of, self._warnings)
            self._memo.keep(question, found.to_json(), evidence)
            steps = _Steps(lambda: made)
        warn(found.warnings)
        return Draft(self._env, folder, found, steps.step, self._node)

    def _question(self) -> str:
        yamls = [str(path) for yaml in self._yamls for path in (yaml.path(), yaml.base())]
        return canonical_json([self._name, self._formats, yamls, self._choices]).decode()

    def _again(self, remembered: Outline, question: str, there: Mapping[str, bool]) -> Sequence[Step]:
        """Plan what has been declared from memory; raise SpecError where that comes out otherwise."""
        steps = self._plan(self._formats, lambda path: there.get(str(path), False), Evidence())
        found, made = outline(steps, self._warnings)
        if found != remembered:
            self._memo.forget(question)
            raise SpecError(
                "what it says changed while SCons ran", where=str(self._sources[-1]), hint="again"
            )
        return made

    def _plan(
        self, formats: Sequence[str], exists: Exists, evidence: Evidence
    ) -> dict[str, Mapping[str, Step]]:
        """Give each format's steps by suffix; raise LinuxKitError for any fault."""
        from linuxkit_rules.outputs.registry import by_name, named
        from linuxkit_rules.plan.image import plan

        files = {yaml.name: yaml.path() for yaml in self._yamls}
        bases = {yaml.name: yaml.base() for yaml in self._yamls}
        parts = plan(files, self._name, settings_of(self._choices), exists, evidence, bases)
        named(parts.spec.outputs)
        self._warnings = parts.warnings
        return {name: by_name(name).steps(parts) for name in formats}

    def _exists(self, path: Path) -> bool:
        """Whether a local file is there, or a target that has been declared makes it."""
        if path.is_dir():
            return False
        node = self._node(path)
        return bool(node.has_builder() or node.exists() or node.srcnode().exists())

    def _node(self, path: Path) -> Node:
        """Give the node of a local file, in the variant folder where the YAML's own node lies in one."""
        for yaml in self._yamls:
            base = yaml.base()
            if path.is_relative_to(base):
                return file_in(yaml.folder, str(path.relative_to(base)))
        return file_in(self._env, str(path))

    def _generate(self, name: str) -> list[Node]:
        """Declare the files of a YAML that is itself built: one node plans and runs all once it is there."""
        from SCons.Builder import Builder
        from SCons.Scanner import ScannerBase

        from linuxkit_rules.plan.graph import local_files, realise

        targets = self._targets[name]

        def steps(evidence: Evidence) -> Mapping[str, Step]:
            return self._plan([name], self._exists, evidence)[name]

        def make(paths: Sequence[Path]) -> None:
            planned, engine = steps(Evidence()), self._site.engine
            warn(self._warnings)
            done: dict[Step, Any] = {}
            for suffix, path in zip(targets, paths, strict=True):
                if suffix in planned:
                    deliver(engine.store, realise(planned[suffix], engine, done).output, path)
                else:
                    path.unlink(missing_ok=True)
            tell(self._name, done.values(), self._site)

        def scan(node: Node, env: Any, path: Any, argument: Any = None) -> list[Node]:
            evidence = Evidence()
            try:
                planned = steps(evidence).values()
            except LinuxKitError:
                return []  # the action meets the same fault, and can say so
            local = {file for step in planned for file in local_files(step)}
            return [self._node(file) for file in sorted(local.union(evidence.files()))]

        settings = self._env.Value(canonical_json([name, self._choices, fingerprint()]).decode())
        builder = Builder(action=Generate(), source_scanner=ScannerBase(scan, name="linuxkit"))
        sources = [*self._sources, settings]
        nodes: list[Node] = builder(self._env, target=list(targets.values()), source=sources)
        for node in nodes:
            node.attributes.linuxkit_make = make
            if not is_recorded(node):  # a run that made it was killed, or somebody has changed it
                node.set_always_build()
        self._env.Precious(nodes)
        self._env.NoCache(nodes)
        return nodes


class _Steps:
    """Steps that are planned when the first of them is asked for, once for all threads."""

    def __init__(self, plan: Callable[[], Sequence[Step]]) -> None:
        self._plan = plan
        self._steps: Sequence[Step] | None = None
        self._guard = threading.Lock()

    def step(self, number: int) -> Step:
        """Give the step of a task; raise LinuxKitError where planning does."""
        with self._guard:
            if self._steps is None:
                self._steps = self._plan()
            return self._steps[number]


def memo_of(env: Any) -> Memo:
    """Give the memo in the store; a run that builds nothing (-n, -q, -c) leaves no trace in it."""
    store = site_of(env).store
    return Memo(store.root, may_write(env), store.usage.keeps)


def warn(warnings: Sequence[str]) -> None:
    """Tell the user."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def file_in(folder: Any, name: str) -> Node:
    """Give the node of the file ``name``; raise UsageError where a folder is in its place."""
    node = folder.Entry(name)
    if Path(node.get_abspath()).is_dir():
        raise UsageError("is a folder, where a file is needed", where=str(node))
    return folder.File(name)
