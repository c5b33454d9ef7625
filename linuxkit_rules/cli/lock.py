"""``moby lock``: Debian packages pinned."""

from __future__ import annotations

import argparse
from pathlib import Path

from linuxkit_rules import host
from linuxkit_rules.cli.streams import tell
from linuxkit_rules.errors import UsageError

NAME = "lock"
HELP = "pin the Debian packages of components"


def grammar(parser: argparse.ArgumentParser) -> None:
    """Declare arguments and options."""
    parser.set_defaults(command=lock)
    parser.add_argument("folders", nargs="*", metavar="DIR", help="components of your own (the library)")
    parser.add_argument("--suite", action="append", default=[], help="a Debian suite (bookworm)")
    parser.add_argument("--output", type=Path, help="the lock to write (the library's)")


def lock(options: argparse.Namespace) -> int:
    """``moby lock``: resolve and pin Debian packages."""
    from linuxkit_rules.debian.lock import LIBRARY_LOCK, load_lock
    from linuxkit_rules.plan.update import SUITES, Update, locked_gpgv, update_folder, update_library

    if options.output and len(options.folders) > 1:
        raise UsageError("--output takes one lock", hint="give one DIR, or leave --output out")
    engine = host.engine()
    gpgv = locked_gpgv(engine, load_lock(LIBRARY_LOCK), host.host_arch())
    update = Update(engine, gpgv, tuple(options.suite) or SUITES, report=tell)
    for folder in options.folders:
        update_folder(update, Path(folder), options.output)
    if not options.folders:
        update_library(update, options.output or host.package_lock())
    return 0
