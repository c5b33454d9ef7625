"""What a command cost, as a whole process, and what its steps say that they moved."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linuxkit_rules.formats.account import KINDS

RUNNER = Path(__file__).with_name("runner.py")


class MeasureError(Exception):
    """A command that was to be measured has failed."""


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of one run; ``steps`` are the rows of its trace."""

    wall: float
    cpu: float
    memory: int
    read: int = 0
    written: int = 0
    begin: float = 0.0
    steps: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def ran(self, *stages: str) -> list[Mapping[str, Any]]:
        """The steps that ran, of all stages or of some."""
        return [row for row in self.steps if row["how"] == "run" and (not stages or row["stage"] in stages)]

    def moved(self, kind: str) -> int:
        """Bytes of one kind in all steps."""
        return sum(row[kind] for row in self.steps)

    def seconds(self, *stages: str) -> float:
        """Seconds that steps of some stages took, those that they asked for included."""
        return float(sum(row["end"] - row["begin"] for row in self.ran(*stages)))

    def to_json(self) -> dict[str, Any]:
        """Everything but the steps, of which the sums."""
        sums = {f"steps_{kind}": self.moved(kind) for kind in KINDS} if self.steps else {}
        figures = {name: getattr(self, name) for name in ("wall", "cpu", "memory", "read", "written")}
        return {**figures, "steps": len(self.ran()), **sums}


def measure(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    sample: Path | None = None,
) -> Cost:
    """Run ``command`` in ``folder``; raise MeasureError with what it said where it fails."""
    os.sync()  # what others have written is not this command's to wait for
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as name:
        trace = Path(name) / "trace"
        options = ["--sample", str(sample)] if sample else []
        result = subprocess.run(
            [sys.executable, "-I", "-S", str(RUNNER), *options, "--", *command],
            cwd=folder,
            env={**variables, **(environment or {}), "LINUXKIT_TRACE": str(trace)},
            capture_output=True,
            text=True,
        )
        lines = trace.read_text().splitlines() if trace.exists() else []
        rows = [row for row in map(json.loads, lines) if "begin" in row]  # a saving is no step
    found = json.loads(result.stdout) if result.returncode == 0 else {"status": result.returncode}
    if found.pop("status"):
        raise MeasureError(f"{' '.join(command)[:200]} failed:\n{result.stderr[-3000:]}")
    return Cost(**found, steps=rows)
