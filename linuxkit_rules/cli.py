"""The command ``moby``: build, run, lock.  The only place, beside SCons's tool, that prints and exits."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from linuxkit_rules import host
from linuxkit_rules.errors import LinuxKitError, UsageError

if TYPE_CHECKING:
    from linuxkit_rules.plan.image import Parts

FAILED = 1
INTERRUPTED = 130
STDIN = "-"
STDIN_LIMIT = 16 << 20
"""More bytes than any YAML may have are not read."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit status: 0, 1 for a fault, 2 for a wrong call, 130 after Ctrl-C."""
    _open_standard_streams()
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
    _build_grammar(commands.add_parser("build", help="make images of YAML files"))
    _run_grammar(commands.add_parser("run", help="boot an image in QEMU"))
    _lock_grammar(commands.add_parser("lock", help="pin the Debian packages of components"))
    shown = commands.add_parser("schema", help="print the YAML's JSON schema, for editors")
    shown.set_defaults(command=schema)
    return top


def _build_grammar(grammar: argparse.ArgumentParser) -> None:
    grammar.set_defaults(command=build)
    grammar.add_argument(
        "files", nargs="+", metavar="FILE", help="a YAML, or - for standard input; several are merged"
    )
    grammar.add_argument("--format", metavar="F,…", help="output formats (what outputs: says, or iso)")
    grammar.add_argument("--arch", default="", help="amd64 or arm64 (this machine's)")
    grammar.add_argument("--name", help="the outputs' name (the last FILE's; for - linuxkit)")
    grammar.add_argument("--dir", default=".", help="folder of the outputs (this one)")
    grammar.add_argument(
        "--image-layout", action="append", default=[], metavar="DIR", help="OCI image layout, searched first"
    )
    grammar.add_argument("--compression", metavar="C[:LEVEL]", help="zstd, gzip or none (zstd:6)")
    grammar.add_argument(
        "--decompress-kernel", action="store_true", help="take the kernel out of its compressed image"
    )
    grammar.add_argument("--ignore-trust", action="store_true", help="build though trust: cannot be checked")
    grammar.add_argument("--dry-run", action="store_true", help="only print the merged YAML, checked")
    grammar.add_argument("--jobs", "-j", type=_positive, default=os.cpu_count() or 1, help="steps at once")
    grammar.add_argument(
        "--explain",
        metavar="KEY",
        help="only say where a container's configuration comes from: NAME, services[0] or NAME:FIELD",
    )


def _run_grammar(grammar: argparse.ArgumentParser) -> None:
    grammar.set_defaults(command=run)
    grammar.add_argument("name", metavar="NAME", help="what build made: NAME.iso, NAME-kernel …, or a file")
    grammar.add_argument("--publish", action="append", default=[], metavar="HOST:GUEST", help="a TCP port")
    grammar.add_argument("--mem", type=_positive, default=1024, help="memory in MiB (1024)")
    grammar.add_argument("--cpus", type=_positive, default=1, help="processors (1)")
    grammar.add_argument("--uefi", action="store_true", help="boot by UEFI instead of BIOS")
    grammar.add_argument("--arch", default="", help="amd64 or arm64 (this machine's)")
    grammar.add_argument("--disk", action="store_true", help="attach an ISO as a disk instead of a CD")
    grammar.add_argument("--qemu-from-path", action="store_true", help="use the QEMU on PATH")


def _lock_grammar(grammar: argparse.ArgumentParser) -> None:
    grammar.set_defaults(command=lock)
    grammar.add_argument("folders", nargs="*", metavar="DIR", help="components of your own (the library)")
    grammar.add_argument("--suite", action="append", default=[], help="a Debian suite (bookworm)")
    grammar.add_argument("--output", type=Path, help="the lock to write (the library's)")


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
        _tell(f"warning: {warning}")
    return _print(text)


def _explain(key: str, parts: Parts) -> int:
    """Print where each value of a container's config.json comes from."""
    from linuxkit_rules.plan.explain import explanation, text

    rows = explanation(key, parts, host.engine())
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return _print(text(rows, shutil.get_terminal_size().columns if terminal else None))


def run(options: argparse.Namespace) -> int:
    """``moby run``: boot in QEMU, with the console in the terminal."""
    from linuxkit_rules.debian.lock import load_lock
    from linuxkit_rules.run.accelerator import probe
    from linuxkit_rules.run.locked import locked
    from linuxkit_rules.run.machine import Port
    from linuxkit_rules.run.qemu import on_path
    from linuxkit_rules.run.terminal import RunOptions
    from linuxkit_rules.run.terminal import run as run_machine

    ports = tuple(Port.parse(text) for text in options.publish)
    arch = host.checked_arch(options.arch)
    engine, pins = host.engine(), load_lock(host.package_lock())
    qemu = on_path(arch) if options.qemu_from_path else locked(engine, pins, arch, host.host_arch())
    machine = RunOptions(
        name=options.name,
        arch=arch,
        memory=options.mem,
        cpus=options.cpus,
        uefi=options.uefi,
        disk=options.disk,
        ports=ports,
        accelerator=probe(qemu, arch),
    )
    return run_machine(machine, qemu)


def lock(options: argparse.Namespace) -> int:
    """``moby lock``: resolve and pin Debian packages."""
    from linuxkit_rules.debian.lock import LIBRARY_LOCK, load_lock
    from linuxkit_rules.plan.update import SUITES, Update, locked_gpgv, update_folder, update_library

    if options.output and len(options.folders) > 1:
        raise UsageError("--output takes one lock", hint="give one DIR, or leave --output out")
    engine = host.engine()
    gpgv = locked_gpgv(engine, load_lock(LIBRARY_LOCK), host.host_arch())
    update = Update(engine, gpgv, tuple(options.suite) or SUITES, report=_tell)
    for folder in options.folders:
        update_folder(update, Path(folder), options.output)
    if not options.folders:
        update_library(update, options.output or host.package_lock())
    return 0


def schema(options: argparse.Namespace) -> int:
    """``moby schema``: print the JSON schema of LinuxKit's YAML."""
    from linuxkit_rules.spec.schema import text

    return _print(text())


def _open_standard_streams() -> None:
    """Put the null device where a standard stream is closed, lest another file take its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(text: str) -> int:
    """Print ``text`` in UTF-8, whatever the locale; give the exit status."""
    if sys.stdout is None:
        raise UsageError("standard output is closed")
    try:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"standard output: {error.strerror}") from error
        return FAILED
    return 0


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


def _stem(file: str) -> str:
    if file == STDIN:
        return "linuxkit"
    stem = PurePath(file).stem
    if not stem:
        raise UsageError(f"no name can be had from {file!r}", hint="give --name")
    return stem


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number
