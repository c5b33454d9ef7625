"""``moby vendor``: what a build needs from elsewhere, in one folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from linuxkit_rules.cli.request import (
    STDIN,
    add_fetching,
    add_files,
    add_lock,
    add_settings,
    add_trust,
    request_of,
    stdin,
)
from linuxkit_rules.cli.streams import tell

NAME = "vendor"
HELP = "write what a build needs into a folder, for a machine without a network"


def grammar(parser: argparse.ArgumentParser) -> None:
    """Declare arguments and options."""
    parser.set_defaults(command=vendor)
    parser.add_argument("folder", metavar="DIR", help="new, or one that this command has made")
    add_files(parser)
    parser.add_argument("--format", metavar="F,…", help="output formats that will be built (all of them)")
    parser.add_argument("--arch", default="", help="amd64 or arm64 (this machine's)")
    add_settings(parser)
    add_fetching(parser)
    add_lock(parser)
    add_trust(parser)


def vendor(options: argparse.Namespace) -> int:
    """``moby vendor``: plan as a build would, and copy what it would fetch."""
    from linuxkit_rules.outputs.registry import steps_of
    from linuxkit_rules.plan.vendor import vendor as write
    from linuxkit_rules.plan.vendor import wanted
    from linuxkit_rules.scons.command import engine_of, planned

    request = request_of(options)
    parts = planned(request, stdin() if STDIN in options.files else None)
    for warning in parts.warnings:
        tell(f"warning: {warning}")
    steps = steps_of(parts, request.formats)
    want = wanted(steps, parts.arch)
    write(want, Path(options.folder), engine_of(request))
    tell(f"{len(want.images)} images and {len(want.packages)} packages are in {options.folder}")
    return 0
