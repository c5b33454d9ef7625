"""The cost of a build with nothing to do, as a ratio to a run of SCons that builds nothing.

Run it from the repository: ``python tests/bench/null_build.py``.  Runs are interleaved; CPU time is user and
system time of whole processes; the ratio is that of the medians.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EMPTY = 'env = Environment(tools=[])\nenv.Command("x", [], Touch("$TARGET"))\n'


def cost(folder: Path, target: str) -> float:
    """CPU seconds of one run of SCons in ``folder``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "SCons", "-Q", target]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the ratio."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=15)
    runs = options.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        empty = Path(name)
        (empty / "SConstruct").write_text(EMPTY)
        pairs = [(cost(ROOT, "out/redisos.iso"), cost(empty, "x")) for _ in range(runs + 2)][2:]
    null, nothing = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"null build {null:.3f} s, empty run {nothing:.3f} s of CPU: ratio {null / nothing:.2f} ({runs} runs)"
    )


if __name__ == "__main__":
    main()
