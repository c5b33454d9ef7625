"""Overlay file systems as trees: what layers show, and which layer makes one tree of another.

https://docs.kernel.org/filesystems/overlayfs.html, "Upper and Lower", "Directories", "whiteouts and opaque
directories".  Trees are those of ``layers.flatten`` as an initramfs holds them (``formats.cpio.held``): they
have no extended attributes, so no directory is opaque, and each name that is hidden has its own whiteout.
A *layer* here is such a tree that may hold whiteouts: character devices 0:0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from linuxkit_rules.formats.entry import Entry, Kind, tree_order
from linuxkit_rules.oci.layers import remove

Tree = Mapping[str, Entry]
K = TypeVar("K")


def whiteout(path: str) -> Entry:
    """Give the whiteout that hides ``path``."""
    return Entry(path, Kind.CHAR, 0)


def is_whiteout(entry: Entry) -> bool:
    """Whether overlayfs takes ``entry`` for a whiteout, wherever it comes from."""
    return entry.kind is Kind.CHAR and entry.major == entry.minor == 0


def view(layers: Iterable[Tree]) -> dict[str, Entry]:
    """Give what an overlay of ``layers``, the lowest first, shows.

    Directories of one path are merged down to the first layer that has something else there; a directory's
    own attributes are those of the topmost.
    """
    shown: dict[str, Entry] = {}
    for layer in layers:
        for path, entry in layer.items():
            old = shown.get(path)
            if old and not old.kind is entry.kind is Kind.DIRECTORY:
                remove(shown, path)
            if not is_whiteout(entry):
                shown[path] = entry
        shown = _sorted(shown)
    return shown


def difference(lower: Tree, upper: Tree) -> dict[str, Entry]:
    """Give the layer that, laid over what shows ``lower``, shows ``upper``; nothing where they are equal.

    Both hold the root (``""``), and no device 0:0.  A changed entry comes with the directories above it, and
    with all names of its file: a hard link cannot lead into another layer.
    """
    old, new = _names(lower), _names(upper)
    changed = {
        path for path, entry in upper.items() if lower.get(path) != entry or old.get(path) != new.get(path)
    }
    for path in tuple(changed):
        changed.update(new.get(path, ()))
    hidden = [path for path in lower if path not in upper and _is_directory(upper, _parent(path))]
    wanted = {*changed, *_above((*changed, *hidden))}
    return _sorted({path: upper[path] for path in wanted} | {path: whiteout(path) for path in hidden})


def stacked(states: Iterable[Tree], keep: Callable[[Tree], K]) -> list[K]:
    """Give layers, the lowest first, an overlay of which shows the last of ``states``: what ``keep`` gives.

    A layer is what makes one state of that before it.  No two are equal as kept: the kernel refuses an
    overlay that has one twice (fs/overlayfs/super.c: ELOOP).  One that would come again is made one with
    those below it, until it differs or nothing is left of it.
    """
    layers: dict[K, dict[str, Entry]] = {}
    below: Tree = {}
    for now in states:
        layer = difference(below, now)
        while layer and (kept := keep(layer)) in layers:
            layers.popitem()
            layer = difference(view(layers.values()), now)
        if layer:
            layers[kept] = layer
        below = now
    return list(layers)


def topped(layers: Iterable[Tree], final: Tree, keep: Callable[[Tree], K]) -> list[K]:
    """Give ``layers``, the lowest first, and one over them with which an overlay shows ``final``.

    They are given as ``keep`` keeps them, and each one once, as in ``stacked``.
    """
    below: dict[K, Tree] = {}
    for layer in layers:
        below.setdefault(keep(layer), layer)
    while top := difference(view(below.values()), final):
        if (kept := keep(top)) not in below:
            return [*below, kept]
        del below[kept]
    return list(below)


def united(first: Tree, second: Tree) -> dict[str, Entry] | None:
    """Give the tree that has all of both; None where they have not the same at some path.

    A file is the same only where it has the same names in both.
    """
    ours, theirs = _names(first), _names(second)
    common = first.keys() & second.keys()
    if any(first[path] != second[path] or ours.get(path) != theirs.get(path) for path in common):
        return None
    return _sorted({**first, **second})


def _names(tree: Tree) -> dict[str, tuple[str, ...]]:
    """Give all names of each file that has several, by each of them."""
    groups: dict[str, list[str]] = {}
    for path, entry in tree.items():
        if entry.kind is Kind.HARDLINK:
            groups.setdefault(entry.link, [entry.link]).append(path)
    return {path: tuple(sorted(group)) for group in groups.values() for path in group}


def _above(paths: Iterable[str]) -> set[str]:
    """Give the directories above ``paths``, the root with them."""
    found: set[str] = set()
    for path in paths:
        while path and (path := _parent(path)) not in found:
            found.add(path)
    return found


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _is_directory(tree: Tree, path: str) -> bool:
    return path in tree and tree[path].kind is Kind.DIRECTORY


def _sorted(tree: Tree) -> dict[str, Entry]:
    return dict(sorted(tree.items(), key=lambda item: tree_order(item[0])))
