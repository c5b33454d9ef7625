"""``moby stage``: one step, as a worker of a remote executor runs it.  The help does not show it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

NAME = "stage"


def grammar(parser: argparse.ArgumentParser) -> None:
    """It has no options."""
    parser.set_defaults(command=stage)


def stage(options: argparse.Namespace) -> int:
    """``moby stage``: run the step that the current folder holds; status 3 where that means another here."""
    from linuxkit_rules.cli.streams import tell
    from linuxkit_rules.remote.executor import STRANGE
    from linuxkit_rules.stages.recipe import StrangeRecipeError
    from linuxkit_rules.stages.runner import run

    os.umask(0o022)
    try:
        run(Path())
    except StrangeRecipeError as error:
        tell(f"moby: {error}")
        return STRANGE
    return 0
