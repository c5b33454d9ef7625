"""Which files of which packages a component consists of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from linuxkit_rules.debian.closure import Closure, More, no_more
from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.globs import matches
from linuxkit_rules.debian.machine import Machine
from linuxkit_rules.debian.tree import KERNEL, Tree
from linuxkit_rules.formats.entry import Kind
from linuxkit_rules.spec.component import Component

Chosen = dict[str, set[str]]
"""Package to the paths that are taken from it, in the order of layers."""


def ordered(component: Component, machine: Machine, names: Iterable[str]) -> list[str]:
    """Put packages in the order of layers: those that the component names, as it does, then the others."""
    left = set(names)
    declared = [machine.expand(item.name) for item in component.packages]
    first = [name for name in dict.fromkeys(declared) if name in left]
    return first + sorted(left.difference(first))


def declared(component: Component, machine: Machine, trees: Mapping[str, Tree]) -> Chosen:
    """Choose what the component's globs name in ``trees``; packages that are not there are passed over."""
    chosen: Chosen = {}
    for item in component.packages:
        tree = trees.get(machine.expand(item.name))
        if tree is not None:
            globs = None if item.files is None else machine.expand_all(item.files)
            chosen.setdefault(tree.name, set()).update(tree.select(globs))
    return chosen


def choose(
    component: Component,
    machine: Machine,
    trees: dict[str, Tree],
    contents: Contents,
    more: More = no_more,
) -> Chosen:
    """Choose a component's files from ``trees``, to which ``more`` may add packages.

    Raises PackageError where a path is not in its package or a library cannot be found.
    """
    exclude = machine.expand_all(component.exclude)
    chosen = {
        name: {path for path in paths if not matches(exclude, path)}
        for name, paths in declared(component, machine, trees).items()
    }
    if component.closure:
        Closure(machine, contents, trees, exclude, more, chosen).complete()
    pruned = {name: prune(trees[name], paths) for name, paths in chosen.items()}
    return {name: pruned[name] for name in ordered(component, machine, pruned) if pruned[name]}


def prune(tree: Tree, paths: set[str]) -> set[str]:
    """Leave out directories of which nothing is left; those that the package itself has empty stay."""
    full = {path.rpartition("/")[0] for path in tree.entries}
    kept = {path for path in paths if tree.entries[path].kind is not Kind.DIRECTORY or path not in full}
    for path in tuple(kept):
        while path := path.rpartition("/")[0]:
            kept.add(path)
    return kept & paths


def has_kernel(tree: Tree) -> bool:
    """Whether the package holds a kernel (and not only depends on one that does)."""
    return any(matches(KERNEL, path) for path in tree.entries)
