"""What programs need to run: the libraries that the dynamic linker would load, and the linker itself.

ld.so(8), https://man7.org/linux/man-pages/man8/ld.so.8.html, says where it looks.  Plug-ins that a program
opens by itself (dlopen) are not seen here; a component names them among its files.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import field

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.globs import matches
from linuxkit_rules.debian.machine import Machine
from linuxkit_rules.debian.tree import Tree, canonical
from linuxkit_rules.errors import FormatError, PackageError
from linuxkit_rules.formats import elf
from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.values import dataclass

_DYNAMIC = (elf.ET_EXEC, elf.ET_DYN)


@dataclass(frozen=True, slots=True)
class Need:
    """The file ``path`` of ``package`` needs ``name``, which is looked for at ``places`` in this order."""

    package: str
    path: str
    name: str
    places: tuple[str, ...]


More = Callable[[Need], Tree | None]
"""Finds a package, not looked at so far, that has what is needed; None where there is none."""


def no_more(need: Need) -> Tree | None:
    """Look no further than the packages that are there."""
    return None


@dataclass
class Closure:
    """Adds to ``chosen`` (package to paths) what the programs among them need.

    ``trees`` are searched in their order; ``more`` may give further ones, which are then added to it.  What
    ``exclude`` names, by path or by soname, is not looked for.
    """

    machine: Machine
    contents: Contents
    trees: dict[str, Tree]
    exclude: tuple[str, ...] = ()
    more: More = no_more
    chosen: dict[str, set[str]] = field(default_factory=dict)

    def complete(self) -> None:
        """Follow all needs; raise PackageError where one cannot be satisfied."""
        todo = [(name, path) for name, paths in self.chosen.items() for path in sorted(paths)]
        there = {path for _, path in todo}
        names = {posixpath.basename(path) for path in there}
        while todo:
            package, path = todo.pop()
            for need in self._needs(package, path):
                if need.name in names or there.intersection(need.places) or self._excluded(need):
                    continue
                added = self._add(need)
                todo += added
                there.update(path for _, path in added)
                names.update(posixpath.basename(path) for _, path in added)

    def _needs(self, package: str, path: str) -> Iterator[Need]:
        """Read what the file ``path`` needs, if it is a program or library of this machine."""
        entry = self.trees[package].entries[path]
        found = self._elf(entry, package)
        if found is None:
            return
        if found.interpreter:
            yield Need(package, path, found.interpreter, (canonical(found.interpreter),))
        folders = (*(_origin(folder, path) for folder in found.runpath), *self.machine.libraries)
        for name in found.needed:
            places = (canonical(name),) if "/" in name else tuple(f"{folder}/{name}" for folder in folders)
            yield Need(package, path, name, places)

    def _elf(self, entry: Entry, package: str) -> elf.Elf | None:
        """Read the entry as ELF; None where it is another kind of file, or of another machine."""
        view = self.contents.view(entry)
        if view[:4] != elf.MAGIC:
            return None
        try:
            found = elf.read(view)
        except FormatError as error:
            raise PackageError(error.message, where=f"package {package}: {entry.path}") from None
        return found if found.machine == self.machine.elf and found.kind in _DYNAMIC else None

    def _excluded(self, need: Need) -> bool:
        return any(matches(self.exclude, item) for item in (need.name, *need.places))

    def _add(self, need: Need) -> list[tuple[str, str]]:
        """Choose the file that satisfies ``need``, with the links that lead to it."""
        for tree in self.trees.values():
            found = self.offer(tree, need)
            if found:
                return self._take(tree, found)
        extra = self.more(need)
        if extra is not None:
            self.trees[extra.name] = extra
            return self._take(extra, self.offer(extra, need) or need.places[0])
        raise PackageError(
            f"{need.name}, which {need.path} needs, is in none of the packages {', '.join(self.trees)}",
            where=f"package {need.package}",
            hint="add its package to packages:, or its name to exclude:",
        )

    def offer(self, tree: Tree, need: Need) -> str | None:
        """Give the path at which ``tree`` has what is needed, for this machine."""
        for place in need.places:
            file = tree.file(place)
            if file is not None and self._elf(file, tree.name) is not None:
                return place
        return None

    def _take(self, tree: Tree, path: str) -> list[tuple[str, str]]:
        steps = [step for step in tree.trail(path) if step in tree.entries]
        self.chosen.setdefault(tree.name, set()).update(steps)
        return [(tree.name, step) for step in steps]


def _origin(folder: str, path: str) -> str:
    """Expand ``$ORIGIN``: the folder of the file that names it."""
    own = "/" + posixpath.dirname(path)
    return canonical(folder.replace("${ORIGIN}", own).replace("$ORIGIN", own))
