"""Run one command and print, as JSON, what the whole process cost: ``runner.py [--sample FILE] -- COMMAND …``.

A program of its own, and small, because the kernel counts the memory of the process that starts a command to the
command.  CPU time and peak memory are those of wait4(2): the command with all that it waited for.  Bytes are
those of /proc/PID/io, reads and writes through system calls, in the page cache or not.  ``--sample`` writes
pairs of seconds and CPU seconds used so far, every 20 ms.
"""

import json
import os
import subprocess
import sys
import threading
import time

_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    split = sys.argv.index("--")
    options, command = sys.argv[1:split], sys.argv[split + 1 :]
    samples: list[tuple[float, float]] = []
    before = time.monotonic()
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        done = threading.Event()
        sampler = threading.Thread(target=sample, args=(process.pid, done, samples))
        if options:
            sampler.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wall = time.monotonic() - before
        done.set()
        moved = moved_bytes(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if options:
        sampler.join()
        with open(options[1], "w") as file:
            json.dump(samples, file)
    print(
        json.dumps(
            {
                "status": process.returncode,
                "begin": before,
                "wall": wall,
                "cpu": usage.ru_utime + usage.ru_stime,
                "memory": usage.ru_maxrss * 1024,
                **moved,
            }
        )
    )


def moved_bytes(pid: int) -> dict[str, int]:
    """Bytes read and written; none where the kernel keeps no such account."""
    try:
        with open(f"/proc/{pid}/io") as file:
            rows = dict(line.split(": ") for line in file)
    except OSError:
        return {}
    return {"read": int(rows["rchar"]), "written": int(rows["wchar"])}


def sample(pid: int, done: threading.Event, samples: list[tuple[float, float]]) -> None:
    """Note the CPU time of the process until it ends; its children count once they have ended."""
    while not done.wait(0.02):
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(") ")[2].split()
        samples.append((time.monotonic(), sum(map(int, fields[11:15])) / _TICKS))


if __name__ == "__main__":
    main()
