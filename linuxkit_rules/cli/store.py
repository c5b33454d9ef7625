"""``moby store``: what the store holds and what it is for; verifying it; making room in it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from linuxkit_rules import host
from linuxkit_rules.cli.numbers import age, positive, shown_age, shown_size, size
from linuxkit_rules.cli.streams import FAILED, show, tell
from linuxkit_rules.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from linuxkit_rules.cli.holdings import Holdings

NAME = "store"
HELP = "say what the store holds, verify it, make room in it"


def grammar(parser: argparse.ArgumentParser) -> None:
    """Declare the commands below ``moby store``; without one it shows."""
    parser.set_defaults(command=show_store, json=False, images=10)
    commands = parser.add_subparsers(metavar="COMMAND")
    shown = commands.add_parser("show", help="say what is there and what it is for")
    for item in (parser, shown):
        item.set_defaults(command=show_store)
        item.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
        item.add_argument(
            "--images", type=positive, default=argparse.SUPPRESS, metavar="N", help="how many images (10)"
        )
    made = commands.add_parser("gc", help="remove what is of no use, and what was not used for long")
    made.set_defaults(command=gc)
    made.add_argument("--max-size", type=size, metavar="SIZE", help="keep at most so much: 20G, 500M")
    made.add_argument("--max-age", type=age, metavar="AGE", help="keep what was used lately: 30d, 12h")
    made.add_argument("--dry-run", action="store_true", help="only say what would go")
    verified = commands.add_parser("verify", help="read everything and drop what has rotted")
    verified.set_defaults(command=verify)
    verified.add_argument("--jobs", "-j", type=positive, default=os.cpu_count() or 1, help="files at once")


def show_store(options: argparse.Namespace) -> int:
    """``moby store``: tables on a terminal, else lines with tabs."""
    from linuxkit_rules.cli.holdings import holdings
    from linuxkit_rules.store.survey import survey

    root = _root()
    try:
        found = holdings(survey(root), root)
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", where=error.filename or str(root)) from error
    if options.json:
        return show(json.dumps(found.to_json(), indent=2, sort_keys=True) + "\n")
    if sys.stdout is not None and sys.stdout.isatty():
        return _tables(found, options.images)
    rows = [[item.name, item.count, item.size, f"{item.used:.0f}"] for item in found.kinds]
    images = [["image", item.name, item.size, f"{item.used:.0f}"] for item in found.images[: options.images]]
    return show("".join("\t".join(map(str, row)) + "\n" for row in [*rows, *images]))


def gc(options: argparse.Namespace) -> int:
    """``moby store gc``: make room."""
    from linuxkit_rules.store.gc import Policy, collect

    freed = collect(_root(), Policy(options.max_size, options.max_age), dry_run=options.dry_run)
    word = "would remove" if options.dry_run else "removed"
    return show(
        f"{word} {freed.blobs} blobs, {freed.entries} entries, {freed.tools} tools and {freed.notes} notes, "
        f"{shown_size(freed.size)}; {shown_size(freed.left)} stay\n"
    )


def verify(options: argparse.Namespace) -> int:
    """``moby store verify``: status 1 where something had rotted."""
    from linuxkit_rules.store.verify import verify as verify_store

    root = _root()
    with _progress(root) as report:
        found = verify_store(root, options.jobs, report)
    for name in found.rotten:
        tell(f"moby: blob sha256:{name} had rotted and has been dropped (builds make it again)")
    for name in found.damaged:
        tell(f"moby: entry {name} was damaged and has been dropped")
    for name in found.mended:
        tell(f"moby: {root / name} was damaged and has been written again")
    show(f"verified {found.blobs} blobs, {shown_size(found.size)}, and {found.entries} entries\n")
    return 0 if found.is_sound else FAILED


def _root() -> Path:
    return host.store_root(os.environ.get("LINUXKIT_STORE", ""))


def _tables(found: Holdings, most: int) -> int:
    from rich.console import Console
    from rich.table import Table

    now, console = time.time(), Console()
    kinds = Table("what it is for", "number", "size", "last used", title=str(found.root), box=None)
    for item in found.kinds:
        kinds.add_row(item.name, str(item.count), shown_size(item.size), _ago(now, item.used))
    images = Table("image", "size", "last used", box=None)
    for item in found.images[:most]:
        images.add_row(item.name, shown_size(item.size), _ago(now, item.used))
    console.print(kinds)
    if found.images:
        console.print(images)
    return 0


def _ago(now: float, used: float) -> str:
    return shown_age(now - used) if used else ""


@contextmanager
def _progress(root: Path) -> Iterator[Callable[[int], None]]:
    """Give what shows the bytes read: a bar on a terminal, nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda read: None
        return
    from rich.console import Console
    from rich.progress import Progress

    from linuxkit_rules.store.survey import survey

    total = sum(blob.size for blob in survey(root).blobs.values())
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=total)
        yield lambda read: bar.advance(task, read)
