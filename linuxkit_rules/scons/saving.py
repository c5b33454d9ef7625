"""What is told of layers that containers share: a line at the end of a build, and one in the trace."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import TYPE_CHECKING

import SCons.Script

from linuxkit_rules.scons.actions import Node, decode
from linuxkit_rules.scons.settings import Site

if TYPE_CHECKING:
    from collections.abc import Iterable

    from linuxkit_rules.store.memory import Result

STAGE = "shared-layers"
"""The stage whose result says what is saved."""


def tell_at_the_end(name: str, node: Node, part: int, site: Site) -> None:
    """Have the saving of the image ``name`` told when SCons ends; part ``part`` of ``node`` has it."""
    atexit.register(_told, name, Path(node.get_abspath()), part, site)


def tell(name: str, results: Iterable[Result], site: Site) -> None:
    """Tell the saving of the image ``name`` that is among what steps gave, if there is one."""
    from linuxkit_rules.stages.layers import saving_of

    for result in results:
        if saving := saving_of(result.refers, site.store):
            site.tell(name, STAGE, saving)


def _told(name: str, target: Path, part: int, site: Site) -> None:
    """Tell it, unless nothing was to be done, or something failed."""
    if site.has_worked and not SCons.Script.GetBuildFailures() and target.exists():
        tell(name, decode(target.read_bytes())[part : part + 1], site)
