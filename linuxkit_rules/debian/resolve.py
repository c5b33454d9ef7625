"""Which packages a component takes files from, found when it is locked.

``Depends`` says far more than programs need, so it is only where to look: a library is searched in the
packages on which the one that needs it depends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from linuxkit_rules.debian.closure import Closure, Need
from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.globs import matches
from linuxkit_rules.debian.index import Index, Package
from linuxkit_rules.debian.machine import Machine
from linuxkit_rules.debian.select import choose, declared, has_kernel
from linuxkit_rules.debian.tree import Tree
from linuxkit_rules.errors import LinuxKitError, PackageError
from linuxkit_rules.formats.entry import Kind
from linuxkit_rules.spec.component import Component
from linuxkit_rules.values import dataclass

_DEPTH = 3


@dataclass
class Resolver:
    """Resolves components for one machine; ``open_tree`` gives the files of a package of ``index``."""

    index: Index
    machine: Machine
    contents: Contents
    open_tree: Callable[[Package], Tree]

    def resolve(self, component: Component) -> tuple[Package, ...]:
        """Give the packages that give ``component`` files, sorted by name.

        Raises PackageError, saying the component's place, where it cannot be made from what the index has.
        """
        try:
            if component.kernel:
                return (self._kernel(component, component.kernel.package),)
            trees = {}
            for item in component.packages:
                tree = self.open_tree(self._package(self.machine.expand(item.name)))
                trees[tree.name] = tree
            named = declared(component, self.machine, trees)
            chosen = choose(component, self.machine, trees, self.contents, self._search(trees))
        except LinuxKitError as error:
            place = f"component {component.image}" + (f", {error.where}" if error.where else "")
            raise PackageError(error.message, where=place, hint=error.hint) from error
        # What is excluded in the end may still be needed, as the certificates of which a bundle is made.
        used = {name for name, paths in named.items() if any(_is_file(trees[name], path) for path in paths)}
        return tuple(self._package(name) for name in sorted(used.union(chosen)))

    def _package(self, name: str) -> Package:
        found = self.index.get(name)
        if found is None:
            provided = ", ".join(item.name for item in self.index.providers(name))
            hint = f"take one of {provided}" if provided else None
            raise PackageError(f"there is no package {name} for {self.machine.arch}", hint=hint)
        return found

    def _kernel(self, component: Component, pattern: str) -> Package:
        """Follow the component's packages through Depends to the one that holds a kernel."""
        names = [self.machine.expand(item.name) for item in component.packages]
        if not names:
            names = sorted(name for name in self.index.names() if matches((pattern,), name))
        for name in names:
            for package in self._reachable(self._package(name), self.machine.expand(pattern)):
                if has_kernel(self.open_tree(package)):
                    return package
        raise PackageError(f"none of {', '.join(names)} leads to a package {pattern} that holds a kernel")

    def _reachable(self, package: Package, pattern: str) -> Iterator[Package]:
        yield package
        for level in self._levels(package):
            yield from (item for item in level if matches((pattern,), item.name))

    def _search(self, trees: dict[str, Tree]) -> Callable[[Need], Tree | None]:
        """Give a function that looks for what is needed among the dependencies, the nearest first."""
        probe = Closure(self.machine, self.contents, {})

        def search(need: Need) -> Tree | None:
            for level in self._levels(self._package(need.package)):
                for package in sorted(level, key=lambda item: _likeness(item.name, need.name)):
                    tree = trees.get(package.name) or self.open_tree(package)
                    if probe.offer(tree, need):
                        return tree
            return None

        return search

    def _levels(self, package: Package) -> Iterator[list[Package]]:
        """Give the packages on which ``package`` depends, then those on which these depend, and so on."""
        seen = {package.name}
        level = [package]
        for _ in range(_DEPTH):
            names = [name for item in level for group in item.depends for name in group]
            found = {item.name: item for name in names for item in self.index.providers(name)}
            level = [item for name, item in found.items() if name not in seen]
            seen |= found.keys()
            yield level


def _is_file(tree: Tree, path: str) -> bool:
    return tree.entries[path].kind is not Kind.DIRECTORY


def _likeness(package: str, soname: str) -> tuple[bool, bool, str]:
    """Sort packages by how much they look as if they held ``soname``."""
    stem = soname.rpartition("/")[2].partition(".so")[0].lower().replace("_", "-")
    in_libc = stem.startswith("ld-linux") or stem in ("libc", "libm", "libdl", "libpthread", "librt")
    alike = package == "libc6" if in_libc else package.startswith(stem)
    return not alike, not package.startswith("lib"), package
