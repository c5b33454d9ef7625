"""What is told of layers that containers share: a line at the end of a build, and one in the trace."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import SCons.Node
import SCons.Script

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.scons.actions import Node, decode
from linuxkit_rules.scons.settings import Site

if TYPE_CHECKING:
    from collections.abc import Iterable

    from linuxkit_rules.scons.declare import Draft
    from linuxkit_rules.store.memory import Result

STAGE = "shared-layers"
"""Name of ``stages.layers.SharedLayers``, which says what is saved; null builds do not import it."""


def tell_at_the_end(name: str, draft: Draft, outputs: Sequence[Node], site: Site) -> None:
    """Have told, when SCons ends, what sharing layers saves the image ``name`` whose files are ``outputs``.

    That is told where this run has made or delivered such a file of shared layers.
    """
    for number, task in enumerate(draft.outline.tasks):
        node = draft.nodes.get(task.group or number)
        if node is not None and task.stage.partition("/")[0] == STAGE:
            atexit.register(_told, name, node, draft.members(number).index(number), outputs, site)


def tell(name: str, results: Iterable[Result], site: Site) -> None:
    """Tell the saving of the image ``name`` that is among what steps gave, if it is there and sound."""
    from linuxkit_rules.stages.layers import saving_of

    for result in results:
        with contextlib.suppress(LinuxKitError, OSError):  # a build has not failed for want of a remark
            if saving := saving_of(result.refers, site.store):
                site.tell(name, STAGE, saving)


def _told(name: str, made: Node, part: int, outputs: Sequence[Node], site: Site) -> None:
    """Tell it, unless nothing was to be done for ``outputs`` of ``made``, or something failed."""
    if not site.has_worked or SCons.Script.GetBuildFailures():
        return
    if any(item.get_state() == SCons.Node.executed for item in outputs if made in _below(item)):
        with contextlib.suppress(LinuxKitError, OSError):
            tell(name, decode(Path(made.get_abspath()).read_bytes())[part : part + 1], site)


def _below(node: Node) -> Iterator[Node]:
    """Give what ``node`` is made of, each once."""
    todo, seen = [node], {node}
    while todo:
        for source in todo.pop().sources:
            if source not in seen:
                seen.add(source)
                todo.append(source)
                yield source
