"""Runs of SCons that cost no start-up: a process that has imported all, and forks one for each build.

``python -m tests.forks FOLDER`` reads lines from standard input, each the arguments of a run of SCons as a
JSON list, and answers each by two lines: the process's number as it begins, and its status when it has ended
(negative: the signal).  What SCons prints goes to the file ``scons.log`` in the folder.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

PRELOADED = ("SCons.Script", "linuxkit_rules.scons.command", "linuxkit_rules.plan.image")


class Forks:
    """The other end: begins a build, tells its process's number, waits for it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        line = [sys.executable, "-m", "tests.forks", str(folder)]
        self._process = subprocess.Popen(
            line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, *arguments: str) -> int:
        print(json.dumps(arguments), file=self._process.stdin, flush=True)
        return int(self._answer())

    def wait(self) -> int:
        return int(self._answer())

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


def main(folder: Path) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    os.chdir(folder)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            log = os.open("scons.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["scons", *json.loads(line)]
            importlib.import_module("SCons.Script").main()
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
