"""The benchmark suite: ``python -m tests.bench [--quick] [--scenario GROUP] [--out DIR]``.

Builds an image of ten services, about 1 GB, in every way that a user meets, beside what packs the same tree
as a whole; prints the tables, and writes bench.json and two pictures to DIR.  The page cache is warm, and
everything lies on one disk.  The first run fetches about 200 MB of Debian packages.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from linuxkit_rules.host import store_root
from tests.bench import images, report
from tests.bench.figures import Figures
from tests.bench.process import Cost, MeasureError
from tests.bench.report import Costs
from tests.bench.scenarios import QUICK, Scenarios, Sizes
from tests.bench.world import SMALL, World

GROUPS = ("build", "baselines", "scaling", "images")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    options = grammar().parse_args(arguments)
    sizes = QUICK if options.quick else Sizes()
    world = World(options.work.absolute(), sizes.services, max(sizes.scaling) if options.quick else SMALL)
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if options.lock:
        images.make_lock(world.engine)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    world.prepare()
    wanted = options.scenario or GROUPS
    costs = measured(Scenarios(world, sizes), wanted, 1 if options.quick else options.rounds, console)
    if "build" in wanted:
        draw_timeline(world, options.out)
    if "scaling" in wanted:
        draw_scaling(costs, sizes, options.out)
    shutil.rmtree(world.root / "projects")
    figures = Figures(costs, sizes).all()
    report.show(costs, figures, console)
    chosen = {"quick": options.quick, "rounds": options.rounds, "groups": list(wanted)}
    report.save(costs, figures, options.out / "bench.json", chosen)
    console.print(f"{options.out} has bench.json and the pictures")


def measured(scenarios: Scenarios, groups: Sequence[str], rounds: int, console: Console) -> Costs:
    """Run the groups in turn, ``rounds`` times; one that fails is told and left."""
    costs: dict[str, list[Cost]] = {}
    for number in range(rounds):
        for group in groups:
            try:
                for name, cost in scenarios.groups[group](number):
                    costs.setdefault(name, []).append(cost)
                    console.print(
                        f"round {number + 1}: {name}: {cost.wall:.2f} s", style="dim", highlight=False
                    )
            except MeasureError as error:
                console.print(f"round {number + 1}, {group}: {error}", style="bold", markup=False)
    return costs


def draw_scaling(costs: Costs, sizes: Sizes, out: Path) -> None:
    """Draw what grows with the number of services."""
    from tests.bench import plots

    plots.scaling(costs, sizes, out / "scaling.png")


def draw_timeline(world: World, out: Path) -> None:
    """Build once more, with an eye on the processor."""
    from tests.bench import plots

    project = world.project("timeline")
    project.write(world.big())
    samples = world.root / "samples.json"
    plots.timeline(project.build(sample=samples), samples, out / "timeline.png")


def grammar() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("--quick", action="store_true", help="three small services, one round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of what takes long (3)")
    parser.add_argument(
        "--scenario", action="append", choices=GROUPS, help="run this group alone; may be repeated"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("bench"), help="folder of bench.json and pictures (bench)"
    )
    work = store_root("").with_name("linuxkit_rules-bench")
    parser.add_argument("--work", type=Path, default=work, help=f"folder that is kept, 8 GB ({work})")
    parser.add_argument("--lock", action="store_true", help="pin the packages anew, and do nothing else")
    return parser


if __name__ == "__main__":
    main()
