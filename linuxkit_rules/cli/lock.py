"""``moby lock``: images and Debian packages pinned."""

from __future__ import annotations

import argparse
from pathlib import Path

from linuxkit_rules import host
from linuxkit_rules.cli.request import STDIN, add_fetching, add_settings, add_trust, request_of, stdin
from linuxkit_rules.cli.streams import tell
from linuxkit_rules.errors import UsageError

NAME = "lock"
HELP = "pin the images of YAMLs, or the Debian packages of components"


def grammar(parser: argparse.ArgumentParser) -> None:
    """Declare arguments and options."""
    parser.set_defaults(command=lock)
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="YAMLs, merged, whose images are pinned; or folders of components (the library)",
    )
    parser.add_argument("--output", type=Path, help="the lock to write (NAME.lock beside the last NAME.yml)")
    parser.add_argument(
        "--arch",
        action="append",
        default=[],
        dest="arches",
        metavar="ARCH",
        help="pin the images for amd64 or arm64 alone (both)",
    )
    add_settings(parser)
    add_fetching(parser)
    add_trust(parser)
    parser.add_argument("--suite", action="append", default=[], help="a Debian suite, of packages (bookworm)")


def lock(options: argparse.Namespace) -> int:
    """``moby lock``: pin what the arguments name."""
    folders = [file for file in options.files if Path(file).is_dir()]
    if options.files and not folders:
        return _lock_images(options)
    if len(folders) < len(options.files):
        raise UsageError("YAMLs and folders are locked by commands of their own", where=folders[0])
    return _lock_packages(options)


def _lock_packages(options: argparse.Namespace) -> int:
    """Resolve and pin Debian packages."""
    from linuxkit_rules.debian.lock import LIBRARY_LOCK, load_lock
    from linuxkit_rules.plan.update import SUITES, Update, locked_gpgv, update_folder, update_library

    if options.output and len(options.files) > 1:
        raise UsageError("--output takes one lock", hint="give one DIR, or leave --output out")
    engine = host.engine()
    gpgv = locked_gpgv(engine, load_lock(LIBRARY_LOCK), host.host_arch())
    update = Update(engine, gpgv, tuple(options.suite) or SUITES, report=tell)
    for folder in options.files:
        update_folder(update, Path(folder), options.output)
    if not options.files:
        update_library(update, options.output or host.package_lock())
    return 0


def _lock_images(options: argparse.Namespace) -> int:
    """Ask what the references of YAMLs mean, and pin that."""
    from linuxkit_rules.scons.command import lock_images

    arches = tuple(host.checked_arch(arch) for arch in options.arches)
    text = stdin() if STDIN in options.files else None
    lock_images(request_of(options), arches, options.output, tell, text)
    return 0
