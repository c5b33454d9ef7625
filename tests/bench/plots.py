"""Two pictures: how null builds and small changes grow with the services, and what a cold build does when."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot: no window is wanted

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from tests.bench import scenarios
from tests.bench.process import Cost
from tests.bench.scenarios import Sizes, scaled

COLOURS = {
    "container-rootfs": "#4477aa",
    "rootfs": "#66ccee",
    "unpack": "#228833",
    "modules": "#ccbb44",
    "join": "#ee6677",
    "deliver": "#aa3377",
}
OTHER = "#bbbbbb"


def scaling(costs: Mapping[str, Sequence[Cost]], sizes: Sizes, path: Path) -> None:
    """Draw CPU time against the number of services."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    empty = _median(costs[scenarios.EMPTY])
    for plot, name in zip(axes, (scenarios.NULL, scenarios.COMMAND), strict=True):
        for shape, colour, label in (
            ("own", "#4477aa", "an image each"),
            ("shared", "#ee6677", "one image for all"),
        ):
            rows = [costs[scaled(name, shape, count)] for count in sizes.scaling]
            low, middle, high = zip(*(_range(row) for row in rows), strict=True)
            plot.plot(sizes.scaling, middle, marker="o", color=colour, label=label)
            plot.fill_between(sizes.scaling, low, high, color=colour, alpha=0.15, linewidth=0)
        plot.axhline(empty, color="black", linestyle=":", label="empty run of SCons")
        goal = [1.5 * empty + 0.001 * count for count in sizes.scaling]
        if name == scenarios.NULL:
            plot.plot(sizes.scaling, goal, color="#228833", linestyle="--", label="goal")
        plot.set_title(
            {scenarios.NULL: "Nothing changed", scenarios.COMMAND: "One service's command changed"}[name]
        )
        plot.set_xlabel("services in the image")
        plot.grid(alpha=0.3)
        plot.legend(frameon=False)
    axes[0].set_ylabel("CPU seconds of the whole process (median, range)")
    axes[0].set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def timeline(cost: Cost, samples: Path, path: Path) -> None:
    """Draw the steps of one build, a lane for each thread, and below them how many cores were busy."""
    figure, (lanes, load) = plt.subplots(
        2, 1, figsize=(11, 4.8), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    _lanes(lanes, cost)
    _load(load, cost, json.loads(samples.read_text()))
    load.set_xlabel("seconds since the build began")
    load.set_xlim(0, cost.wall)
    figure.suptitle(
        f"Cold build of {cost.moved('compressed') / 1e9:.1f} GB: its steps, and the cores they keep busy"
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _lanes(axes: Axes, cost: Cost) -> None:
    outer = [row for row in cost.steps if row["how"] in ("run", "deliver") and row["depth"] == 0]
    threads = list(dict.fromkeys(row["thread"] for row in outer))
    named: set[str] = set()
    for row in outer:
        stage = row["stage"] if row["stage"] in COLOURS else "other"
        begin, length = row["begin"] - cost.begin, row["end"] - row["begin"]
        label = stage if stage not in named else None
        named.add(stage)
        lane = threads.index(row["thread"])
        axes.barh(
            lane,
            length,
            left=begin,
            height=0.7,
            color=COLOURS.get(stage, OTHER),
            edgecolor="white",
            linewidth=0.4,
            label=label,
        )
        if length > 0.06 * cost.wall:
            axes.text(
                begin + length / 2, lane, _short(row), ha="center", va="center", fontsize=8, color="white"
            )
    axes.set_yticks(range(len(threads)), [f"thread {number + 1}" for number in range(len(threads))])
    axes.set_ylim(-0.6, len(threads) - 0.4)
    axes.legend(frameon=False, ncols=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)


def _short(row: Mapping[str, Any]) -> str:
    parts = str(row["label"]).split("/")
    return parts[1] if len(parts) == 3 else row["stage"]


def _load(axes: Axes, cost: Cost, samples: list[tuple[float, float]]) -> None:
    """Draw CPU seconds used in each tenth of a second and more."""
    step = max(1, len(samples) // 150)
    kept = samples[::step]
    pairs = list(itertools.pairwise(kept))
    times = [end[0] - cost.begin for _, end in pairs]
    busy = [(end[1] - begin[1]) / (end[0] - begin[0]) for begin, end in pairs]
    axes.fill_between(times, busy, step="pre", color="#4477aa", alpha=0.6)
    axes.set_ylabel("cores busy")
    axes.set_ylim(0, max(2.1, *busy))
    axes.grid(alpha=0.3)


def _range(runs: Sequence[Cost]) -> tuple[float, float, float]:
    values = [cost.cpu for cost in runs]
    return min(values), statistics.median(values), max(values)


def _median(runs: Sequence[Cost]) -> float:
    return statistics.median(cost.cpu for cost in runs)
