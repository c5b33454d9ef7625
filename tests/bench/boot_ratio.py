"""How much longer RedisOS takes to its first PONG than its kernel takes to a busybox /init.

    python -m tests.bench.boot_ratio [--runs N] [out/redisos-kernel]

Both are timed from QEMU's start, emulated, run in turns because a host's speed drifts, and the medians are
compared.  Kernel, command line, memory and devices are the same; the baseline's initramfs holds only the
image's own busybox and an /init that says a word on the console.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from linuxkit_rules import host
from linuxkit_rules.debian.lock import load_lock
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.compression import Compression, compressed, open_reader
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.run.artefacts import find
from linuxkit_rules.run.boot import PATIENCE, Await, Exchange, Step
from linuxkit_rules.run.locked import locked
from linuxkit_rules.run.machine import Kernel, Machine, Port
from linuxkit_rules.run.qemu import Qemu
from linuxkit_rules.run.running import start

WORD = "busybox is up"
INIT = f"""\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
echo {WORD} >/dev/console
exec /bin/busybox sleep 1000000
"""
PONG = Exchange(6379, b"PING\r\n", rb"^\+PONG", attempt=0.2)


def busybox_of(initrd: Path) -> bytes:
    """Give the program out of an initramfs."""
    with initrd.open("rb") as file:
        for entry in cpio.read(open_reader(file)):
            if entry.path == "usr/bin/busybox" and isinstance(entry.content, bytes):
                return entry.content
    raise SystemExit(f"{initrd} has no usr/bin/busybox")


def write_baseline(busybox: bytes, path: Path) -> None:
    """Write the initramfs of the baseline."""
    entries = [
        Entry("bin", Kind.DIRECTORY, 0o755),
        Entry("dev", Kind.DIRECTORY, 0o755),
        Entry("dev/console", Kind.CHAR, 0o600, major=5, minor=1),
        Entry("bin/busybox", Kind.FILE, 0o755, content=busybox),
        Entry("init", Kind.FILE, 0o755, content=INIT.encode()),
    ]
    with path.open("wb") as file, compressed(file, Compression.ZSTD, 3) as out:
        cpio.write(entries, out, _copy)


def _copy(content: bytes | Slice, out: SupportsWrite) -> None:
    assert isinstance(content, bytes)
    out.write(content)


def seconds(machine: Machine, qemu: Qemu, step: Step) -> float:
    """Time one step from QEMU's start."""
    begin = time.monotonic()
    with start(machine, qemu) as running:
        step.run(running, PATIENCE)
        return time.monotonic() - begin


def measure(medium: Kernel, qemu: Qemu, runs: int, folder: Path) -> tuple[list[float], list[float]]:
    """Give the seconds to PONG and those to busybox, run by run."""
    assert medium.initrd is not None
    baseline = folder / "baseline.img"
    write_baseline(busybox_of(medium.initrd), baseline)
    whole = Machine(medium, memory=512, ports=(Port(0, 6379),))
    bare = replace(whole, medium=replace(medium, initrd=baseline))
    pairs = [(seconds(whole, qemu, PONG), seconds(bare, qemu, Await(WORD))) for _ in range(runs)]
    return [pong for pong, _ in pairs], [init for _, init in pairs]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    grammar = argparse.ArgumentParser(description="Time to PONG against time to a busybox /init.")
    grammar.add_argument("--runs", type=int, default=5)
    grammar.add_argument("kernel", nargs="?", default="out/redisos-kernel")
    options = grammar.parse_args(arguments)
    medium = find(options.kernel).medium
    if not isinstance(medium, Kernel):
        grammar.error(f"{options.kernel} is no kernel")
    qemu = locked(host.engine(), load_lock(host.package_lock()), "amd64", host.host_arch(), uefi=False)
    with tempfile.TemporaryDirectory() as folder:
        pong, init = measure(medium, qemu, options.runs, Path(folder))
    for name, values in (("PONG", pong), ("busybox /init", init)):
        print(
            f"{name:14} median {statistics.median(values):5.2f} s  "
            + " ".join(f"{value:.2f}" for value in values)
        )
    print(f"ratio          {statistics.median(pong) / statistics.median(init):5.2f}")


if __name__ == "__main__":
    main()
