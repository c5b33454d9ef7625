"""``moby build``: images of YAML files."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from linuxkit_rules.cli.numbers import positive
from linuxkit_rules.cli.request import (
    STDIN,
    add_fetching,
    add_files,
    add_lock,
    add_settings,
    add_trust,
    check_folder,
    request_of,
    stdin,
)
from linuxkit_rules.cli.streams import FAILED, show, tell
from linuxkit_rules.errors import UsageError

if TYPE_CHECKING:
    from linuxkit_rules.plan.image import Parts
    from linuxkit_rules.stages.stage import Engine

NAME = "build"
HELP = "make images of YAML files"


def grammar(parser: argparse.ArgumentParser) -> None:
    """Declare arguments and options."""
    parser.set_defaults(command=build)
    add_files(parser)
    parser.add_argument("--format", metavar="F,…", help="output formats (what outputs: says, or iso)")
    parser.add_argument("--arch", default="", help="amd64 or arm64 (this machine's)")
    parser.add_argument("--name", help="the outputs' name (the last FILE's; for - linuxkit)")
    parser.add_argument("--dir", default=".", help="folder of the outputs (this one)")
    add_settings(parser)
    add_fetching(parser)
    add_lock(parser)
    parser.add_argument(
        "--vendor", metavar="DIR", help="what `moby vendor` has made, searched before all else"
    )
    parser.add_argument("--offline", action="store_true", help="ask nothing of the network")
    packing = parser.add_mutually_exclusive_group()
    packing.add_argument(
        "--compression", metavar="C[:LEVEL]", help="zstd, gzip or none (auto: what the kernel unpacks)"
    )
    packing.add_argument(
        "--release", dest="compression", action="store_const", const="release", help="take time for size"
    )
    parser.add_argument(
        "--layered", action="store_true", help="keep what containers' images share once (not in tar, docker)"
    )
    parser.add_argument(
        "--decompress-kernel", action="store_true", help="take the kernel out of its compressed image"
    )
    add_trust(parser)
    parser.add_argument("--dry-run", action="store_true", help="only print the merged YAML, checked")
    parser.add_argument("--jobs", "-j", type=positive, default=os.cpu_count() or 1, help="steps at once")
    parser.add_argument(
        "--explain",
        metavar="KEY",
        help="only say where a container's configuration comes from: NAME, services[0] or NAME:FIELD",
    )


def build(options: argparse.Namespace) -> int:
    """``moby build``: run SCons on the packaged SConstruct; or only print what it would work on."""
    from linuxkit_rules.scons.command import build as run_scons
    from linuxkit_rules.scons.command import dry_run, engine_of, planned

    if not options.dir or "/" in (options.name or ""):
        raise UsageError("--dir names a folder, --name a file in it", hint="leave --dir out for this folder")
    check_folder(Path(options.dir))
    request = request_of(options)
    text = stdin() if STDIN in options.files else None
    if options.explain is not None:
        return _explain(options.explain, planned(request, text), engine_of(request))
    if not options.dry_run:
        return FAILED if run_scons(request, options.jobs, text) else 0
    merged, warnings = dry_run(request, text)
    for warning in warnings:
        tell(f"warning: {warning}")
    return show(merged)


def _explain(key: str, parts: Parts, engine: Engine) -> int:
    """Print where each value of a container's config.json comes from."""
    from linuxkit_rules.plan.explain import explanation, text

    rows = explanation(key, parts, engine)
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return show(text(rows, shutil.get_terminal_size().columns if terminal else None))
