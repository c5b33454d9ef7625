"""The scenarios.  Each round runs all of them in turn, so that a machine's drift meets them alike."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import baselines, images
from tests.bench.baselines import Baselines
from tests.bench.process import Cost
from tests.bench.world import BLOBS, Plan, Project, Service, World, changed
from tests.servers.dav import dav_server

EMPTY = "empty run of SCons"
COLD = "cold"
COLD_FAST = "cold, zstd:1"
COLD_LAYERED = "cold, layered"
COLD_SMALL = "cold, a tenth of the size"
NULL = "null"
NULL_SMALL = "null, as many small services"
COMMAND = "one command changed"
FLIP = "changed back"
FILE = "one file changed"
CMDLINE = "kernel cmdline changed"
IMAGE = "one service's image changed"
REPLACED = "all layers of one service's image changed"
CHECKOUT = "fresh checkout, warm store"
IMAGE_LAYERED = "one service's image changed, layered"
ISO = "ISO, all segments there"
ISO_AGAIN = "ISO, one command changed"
ISO_NEW = "ISO, one command changed, no older one there"
FILLING = "everything made, remote cache filled"
REMOTE = "fresh machine, warm remote cache"

CHANGED_SERVICE = "node"
"""The service of middle size whose image changes: by a layer more, and by other layers."""

Row = tuple[str, Cost]


@dataclass(frozen=True)
class Sizes:
    """How large a bench is: ``services`` of the big image, counts of small services and of images."""

    services: Sequence[str] = images.SERVICES
    tenth: Sequence[str] = ("files", "metrics")
    changed: str = CHANGED_SERVICE
    scaling: Sequence[int] = (1, 10, 50, 100, 200)
    many: Sequence[int] = (1, 8, 64)
    repeats: int = 5


QUICK = Sizes(("files", "cache", "proxy"), ("cache", "proxy"), "files", (1, 10, 30), (1, 8), 3)


class Scenarios:
    """Groups of scenarios: each gives rows of a name and a cost."""

    def __init__(self, world: World, sizes: Sizes) -> None:
        self._world = world
        self._sizes = sizes
        self._baselines = Baselines(world)
        self.groups: dict[str, Callable[[int], Iterator[Row]]] = {
            "build": self.build,
            "baselines": self.baselines,
            "scaling": self.scaling,
            "images": self.many,
        }

    def build(self, number: int) -> Iterator[Row]:
        """The big image: built, then edited in one project, each time from where the last edit left it."""
        project, plan = self._world.project("big"), self._world.big()
        project.write(plan)
        yield COLD, project.build()
        small = self._world.project("small")
        small.write(self._world.scaled(len(self._sizes.services)))
        small.build()
        yield from self._again(project, small)
        for name, edited, motd in self._edits(plan):
            project.write(edited, motd=motd)
            yield name, project.build()
        other = replace(project, folder=project.folder.with_name("checkout"))
        other.write(plan)
        yield CHECKOUT, other.build()
        yield ISO, other.build("formats=iso")
        yield from self._isos(other, plan)
        yield from self._layered(plan)
        yield from self._remote(plan)
        yield from self._colds(plan)

    def _isos(self, project: Project, plan: Plan) -> Iterator[Row]:
        """ISOs whose head is there, delivered as ``cp`` copies them in the same turn."""
        image = project.folder / "out" / "big.iso"
        for turn in range(3):
            for name in (ISO_AGAIN, ISO_NEW):
                if name == ISO_NEW:
                    image.unlink()
                project.write(changed(plan, self._sizes.services[-1], argument=f"{name} {turn}"))
                yield name, project.build("formats=iso")
            yield from self._baselines.copy(image).items()

    def _again(self, project: Project, small: Project) -> Iterator[Row]:
        for _ in range(self._sizes.repeats):
            yield EMPTY, self._world.empty()
            yield NULL, project.build()
            yield NULL_SMALL, small.build()

    def _edits(self, plan: Plan) -> Iterator[tuple[str, Plan, str]]:
        """Name, YAML and local file of each edit."""
        service = self._sizes.services[-1]
        yield COMMAND, changed(plan, service, argument="two"), "hello\n"
        yield FLIP, plan, "hello\n"
        yield FILE, plan, "changed\n"
        yield CMDLINE, replace(plan, cmdline="console=ttyS0 quiet"), "changed\n"
        yield IMAGE, self._with(plan, 2), "changed\n"
        yield REPLACED, self._with(plan, 3), "changed\n"

    def _with(self, plan: Plan, version: int) -> Plan:
        """The plan with another version of one service's image."""
        name = self._sizes.changed
        return changed(plan, name, image=images.reference(name, version))

    def _layered(self, plan: Plan) -> Iterator[Row]:
        """Containers on layers that they share."""
        project = replace(self._world.project("layered"), layered=True)
        for name, edited in ((COLD_LAYERED, plan), (IMAGE_LAYERED, self._with(plan, 2))):
            project.write(edited)
            yield name, project.build()
        shutil.rmtree(project.folder.parent)

    def _colds(self, plan: Plan) -> Iterator[Row]:
        """The big image packed fast, and a small one."""
        fast = self._world.project("fast", "zstd:1")
        fast.write(plan)
        yield COLD_FAST, fast.build()
        small = self._world.project("tenth")
        small.write(
            replace(plan, services=tuple(item for item in plan.services if item.name in self._sizes.tenth))
        )
        yield COLD_SMALL, small.build()
        for item in (fast, small):
            shutil.rmtree(item.folder.parent)

    def _remote(self, plan: Plan) -> Iterator[Row]:
        """A store of packages and layers alone fills a cache; another machine has an empty store."""
        with tempfile.TemporaryDirectory(dir=self._world.root) as folder, dav_server(Path(folder)) as cache:
            for name, content in ((FILLING, BLOBS), (REMOTE, ())):
                project = self._world.project("remote", cache=cache.url, content=content)
                project.write(plan)
                yield name, project.build()

    def baselines(self, number: int) -> Iterator[Row]:
        """What packs the whole tree each time."""
        names = (*baselines.ALWAYS, *(baselines.ONCE if number == 0 else ()))
        for name in names:
            yield name, self._baselines.run(name)

    def scaling(self, number: int) -> Iterator[Row]:
        """Small services, each with an image of its own, or all with one: null, and one command changed."""
        if number:
            return
        shapes = {"own": self._world.scaled, "shared": self._shared}
        made = [(shape, count) for shape in shapes for count in self._sizes.scaling]
        projects = {item: self._world.project(f"{item[0]}-{item[1]}") for item in made}
        for (shape, count), project in projects.items():
            project.write(shapes[shape](count))
            yield scaled(COLD, shape, count), project.build()
        for turn in range(self._sizes.repeats):
            yield EMPTY, self._world.empty()
            for (shape, count), project in projects.items():
                yield scaled(NULL, shape, count), project.build()
                project.write(changed(shapes[shape](count), "small-0", argument=f"turn {turn}"))
                yield scaled(COMMAND, shape, count), project.build()

    def _shared(self, count: int) -> Plan:
        return Plan(tuple(Service(f"small-{number}", images.reference("small-0")) for number in range(count)))

    def many(self, number: int) -> Iterator[Row]:
        """Images in one SConstruct that share kernel, init and most services."""
        if number:
            return
        for count in self._sizes.many:
            project = self._world.project(f"images-{count}")
            for index in range(count):
                plan = self._world.scaled(4)
                project.write(changed(plan, "small-0", argument=f"image {index}"), f"image-{index}")
            yield many(COLD, count), project.build()
            for _ in range(self._sizes.repeats):
                yield many(NULL, count), project.build()


def scaled(name: str, shape: str, count: int) -> str:
    """The name of a row of a scaling scenario."""
    images_of = "an image each" if shape == "own" else "one image"
    return f"{name}, {count} services, {images_of}"


def many(name: str, count: int) -> str:
    """The name of a row for ``count`` images in one SConstruct."""
    return f"{name}, {count} images in one SConstruct"
