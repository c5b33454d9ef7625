"""Where a bench runs: a store that has the images and nothing made of them, projects, tools, the plain tree.

All of it lies below one folder, so on one disk, and stays there for the next run.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from linuxkit_rules import host
from linuxkit_rules.debian.lock import LIBRARY_LOCK, load_lock
from linuxkit_rules.digest import Digest
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.compression import open_reader
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.outputs.registry import by_name
from linuxkit_rules.plan.graph import Step, realise
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.component import ComponentImage
from linuxkit_rules.stages.image import ImageStage
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.stages.tool import Program, install
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from tests.bench import images
from tests.bench.process import Cost, measure

SMALL = 200
"""How many small images there are."""

SCONSTRUCT = """\
from linuxkit_rules import linuxkit
env = Environment(tools=[linuxkit])
for yml in env.Glob("*.yml"):
    env.LinuxKitImage("out/" + str(yml)[:-4], yml, formats=ARGUMENTS.get("formats", "kernel+initrd"))
"""
EMPTY = 'env = Environment(tools=[])\nenv.Command("x", [], Touch("$TARGET"))\n'


CONTENT = ("blobs", "entries", "oci-layout", "index.json")
"""What a store holds; locks, leases, notes of builds and tools are each store's own."""

BLOBS = ("blobs", "oci-layout", "index.json")
"""What a store holds that remembers nothing."""


@dataclass(frozen=True)
class Service:
    """A service of a project's YAML."""

    name: str
    image: str
    argument: str = "one"


@dataclass(frozen=True)
class Plan:
    """A project's YAML as a value; ``replace`` makes the next edit."""

    services: tuple[Service, ...]
    cmdline: str = "console=ttyS0"

    def text(self) -> str:
        """The YAML."""
        lines = [
            'kernel:\n  image: "@pkg:kernel"',
            f'  cmdline: "{self.cmdline}"',
            'init: ["@pkg:init", "@pkg:crun"]',
        ]
        lines.append("services:")
        for item in self.services:
            lines.append(
                f'  - {{name: {item.name}, image: "{item.image}", command: ["/app", "{item.argument}"]}}'
            )
        lines.append("files:\n  - {path: etc/motd, source: motd}\n")
        return "\n".join(lines)


@dataclass(frozen=True)
class Project:
    """A folder with a SConstruct, YAMLs and a local file, and the store that its builds use."""

    folder: Path
    store: Path
    layouts: Path
    compression: str = ""
    cache: str = ""
    """The URL of a remote cache that is read and filled."""

    layered: bool = False

    def write(self, plan: Plan, name: str = "big", motd: str = "hello\n") -> None:
        """Write the YAML ``name`` and the local file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "SConstruct").write_text(SCONSTRUCT)
        (self.folder / f"{name}.yml").write_text(plan.text())
        (self.folder / "motd").write_text(motd)

    def environment(self) -> dict[str, str]:
        """What a build of the project is told."""
        own = {
            "LINUXKIT_STORE": str(self.store),
            "LINUXKIT_IMAGE_LAYOUTS": str(self.layouts),
            "LINUXKIT_ARCH": images.ARCH,
            "LINUXKIT_OFFLINE": "1",
        }
        if self.compression:
            own["LINUXKIT_COMPRESSION"] = self.compression
        if self.layered:
            own["LINUXKIT_LAYERED"] = "1"
        if self.cache:
            own |= {"LINUXKIT_REMOTE_CACHE": self.cache, "LINUXKIT_REMOTE_CACHE_MODE": "rw"}
            own["LINUXKIT_OFFLINE"] = "0"
        return own

    def build(self, *arguments: str, sample: Path | None = None) -> Cost:
        """Build, as a user does."""
        return measure(scons(*arguments), self.folder, self.environment(), sample=sample)


def scons(*arguments: str) -> list[str]:
    """The command that runs SCons."""
    return [sys.executable, "-m", "SCons", "-Q", *arguments]


class World:
    """Everything below ``root``."""

    def __init__(self, root: Path, services: Sequence[str] = images.SERVICES, small: int = SMALL) -> None:
        self.root = root
        self.services = services
        self.small = small
        self.engine = Engine(Store(root / "store"), access=host.access(os.environ))
        self.layouts = root / "layout"
        self.tree = root / "tree"

    def big(self) -> Plan:
        """The image of all services."""
        return Plan(tuple(Service(name, images.reference(name)) for name in self.services))

    def scaled(self, count: int) -> Plan:
        """An image of ``count`` small services."""
        names = [f"small-{number}" for number in range(count)]
        return Plan(tuple(Service(name, images.reference(name)) for name in names))

    def prepare(self) -> None:
        """Make what is missing; fetches packages the first time."""
        stamp = self.root / "stamp"
        mark = str(
            Digest.of(images.LOCK.read_bytes() + repr((self.services, self.small, images.REPLACED)).encode())
        )
        if stamp.exists() and stamp.read_text() == mark:
            self._pull_all()
            return
        for folder in (self.layouts, self.tree):
            shutil.rmtree(folder, ignore_errors=True)
        store = self.engine.store
        found = [*images.service_images(self.engine, self.services), *images.small_images(store, self.small)]
        images.layout(found, store, self.layouts)
        self._pull_all()
        project = self.project("prepare")
        project.write(self.big())
        project.build()
        unpack(project.folder / "out" / "big-initrd.img", self.tree)
        stamp.write_text(mark)

    def _pull_all(self) -> None:
        """Bring all images into the store: quick where they are there, made by the stages as they are now."""
        project = self.project("prepare")
        for wanted in (self.big(), self.scaled(self.small)):
            project.write(wanted)
            self._pull(project.folder / "big.yml")

    def _pull(self, yml: Path) -> None:
        """Bring the images of a YAML into the store, and make nothing of them."""
        parts = plan({"big.yml": yml}, "big", Settings(layouts=(self.layouts,)))
        todo: list[Step] = [parts.initrd]
        for name in ("iso", "kernel+initrd"):
            todo += by_name(name).steps(parts).values()
        done: dict[Step, Result] = {}
        while todo:
            step = todo.pop()
            if isinstance(step.stage, ImageStage | ComponentImage):
                realise(step, self.engine, done)
            todo += [item.source for item in step.inputs if isinstance(item.source, Step)]

    def project(
        self, name: str, compression: str = "", cache: str = "", content: Sequence[str] = CONTENT
    ) -> Project:
        """A new project with a new store that has the images alone, or less than that, by hard links."""
        base = self.root / "projects" / name
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        store, there = self.engine.store.root, base / "store"
        if store.exists() and content:
            there.mkdir()
            parts = [store / name for name in content]
            subprocess.run(["cp", "-al", *parts, there], check=True)
        return Project(base / "project", base / "store", self.layouts, compression, cache)

    def empty(self) -> Cost:
        """The cost of a run of SCons that has nothing to do."""
        folder = self.root / "projects" / "empty"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "SConstruct").write_text(EMPTY)
        return measure(scons("x"), folder)

    def tool(self, name: str) -> list[str]:
        """The command of a baseline's program, out of the bench's locked packages."""
        root = install(self.engine, name, load_lock(images.LOCK), images.ARCH, images.HERE / "tools")
        return list(Program(root, f"usr/bin/{name}").command)

    def gnutar(self) -> list[str]:
        """GNU tar of the library's locked packages."""
        root = install(self.engine, "gnutar", load_lock(LIBRARY_LOCK), images.ARCH)
        return list(Program(root, "usr/bin/tar").command)


def unpack(initrd: Path, folder: Path) -> None:
    """Write the files of an initrd below ``folder``; owners are whoever runs this, devices are left out."""
    with initrd.open("rb") as file:
        for entry in cpio.read(open_reader(file)):
            _write(entry, folder)


def _write(entry: Entry, folder: Path) -> None:
    place = folder / entry.path
    if entry.kind is Kind.DIRECTORY:
        place.mkdir(parents=True, exist_ok=True)
        return
    if place.is_symlink() or place.is_file():
        place.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    if entry.kind is Kind.SYMLINK:
        place.symlink_to(entry.link)
    elif entry.kind is Kind.HARDLINK:
        os.link(folder / entry.link, place)
    elif entry.kind is Kind.FILE and isinstance(entry.content, bytes):
        place.write_bytes(entry.content)
        place.chmod(stat.S_IMODE(entry.mode) | 0o600)


def changed(plan: Plan, service: str, **fields: str) -> Plan:
    """The plan with one service changed."""
    rows = tuple(replace(item, **fields) if item.name == service else item for item in plan.services)
    return replace(plan, services=rows)


def tree_size(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    rows: Mapping[Path, int] = {path: path.lstat().st_size for path in folder.rglob("*") if path.is_file()}
    return sum(rows.values())
