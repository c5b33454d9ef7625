"""What a bench says: a table on the terminal, and bench.json with every run."""

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard
from rich.console import Console
from rich.table import Table

from tests.bench.figures import MB, Figure
from tests.bench.process import Cost

Costs = Mapping[str, Sequence[Cost]]

COLUMNS: Sequence[tuple[str, str, Callable[[Cost], float | None]]] = (
    ("wall s", ".2f", lambda cost: cost.wall),
    ("CPU s", ".2f", lambda cost: cost.cpu),
    ("peak MB", ".0f", lambda cost: cost.memory / MB),
    ("read MB", ".0f", lambda cost: cost.read / MB),
    ("written MB", ".0f", lambda cost: cost.written / MB),
    ("hashed MB", ".1f", lambda cost: cost.moved("hashed") / MB if cost.steps else None),
    ("compressed MB", ".1f", lambda cost: cost.moved("compressed") / MB if cost.steps else None),
    ("steps", ".0f", lambda cost: len(cost.ran())),
)
"""Name, form and value of the table's columns; read and written are by the whole process."""

MISSING = {
    "mkosi": "bookworm's needs root, debootstrap and a mirror",
}
"""What a table without a word would seem to have forgotten, and why it is not run."""


def show(costs: Costs, figures: Sequence[Figure], console: Console) -> None:
    """Print both tables."""
    table = Table(title="Whole processes, medians", caption="absolute figures hold for this run alone")
    table.add_column("scenario")
    for name, _, _ in (("runs", "", None), *COLUMNS):
        table.add_column(name, justify="right")
    for name, runs in costs.items():
        table.add_row(name, str(len(runs)), *(_cell(runs, form, value) for _, form, value in COLUMNS))
    for name, reason in MISSING.items():
        table.add_row(f"{name} ({reason})", "not run")
    console.print(table)
    table = Table(title="Ratios")
    for name in ("figure", "value", "goal", ""):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for item in figures:
        word = {True: "met", False: "[bold]missed[/bold]", None: ""}[item.met]
        table.add_row(item.name, f"{item.value:.2f} {item.unit}", item.goal, word)
    console.print(table)


def _cell(runs: Sequence[Cost], form: str, value: Callable[[Cost], float | None]) -> str:
    values = [found for found in map(value, runs) if found is not None]
    return format(statistics.median(values), form) if values else ""


def save(costs: Costs, figures: Sequence[Figure], path: Path, options: Mapping[str, Any]) -> None:
    """Write everything as JSON."""
    value = {
        "machine": machine(),
        "versions": versions(),
        "options": dict(options),
        "figures": [
            {"name": item.name, "value": item.value, "unit": item.unit, "goal": item.goal, "met": item.met}
            for item in figures
        ],
        "rounds": {name: [cost.to_json() for cost in runs] for name, runs in costs.items()},
    }
    path.write_text(json.dumps(value, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    try:
        rows = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        rows = []
    models = {row.partition(":")[2].strip() for row in rows if row.startswith("model name")}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": ", ".join(sorted(models)),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "cache": "page cache warm; store, projects, tree and copies on one disk",
    }


def versions() -> dict[str, str]:
    """Versions of what was measured."""
    names = ("linuxkit_rules", "scons", "zstandard", "isal")
    found = {name: importlib.metadata.version(name) for name in names}
    return {**found, "python": sys.version.split()[0], "libzstd": ".".join(map(str, zstandard.ZSTD_VERSION))}
