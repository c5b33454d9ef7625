"""``moby run``: an image booted in QEMU."""

from __future__ import annotations

import argparse

from linuxkit_rules import host
from linuxkit_rules.cli.numbers import positive

NAME = "run"
HELP = "boot an image in QEMU"


def grammar(parser: argparse.ArgumentParser) -> None:
    """Declare arguments and options."""
    parser.set_defaults(command=run)
    parser.add_argument("name", metavar="NAME", help="what build made: NAME.iso, NAME-kernel …, or a file")
    parser.add_argument("--publish", action="append", default=[], metavar="HOST:GUEST", help="a TCP port")
    parser.add_argument("--mem", type=positive, default=1024, help="memory in MiB (1024)")
    parser.add_argument("--cpus", type=positive, default=1, help="processors (1)")
    parser.add_argument("--uefi", action="store_true", help="boot by UEFI instead of BIOS")
    parser.add_argument("--arch", default="", help="amd64 or arm64 (this machine's)")
    parser.add_argument("--disk", action="store_true", help="attach an ISO as a disk instead of a CD")
    parser.add_argument("--qemu-from-path", action="store_true", help="use the QEMU on PATH")


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
