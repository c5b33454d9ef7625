"""Stage ``deb``: a Debian package's files, as an index of its data.tar."""

from __future__ import annotations

from pathlib import PurePath
from typing import ClassVar

from linuxkit_rules.debian.deb import unpack_data
from linuxkit_rules.debian.fetch import fetch
from linuxkit_rules.debian.index import File
from linuxkit_rules.debian.lock import Pin
from linuxkit_rules.debian.mirror import find, url
from linuxkit_rules.debian.tree import Tree
from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import FormatError, NetworkError, PackageError, within
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.stages.unpack import Unpack, load
from linuxkit_rules.store.blobs import OCTET_STREAM
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass


@dataclass(frozen=True)
class Deb(Stage):
    """Fetches the package that ``pin`` says, and indexes its files; no inputs.

    Gives a layer index as the stage ``unpack`` does, and refers to the plain data.tar and to the .deb, which
    is kept since mirrors drop old versions.  Where it comes from, ``Access`` says.
    """

    name: ClassVar[str] = "deb"
    version: ClassVar[int] = 2
    pin: Pin

    def label(self) -> str:
        """Name, version and machine."""
        return f"{self.pin.name} {self.pin.version} {self.pin.arch}"

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Fetch and index; raise NetworkError, or PackageError where the package is not sound."""
        deb = self._fetch(work)
        try:
            data = unpack_data(work.store, deb.digest, work.limits)
        except FormatError as error:
            where = f"package {self.label()}"
            raise PackageError(error.message, where=where, hint=error.hint) from None
        with within(f"package {self.label()}"):
            index = work.run(Unpack(), {"layer": [data]})
        return Result(index.output, (*index.refers, deb))

    def _fetch(self, work: Engine) -> Descriptor:
        file = File(self.pin.size, self.pin.digest)
        kept = Descriptor(OCTET_STREAM, file.digest, file.size)
        if work.store.has(kept) or self._is_vendored(kept, work):
            return kept
        if work.access.offline:
            hint = "build once with the network"
            raise NetworkError(f"package {self.label()} is not in the store", hint=hint)
        mirror = find(work.access.debian_mirror, work.access.apt_folder)
        return fetch(work.store, url(mirror, self.pin.filename), file)

    def _is_vendored(self, kept: Descriptor, work: Engine) -> bool:
        """Store the package out of the access's folder, if it is there; PackageError if it is another one."""
        folder = work.access.packages
        path = folder / PurePath(self.pin.filename).name if folder else None
        if path is None or not path.is_file():
            return False
        if work.store.put_file(path) != kept:
            message = f"is not the package {self.label()} that the lock names"
            raise PackageError(message, where=str(path), hint="run `moby vendor` again")
        return True


def package_tree(pin: Pin, work: Engine) -> Tree:
    """Give the files of a pinned package, usr-merged."""
    return Tree.of(pin.name, load(work.store, work.run(Deb(pin), {}).output))
