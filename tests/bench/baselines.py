"""What a user would get otherwise: the same tree packed as a whole, by programs of locked Debian packages."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench import floor
from tests.bench.full_rebuild import MODULE
from tests.bench.process import Cost, measure
from tests.bench.world import World

ROOT = Path(__file__).resolve().parents[2]

CPIO_GZIP = "cpio | gzip -6"
TAR_GZIP = "tar | gzip -6"
CPIO_PIGZ = "cpio | pigz -6"
FULL = "full rebuild, one gzip -6 stream (as LinuxKit does)"
FLOOR = "read, sha256, zstd -1, sha256, write; nothing else"
COPY = "cp of the ISO"
COPY_OVER = "cp of the ISO over an older one"

ALWAYS = (CPIO_GZIP, CPIO_PIGZ, FLOOR)
"""Those that each round runs; the others run once, for they tell little more and take minutes."""

ONCE = (TAR_GZIP, FULL)


class Baselines:
    """The baselines of one world; its ``tree`` is what they pack."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._out = world.root / "baseline.out"
        self._scripts = dict(self._pipes())

    def run(self, name: str) -> Cost:
        """Run one and give its cost; raise KeyError for an unknown name."""
        if name == FULL:
            return self._full_rebuild()
        if name == FLOOR:
            command = [sys.executable, "-m", floor.MODULE, str(self._world.tree), str(self._out)]
            return measure(command, self._world.root, {"PYTHONPATH": str(ROOT)})
        return measure(["sh", "-c", self._scripts[name]], self._world.tree)

    def copy(self, file: Path) -> dict[str, Cost]:
        """Copy ``file`` on the disk of the store to where nothing is, then to where the copy is."""
        target = self._world.root / "copy"
        target.unlink(missing_ok=True)
        line = ["cp", str(file), str(target)]
        return {name: measure(line, self._world.root) for name in (COPY, COPY_OVER)}

    def _pipes(self) -> Iterator[tuple[str, str]]:
        gzip, pigz, cpio = (shlex.join(self._world.tool(name)) for name in ("gzip", "pigz", "cpio"))
        tar, out = shlex.join(self._world.gnutar()), shlex.quote(str(self._out))
        newc = f"find . -print0 | LC_ALL=C sort -z | {cpio} --quiet -0 -o -H newc"
        yield CPIO_GZIP, f"{newc} | {gzip} -6 >{out}"
        yield CPIO_PIGZ, f"{newc} | {pigz} -6 >{out}"
        yield TAR_GZIP, f"{tar} --sort=name --owner=0 --group=0 --mtime=@0 -cf - . | {gzip} -6 >{out}"

    def _full_rebuild(self) -> Cost:
        """Make the image of all services with a memory that knows the images alone."""
        project = self._world.project("full")
        project.write(self._world.big())
        arguments = ["big.yml", str(project.layouts), str(project.store), str(self._out)]
        command = [sys.executable, "-m", MODULE, *arguments]
        return measure(command, project.folder, {"PYTHONPATH": str(ROOT)})
