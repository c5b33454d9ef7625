"""An emulation of LinuxKit's way: all images to one archive, converted to cpio, in one gzip -6 stream.

    python -m tests.bench.full_rebuild YML LAYOUTS STORE OUTPUT

LinuxKit itself needs Docker or containerd and a network, which a benchmark should not.  As it does, this
writes each image's files as tar members in turn, then reads them back and packs all of them anew, in one
process.  The parts are the project's own: what differs from its builds is that nothing is kept and that there
is one stream.
"""

import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.formats import cpio, tar
from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.plan.graph import realise
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.pack import open_blobs, without_boot
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store

MODULE = "tests.bench.full_rebuild"


class Gzip:
    """A file that packs what is written to it, at level 6, as gzip does."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._zlib = zlib.compressobj(6, wbits=31)

    def write(self, data: bytes) -> None:
        self._file.write(self._zlib.compress(data))

    def close(self) -> None:
        self._file.write(self._zlib.flush())
        self._file.close()


def entries(members: Sequence[Descriptor], store: Store) -> Iterator[Entry]:
    """Read back the tar members of all parts."""
    for part in members:
        with store.open(part.digest) as file:
            yield from tar.read(file, part.digest)


def main() -> None:
    """Make the initrd."""
    yml, layouts, root, output = sys.argv[1:]
    store = Store(Path(root))
    engine = Engine(store)
    parts = plan({yml: Path(yml)}, "big", Settings(layouts=(Path(layouts),)))
    members = [realise(step, engine).output for step in parts.members]
    out = Gzip(Path(output))
    with open_blobs(store) as copy:
        cpio.write(without_boot(entries(members, store)), out, copy)
    out.close()


if __name__ == "__main__":
    main()
