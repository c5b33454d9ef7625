"""``moby build``: images of YAML files."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from linuxkit_rules import host
from linuxkit_rules.cli.numbers import positive
from linuxkit_rules.cli.streams import FAILED, show, tell
from linuxkit_rules.errors import UsageError

if TYPE_CHECKING:
    from linuxkit_rules.plan.image import Parts

NAME = "build"
HELP = "make images of YAML files"

STDIN = "-"
STDIN_LIMIT = 16 << 20
"""More bytes than any YAML may have are not read."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def grammar(parser: argparse.ArgumentParser) -> None:
    """Declare arguments and options."""
    parser.set_defaults(command=build)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a YAML, or - for standard input; several are merged"
    )
    parser.add_argument("--format", metavar="F,…", help="output formats (what outputs: says, or iso)")
    parser.add_argument("--arch", default="", help="amd64 or arm64 (this machine's)")
    parser.add_argument("--name", help="the outputs' name (the last FILE's; for - linuxkit)")
    parser.add_argument("--dir", default=".", help="folder of the outputs (this one)")
    parser.add_argument(
        "--image-layout", action="append", default=[], metavar="DIR", help="OCI image layout, searched first"
    )
    parser.add_argument("--compression", metavar="C[:LEVEL]", help="zstd, gzip or none (zstd:6)")
    parser.add_argument(
        "--decompress-kernel", action="store_true", help="take the kernel out of its compressed image"
    )
    parser.add_argument(
        "--trust-policy", metavar="FILE", help="who must have signed which images, besides what trust: says"
    )
    parser.add_argument("--ignore-trust", action="store_true", help="build though trust: names no keys")
    parser.add_argument("--dry-run", action="store_true", help="only print the merged YAML, checked")
    parser.add_argument("--jobs", "-j", type=positive, default=os.cpu_count() or 1, help="steps at once")
    parser.add_argument(
        "--explain",
        metavar="KEY",
        help="only say where a container's configuration comes from: NAME, services[0] or NAME:FIELD",
    )


def build(options: argparse.Namespace) -> int:
    """``moby build``: run SCons on the packaged SConstruct; or only print what it would work on."""
    from linuxkit_rules.scons.command import Request, dry_run, planned, state_folder
    from linuxkit_rules.scons.command import build as run_scons

    _check_files(options.files)
    name = options.name or _stem(options.files[-1])
    if not options.dir or "/" in name:
        raise UsageError("--dir names a folder, --name a file in it", hint="leave --dir out for this folder")
    _check_folder(Path(options.dir))
    store = os.environ.get("LINUXKIT_STORE", "")
    variables = {"LINUXKIT_ARCH": options.arch} if options.arch else {}
    if options.image_layout:
        variables["LINUXKIT_IMAGE_LAYOUTS"] = [_layout(item) for item in options.image_layout]
    if options.compression:
        variables["LINUXKIT_COMPRESSION"] = options.compression
    if options.decompress_kernel:
        variables["LINUXKIT_DECOMPRESS_KERNEL"] = "1"
    if options.trust_policy is not None:
        variables["LINUXKIT_TRUST_POLICY"] = _policy(options.trust_policy)
    if options.ignore_trust:
        variables["LINUXKIT_IGNORE_TRUST"] = "1"
    request = Request(
        files=tuple(options.files),
        folder=options.dir,
        name=name,
        formats=tuple(options.format.split(",")) if options.format is not None else (),
        variables=variables,
        state=state_folder(store, options.dir, name),
    )
    stdin = _stdin() if STDIN in options.files else None
    if options.explain is not None:
        return _explain(options.explain, planned(request, stdin))
    if not options.dry_run:
        return FAILED if run_scons(request, options.jobs, stdin) else 0
    text, warnings = dry_run(request, stdin)
    for warning in warnings:
        tell(f"warning: {warning}")
    return show(text)


def _explain(key: str, parts: Parts) -> int:
    """Print where each value of a container's config.json comes from."""
    from linuxkit_rules.plan.explain import explanation, text

    rows = explanation(key, parts, host.engine())
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return show(text(rows, shutil.get_terminal_size().columns if terminal else None))


def _stdin() -> bytes:
    """Read a YAML from standard input; raise UsageError where that cannot be done."""
    if sys.stdin is None:
        raise UsageError("standard input is closed", where=STDIN)
    try:
        return sys.stdin.buffer.read(STDIN_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"standard input: {error.strerror}", where=STDIN) from error


def _check_files(files: Sequence[str]) -> None:
    """Raise UsageError for a URL, and where standard input is named twice."""
    for file in files:
        if _URL.match(file):
            hint = "fetch it, and give the file, or - for standard input"
            raise UsageError("is a URL, where a file is needed", where=file, hint=hint)
        if file != STDIN and Path(file).exists() and not (Path(file).is_file() or Path(file).is_dir()):
            raise UsageError("is no regular file", where=file, hint="moby build - reads standard input")
    if files.count(STDIN) > 1:
        raise UsageError("standard input can be read once only", where=STDIN)


def _check_folder(folder: Path) -> None:
    """Raise UsageError where ``folder`` cannot be a folder, as it lies at or below a file."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not there.is_dir():
        raise UsageError("--dir: there is a file where a folder should be", where=str(there))


def _layout(folder: str) -> str:
    if not Path(folder).is_dir():
        raise UsageError("--image-layout: there is no such folder", where=folder)
    return str(Path(folder).absolute())


def _policy(file: str) -> str:
    if not Path(file).is_file():
        raise UsageError("--trust-policy: there is no such file", where=file)
    return str(Path(file).absolute())


def _stem(file: str) -> str:
    if file == STDIN:
        return "linuxkit"
    stem = PurePath(file).stem
    if not stem:
        raise UsageError(f"no name can be had from {file!r}", hint="give --name")
    return stem
