"""Run one command and print what the whole process cost, as JSON: ``runner.py [--sample FILE] -- COMMAND``.

A program of its own, and small, because the kernel counts the memory of the process that starts a command to
the command.  CPU time and peak memory are those of wait4(2): the command with all that it waited for, and the
largest process of them.  Bytes are those of /proc/PID/io: reads and writes through system calls, in the page
cache or not.  ``--sample`` writes pairs of the time and of CPU seconds used so far, every 20 ms.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run it."""
    split = sys.argv.index("--")
    options, command = sys.argv[1:split], sys.argv[split + 1 :]
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        with sampled(process.pid, Path(options[1])) if options else contextlib.nullcontext():
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wall = time.monotonic() - begin
        moved = moved_bytes(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    cost = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}
    print(json.dumps({"status": process.returncode, "begin": begin, **cost, **moved}))


def moved_bytes(pid: int) -> dict[str, int]:
    """Bytes read and written; none where the kernel keeps no such account."""
    try:
        rows = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    except OSError:
        return {}
    return {"read": int(rows["rchar"]), "written": int(rows["wchar"])}


@contextlib.contextmanager
def sampled(pid: int, path: Path) -> Iterator[None]:
    """Note the CPU time of a process while the block runs, and write that to ``path``."""
    samples: list[tuple[float, float]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            samples.append((time.monotonic(), sum(map(int, fields[11:15])) / _TICKS))

    thread = threading.Thread(target=sample)
    thread.start()
    yield
    done.set()
    thread.join()
    path.write_text(json.dumps(samples))


if __name__ == "__main__":
    main()
