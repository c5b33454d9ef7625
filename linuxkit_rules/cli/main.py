"""The command line's beginning and end: which command is meant, and how a fault is shown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from linuxkit_rules.cli import build, lock, run, schema, stage, store, vendor
from linuxkit_rules.cli.streams import FAILED, open_standard_streams
from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.installed import version

INTERRUPTED = 130
_COMMANDS = (build, run, lock, vendor, store, schema)
_HIDDEN = (stage,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit status: 0, 1 for a fault, 2 for a wrong call, 130 after Ctrl-C."""
    open_standard_streams()
    options = parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except LinuxKitError as error:
        print(f"moby: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Give the command line's grammar."""
    top = argparse.ArgumentParser(prog="moby", description="Bootable images made of containers.")
    top.add_argument("--version", action="version", version=version("linuxkit_rules"))
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.grammar(commands.add_parser(command.NAME, help=command.HELP))
    for hidden in _HIDDEN:
        hidden.grammar(commands.add_parser(hidden.NAME))
    return top
