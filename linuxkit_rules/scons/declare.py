"""Tasks become targets: each task or group of them a small descriptor file, each output a real file.

A target that two images share is declared once.

SCons writes its notes when it ends, and believes that a file is as they say.  After a run that was killed
that is not so: the file may be newer than the notes.  So a descriptor counts only where it has the bytes that
the notes tell, and the store all blobs that it names; an output only where the digest that was noted before
it was delivered is that of its descriptor.  All else is built again, mostly from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SCons.Builder import Builder
from SCons.CacheDir import CacheDir
from SCons.Environment import OverrideEnvironment
from SCons.Executor import Executor
from SCons.Node import _decider_map, changed_since_last_build_python, executed
from SCons.Node.FS import File
from SCons.Util import hash_signature

from linuxkit_rules.errors import FormatError, UsageError
from linuxkit_rules.scons.actions import Deliver, Discard, Job, Node, Origin, Part, RunStage, decode
from linuxkit_rules.scons.delivered import Delivered, read_note, stored
from linuxkit_rules.scons.settings import Site, may_write
from linuxkit_rules.store.memory import Result

if TYPE_CHECKING:
    from linuxkit_rules.plan.graph import Step
    from linuxkit_rules.plan.outline import Outline

FileNode = Callable[[Path], Node]
"""Gives the node of a local file."""

STATE = ".linuxkit"
"""Folder of the descriptor targets, beside the outputs."""

_run_stage = Builder(action=RunStage())
_deliver = Builder(action=Deliver())
_discard = Builder(action=Discard())
_no_cache = CacheDir(None)
_BY_CONTENT = next(key for key, found in _decider_map.items() if found is changed_since_last_build_python)
"""Number of SCons's comparison of ``Value`` nodes; users' deciders may go by times, in whole seconds."""


class Uncached(OverrideEnvironment):  # type: ignore[misc]
    """An environment whose targets never go to SCons's own cache: the store has them.

    SCons asks the default environment for its cache, and makes it for that alone, with all default tools.
    """

    def get_CacheDir(self) -> CacheDir:  # noqa: N802 - SCons's name
        """Give a cache that is off."""
        return _no_cache


def _make_target(node: Node, env: Any, sources: Sequence[Node]) -> None:
    """Do what calling ``_run_stage`` does, which looks for much that is not there: prefixes and overrides."""
    node.cwd = env.fs.getcwd()
    node.builder_set(_run_stage)
    node.env_set(env)
    node.add_source(sources)
    node.set_executor(Executor(_run_stage.action, env, [], [node], sources))
    node.set_explicit(_run_stage.is_explicit)


class Described(File):  # type: ignore[misc]
    """The node of a descriptor target."""

    __slots__ = ()

    def scan(self) -> None:
        """Look for no scanners of the sources, as SCons does for each: all that is needed is declared."""
        if self.implicit is None:
            self.add_to_implicit([])

    def changed(self, node: Node = None, allowcache: bool = False) -> bool:
        """Tell whether it is to be built; once is enough, where SCons compares everything twice."""
        return bool(super().changed(node, allowcache=allowcache or node is None))

    def visited(self) -> None:
        """Store what SCons is to know of it only where that is new: where it has been built."""
        if self.get_state() == executed:
            super().visited()
        else:
            known = self.get_ninfo()
            known.timestamp, known.size = self.get_timestamp(), self.get_size()

    def release_target_info(self) -> None:
        """Release nothing of a target that was up to date: that is little, and SCons signs it for that."""
        if self.get_state() == executed:
            super().release_target_info()


class Draft:
    """The outline of an image and how to come by its true steps; where they lie in SCons's graph.

    ``step`` gives the step of the task with that number.  Targets go below ``folder``; ``files`` gives the
    nodes of local files.
    """

    def __init__(
        self, env: Any, folder: Node, outline: Outline, step: Callable[[int], Step], files: FileNode
    ) -> None:
        self.env = Uncached(env)
        self.folder = folder
        self.outline = outline
        self.step = step
        self.files = files
        self.nodes: dict[str | int, Node] = {}
        self._groups: dict[str, list[int]] = {}
        for number, task in enumerate(outline.tasks):
            if task.group:
                self._groups.setdefault(task.group, []).append(number)

    def members(self, number: int) -> Sequence[int]:
        """Give the tasks, in order, that share the target of the task ``number``."""
        group = self.outline.tasks[number].group
        return self._groups[group] if group else (number,)


class Declarations:
    """What has been declared in this run of SCons for one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._there: set[tuple[str, int]] = set()
        self._nodes: dict[tuple[str, tuple[Node, ...]], Node] = {}
        self._results: dict[Node, list[Result] | None] = {}
        self._taken: set[str] = set()
        self._owners: dict[Node, str] = {}

    def claim(self, target: Node, format_name: str) -> None:
        """Note that ``target`` is a file of that format; raise UsageError where another format has it."""
        owner = self._owners.setdefault(target, format_name)
        if owner != format_name:
            raise UsageError(
                f"formats {owner} and {format_name} both make this file",
                where=str(target),
                hint="ask for one of them, or put them into different folders",
            )

    def output(self, draft: Draft, target: Node, number: int) -> Node:
        """Declare that ``target`` is a copy of what the task ``number`` gives."""
        made, part = self._target(draft, number), draft.members(number).index(number)
        (node,) = _deliver(draft.env, target=target, source=[made])
        note = note_of(draft, target)
        node.attributes.linuxkit_site = self._site
        node.attributes.linuxkit_note = note
        node.attributes.linuxkit_part = part
        node.attributes.linuxkit_keep = may_write(draft.env)
        node.__class__ = Delivered
        node.set_precious()
        node.set_nocache()
        draft.env.Clean(node, note)
        results = self._results[made]
        blob = node.attributes.linuxkit_blob = results[part].output if results else None
        known = read_note(note)
        if blob is None or (known and known.digest != str(blob.digest)):
            node.set_always_build()
        return node

    def together(self, draft: Draft, outputs: Mapping[Node, int]) -> None:
        """Have none of ``outputs`` (nodes to tasks) replaced before all of them can be."""
        tasks = [self._target(draft, number) for number in outputs.values()]
        if len(tasks) > 1:
            draft.env.Requires(list(outputs), tasks)

    def discard(self, draft: Draft, stale: Node, outputs: Mapping[Node, int]) -> None:
        """Have the file ``stale`` removed once all that ``outputs`` (nodes to tasks) are made of is there."""
        target = draft.folder.File(f"without-{stale.name}")
        sources = [self._target(draft, number) for number in outputs.values()]
        (node,) = _discard(draft.env, target=target, source=sources)
        node.attributes.linuxkit_stale = stale
        node.set_always_build()
        node.set_nocache()
        draft.env.Requires(list(outputs), node)

    def _target(self, draft: Draft, number: int) -> Node:
        """Give the descriptor target of a task, declared with what it needs."""
        task = draft.outline.tasks[number]
        place = task.group or number
        node = draft.nodes.get(place)
        if node is None:
            sources: dict[Node, int] = {}
            members = draft.members(number)
            parts = tuple(self._part(draft, item, members, sources) for item in members)
            job = Job.of(parts, self._site)
            key = job.signature, tuple(sources)
            node = self._nodes.get(key)
            if node is None:
                node = self._nodes[key] = self._declare(draft, task.group or task.name, job, list(sources))
            draft.nodes[place] = node
        return node

    def _part(self, draft: Draft, number: int, members: Sequence[int], sources: dict[Node, int]) -> Part:
        """Give a part of the target of ``members``; what it needs from elsewhere goes to ``sources``."""

        def origin(given: int | str) -> Origin:
            if given in members:
                return Origin(None, members.index(given))
            if isinstance(given, str):
                return Origin(sources.setdefault(draft.files(Path(given)), len(sources)))
            node = self._target(draft, given)
            return Origin(sources.setdefault(node, len(sources)), draft.members(given).index(given))

        task = draft.outline.tasks[number]
        return Part(task, tuple(origin(given) for _, given in task.inputs), lambda: draft.step(number))

    def _declare(self, draft: Draft, name: str, job: Job, sources: Sequence[Node]) -> Node:
        node = draft.folder.File(self._free(str(draft.folder), name) + ".json")
        if node.has_builder():
            (node,) = _run_stage(draft.env, target=node, source=sources)
        else:
            _make_target(node, draft.env, sources)
        node.attributes.linuxkit_job = job
        node.__class__ = Described
        node.changed_since_last_build = _BY_CONTENT
        node.set_nocache()
        self._results[node] = self._trusted(node)
        if self._results[node] is None:
            node.set_always_build()
        return node

    def _free(self, folder: str, name: str) -> str:
        """Give ``name``, or ``name-2`` … where another recipe of this run has taken it."""
        number, candidate = 1, name
        while f"{folder}/{candidate}" in self._taken:
            number += 1
            candidate = f"{name}-{number}"
        self._taken.add(f"{folder}/{candidate}")
        return candidate

    def _trusted(self, node: Node) -> list[Result] | None:
        """Give what a descriptor target says of each of its parts.

        None where one of them is missing, so that it has to be built whatever SCons thinks.
        """
        try:
            with open(node.get_abspath(), "rb") as file:  # noqa: PTH123 - a Path takes as long again
                data = file.read()
            results = decode(data)
        except (OSError, FormatError):
            return None
        known, found = getattr(stored(node).ninfo, "csig", None), hash_signature(data)
        if known not in (None, found):
            return None
        node.get_ninfo().csig = found  # else SCons reads the file again
        complete = len(results) == len(node.attributes.linuxkit_job.parts)
        return results if complete and all(map(self._is_there, results)) else None

    def _is_there(self, result: Result) -> bool:
        """Whether all that a step gave is there, or promised; a blob that many share is looked for once."""
        for blob in result.blobs:
            name = blob.digest.hex, blob.size  # a descriptor's own hash takes twice as long
            if name not in self._there:
                if not self._site.store.can_have(blob):
                    return False
                self._there.add(name)
        return True


def note_of(draft: Draft, target: Node) -> Node:
    """Give the file that says which digest was delivered to ``target`` last.

    In a variant folder SCons would remove it, as the source folder has none.
    """
    note = draft.folder.File(f"delivered-{target.name}")
    note.duplicate = False
    return note


_declarations: dict[int, Declarations] = {}


def declarations(site: Site) -> Declarations:
    """Give the declarations of this run that belong to ``site``."""
    return _declarations.setdefault(id(site), Declarations(site))
