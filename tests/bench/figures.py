"""From costs to figures: ratios of medians within one run, each beside its goal."""

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench import baselines, scenarios
from tests.bench.process import Cost
from tests.bench.scenarios import Sizes, many, scaled

MB = 1_000_000


@dataclass(frozen=True)
class Figure:
    """A ratio or size with its goal; ``most`` and ``least`` are bounds, where there are any."""

    name: str
    value: float
    unit: str = "x"
    most: float | None = None
    least: float | None = None

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.most is not None:
            return f"<= {self.most:g} {self.unit}"
        return f">= {self.least:g} {self.unit}" if self.least is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, None where there is none."""
        if self.most is not None:
            return self.value <= self.most
        return self.value >= self.least if self.least is not None else None


class Figures:
    """The figures that can be told from ``costs``: rows by name, each with the cost of every run."""

    def __init__(self, costs: Mapping[str, Sequence[Cost]], sizes: Sizes) -> None:
        self._costs = costs
        self._sizes = sizes

    def all(self) -> list[Figure]:
        """Every figure whose rows are there."""
        groups: Sequence[Callable[[], Iterator[Figure]]] = (
            self._cold,
            self._changes,
            self._null,
            self._per_service,
            self._per_image,
            self._copies,
            self._memory,
        )
        found: list[Figure] = []
        for group in groups:
            try:
                found += group()
            except KeyError:  # the scenarios it rests on were not asked for
                continue
        return found

    def median(self, name: str, figure: Callable[[Cost], float]) -> float:
        """The median of a figure of a row; KeyError where there is no such row."""
        return statistics.median(map(figure, self._costs[name]))

    def cpu(self, name: str) -> float:
        """CPU seconds."""
        return self.median(name, lambda cost: cost.cpu)

    def wall(self, name: str) -> float:
        """Seconds by the clock."""
        return self.median(name, lambda cost: cost.wall)

    def _cold(self) -> Iterator[Figure]:
        gzip = baselines.CPIO_GZIP
        for name in (scenarios.COLD, scenarios.COLD_FAST):
            yield Figure(f"{name}: CPU of {gzip} / CPU", self.cpu(gzip) / self.cpu(name), least=10)
            yield Figure(f"{name}: wall of {gzip} / wall", self.wall(gzip) / self.wall(name), least=6)
            pigz = baselines.CPIO_PIGZ
            yield Figure(f"{name}: wall of {pigz} / wall", self.wall(pigz) / self.wall(name))
        yield Figure(f"{baselines.FLOOR}: CPU of {gzip} / CPU", self.cpu(gzip) / self.cpu(baselines.FLOOR))
        busy = self.median(scenarios.COLD, lambda cost: cost.cpu / cost.wall)
        yield Figure("cold: cores busy", busy, "cores", least=1.7)

    def _changes(self) -> Iterator[Figure]:
        gzip = baselines.CPIO_GZIP
        names = (scenarios.COMMAND, scenarios.FLIP, scenarios.FILE, scenarios.CMDLINE, scenarios.IMAGE)
        for name in names:
            yield Figure(f"{name}: CPU of {gzip} / CPU", self.cpu(gzip) / self.cpu(name), least=50)
        for name in (scenarios.REPLACED, scenarios.IMAGE_LAYERED, scenarios.REMOTE):
            yield Figure(f"{name}: CPU of {gzip} / CPU", self.cpu(gzip) / self.cpu(name))
        cold = self.median(scenarios.COLD, lambda cost: _compressed(cost, self._sizes.changed))
        for name in (scenarios.IMAGE, scenarios.REPLACED):
            packed = self.median(name, lambda cost: cost.moved("compressed"))
            yield Figure(f"{name}: compressed / the service", packed / cold, most=1.1)

    def _null(self) -> Iterator[Figure]:
        empty = self.cpu(scenarios.EMPTY)
        yield Figure("null: CPU / empty run", self.cpu(scenarios.NULL) / empty, most=1.5)
        ratio = self.cpu(scenarios.NULL) / self.cpu(scenarios.NULL_SMALL)
        yield Figure("null: CPU / that of as many small services", ratio, most=1.1)

    def _per_service(self) -> Iterator[Figure]:
        for name, most in ((scenarios.NULL, 1.0), (scenarios.COMMAND, None)):
            for shape in ("own", "shared"):
                counts = self._sizes.scaling
                values = [self.cpu(scaled(name, shape, count)) for count in counts]
                slope = statistics.linear_regression(counts, values).slope * 1000
                label = scaled(name, shape, 0).replace(" 0 services,", "")
                yield Figure(f"{label}: CPU for each further service", slope, "ms", most=most)

    def _per_image(self) -> Iterator[Figure]:
        counts = self._sizes.many
        values = [self.cpu(many(scenarios.NULL, count)) for count in counts]
        slope = statistics.linear_regression(counts, values).slope * 1000
        yield Figure("null: CPU for each further image in a SConstruct", slope, "ms")

    def _copies(self) -> Iterator[Figure]:
        kinds = (
            ("join", "-initrd.img", scenarios.COMMAND, baselines.COPY_OVER),
            ("iso", ".iso", scenarios.ISO, baselines.COPY),
            ("iso", ".iso", scenarios.ISO_NEW, baselines.COPY),
            ("iso", ".iso", scenarios.ISO_AGAIN, baselines.COPY_OVER),
        )
        for stage, suffix, name, copy in kinds:
            speed = self.median(name, functools.partial(_speed, stage, suffix))
            other = self.median(copy, lambda cost: cost.written / cost.wall)
            yield Figure(f"{name}: speed of {stage} and delivery / of {copy}", speed / other, least=0.6)

    def _memory(self) -> Iterator[Figure]:
        peak = self.median(scenarios.COLD, lambda cost: cost.memory)
        small = self.median(scenarios.COLD_SMALL, lambda cost: cost.memory)
        yield Figure("cold: peak memory", peak / MB, "MB", most=150)
        yield Figure("cold: peak memory / that of a tenth of the size", peak / small, most=1.1)


def _compressed(cost: Cost, service: str) -> int:
    """Bytes that the steps which pack a service's image compressed."""
    place = f"services/{service}/"
    rows = cost.ran("container-rootfs", "rootfs", "part")
    return sum(row["compressed"] for row in rows if place in row["label"])


def _speed(stage: str, suffix: str, cost: Cost) -> float:
    """Bytes of the outputs ending with ``suffix``, for each second of listing and delivering them."""
    delivered = [row for row in cost.steps if row["how"] == "deliver" and row["label"].endswith(suffix)]
    seconds = cost.seconds(stage) + sum(row["end"] - row["begin"] for row in delivered)
    return float(sum(row["written"] for row in delivered) / seconds)
