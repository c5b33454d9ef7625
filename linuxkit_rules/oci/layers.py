"""Layers laid one over the other: the root file system that an image stands for, as a tree of entries.

OCI image specification, layer.md, "Applying Changesets" and "Whiteouts":
https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md

Nothing touches a disk.  Where the specification leaves a choice, this does what unpacking inside the image's
own root would do: symbolic links among the parents of a path are followed, never out of the root.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace

from linuxkit_rules.errors import ImageError, one_line, within
from linuxkit_rules.formats.entry import Entry, Kind, width
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.values import dataclass

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_RESERVED = (
    ".wh..wh."  # names of the storage driver that layers come from; only the opaque one means something
)
_MOST_LINKS = 40  # as the kernel's MAXSYMLINKS
_STEPS = 16


@dataclass(slots=True)
class _Node:
    """A place in the tree.  Hard links are places that share one ``entry`` object."""

    entry: Entry
    children: dict[str, _Node] = field(default_factory=dict)
    linked: bool = False
    via: str = ""


_UNLISTED = Entry("", Kind.DIRECTORY, 0o755)  # the root where no layer lists it


def flatten(
    layers: Iterable[Iterable[Entry]], names: Sequence[str] = (), limits: Limits = DEFAULT_LIMITS
) -> dict[str, Entry]:
    """Give the root file system of ``layers``, the lowest first, by path; parents come before what they hold.

    Within a directory, names are in code point order.  A file with several names is a FILE under the first of
    them and a HARDLINK to that one under the others, all with the file's attributes.  Parents that no layer
    lists are directories of root, 0755, mtime 0; the root itself (``""``) is given only where a layer lists
    it.  Raises ImageError where a layer cannot be applied: a hard link to nothing or to a directory, a path
    below a file, a whiteout of no name, symbolic links without end, or more than ``limits`` allow.  ``names``
    are what messages call the layers.
    """
    root = _Node(_UNLISTED)
    for _ in _laid(root, layers, names, limits):
        pass
    return _tree(root)


def states(
    layers: Sequence[Iterable[Entry]],
    names: Sequence[str] = (),
    limits: Limits = DEFAULT_LIMITS,
    most: int | None = None,
) -> Iterator[dict[str, Entry]]:
    """Give the root file system after each of ``layers``, or the first ``most`` of them, and after the last.

    Each is as ``flatten`` gives it, and takes time and memory as the whole root file system does.
    """
    root = _Node(_UNLISTED)
    for number, _ in enumerate(_laid(root, layers, names, limits), 1):
        if most is None or number <= most or number == len(layers):
            yield _tree(root)


def _laid(
    root: _Node, layers: Iterable[Iterable[Entry]], names: Sequence[str], limits: Limits
) -> Iterator[None]:
    """Lay ``layers`` over ``root``; pause after each."""
    budget = _Budget(limits)
    for number, layer in enumerate(layers):
        members = list(layer)
        with within(names[number]) if number < len(names) else contextlib.nullcontext():
            budget.spend(len(members))
            budget.hold(sum(entry.metadata for entry in members))
            _apply(root, members, budget)
        yield


def _tree(root: _Node) -> dict[str, Entry]:
    listed = {} if root.entry is _UNLISTED else {"": root.entry}
    tree = listed | dict(_listed(root))
    for path, entry in tree.items():
        if entry.via and not _is_via(entry, tree):
            tree[path] = replace(entry, via="")
    return tree


def _is_via(entry: Entry, tree: Mapping[str, Entry]) -> bool:
    """Whether the path that a hard link named still is another name of its file, and not the first one."""
    first = tree[entry.link if entry.kind is Kind.HARDLINK else entry.path]
    named = tree.get(entry.via)
    if named is None or (named is first and first.kind is Kind.FILE):
        return False
    return (named.link if named.kind is Kind.HARDLINK else named.path) == first.path


def remove(tree: dict[str, Entry], path: str) -> None:
    """Take ``path`` and all below it out of the flat ``tree``; other names of a removed file live on."""
    if path not in tree:
        return
    below = path + "/"
    gone = {name: tree.pop(name) for name in list(tree) if name == path or name.startswith(below)}
    heirs: dict[str, str] = {}
    for name, entry in list(tree.items()):
        if entry.via in gone:
            tree[name] = entry = replace(entry, via="")
        if entry.kind is not Kind.HARDLINK or entry.link not in gone:
            continue
        first = heirs.setdefault(entry.link, name)
        lost = gone[entry.link]
        tree[name] = replace(lost, path=name, via="") if first == name else replace(entry, link=first)


class _Budget:
    """What may still be spent on one image: entries, what they are called, and parts of links gone through.

    Forty links of a thousand parts each, before each of a million entries, would take days.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._entries = 0
        self._metadata = 0
        self._steps = 0

    def spend(self, entries: int) -> None:
        """Count entries; raise ImageError where they are too many."""
        self._entries += entries
        if self._entries > self.limits.entries:
            raise self.limits.excess("entries", f"{self._entries} entries in all layers", ImageError)

    def hold(self, metadata: int) -> None:
        """Count bytes of names and attributes; raise ImageError where they are too many."""
        self._metadata += metadata
        if self._metadata > self.limits.metadata:
            what = f"names and attributes of {self._metadata} bytes in all layers"
            raise self.limits.excess("metadata", what, ImageError)

    def walk(self, steps: int) -> None:
        """Count parts of a link's target; raise ImageError where they are too many."""
        self._steps += steps
        if self._steps > _STEPS * self.limits.entries:
            what = f"{self._steps} parts of symbolic links on the way to entries"
            raise ImageError(f"{what}, more than {_STEPS} for each entry allowed")

    def check(self, path: str) -> None:
        """Count a path, its links followed; raise ImageError where it is too long or too deep."""
        if path.count("/") >= self.limits.depth:
            raise self.limits.excess("depth", f"a path of {path.count('/') + 1} parts", ImageError)
        if len(path) > self.limits.name:
            raise self.limits.excess("name", f"a path of {len(path)} characters", ImageError)
        self.hold(width(path))


def _apply(root: _Node, layer: list[Entry], budget: _Budget) -> None:
    """Lay a layer over ``root``: first what it hides of lower ones, wherever it says so; then its members."""
    members: list[Entry] = []
    markers: list[Entry] = []
    for entry in layer:
        if WHITEOUT not in entry.path or not _is_marker(entry.path):
            members.append(entry)
        else:
            markers.append(entry)
    last = {entry.path: entry.kind for entry in members}
    own = frozenset(path for path, kind in last.items() if kind is Kind.DIRECTORY)
    walk = _Walk(root, own, budget)
    for marker in markers:
        _hide(walk, marker.path)
    for entry in members:
        _put(walk, entry)


def _is_marker(path: str) -> bool:
    """Whether the name, or one above it, is reserved for whiteouts and storage drivers."""
    *above, name = path.split("/")
    for part in above:
        if part.startswith(_RESERVED):
            return True
        if part.startswith(WHITEOUT):
            raise ImageError("a path below a whiteout", where=_shown(path))
    return name.startswith(WHITEOUT)


def _hide(walk: _Walk, path: str) -> None:
    parent, _, name = path.rpartition("/")
    hidden = name.removeprefix(WHITEOUT)
    if not name.startswith(WHITEOUT) or (name != OPAQUE and name.startswith(_RESERVED)):
        return
    if hidden in ("", ".", ".."):
        raise ImageError("a whiteout that names nothing", where=_shown(path))
    place = walk.find(parent)
    if place and name == OPAQUE:
        place.children.clear()
    elif place:
        place.children.pop(hidden, None)


def _put(walk: _Walk, entry: Entry) -> None:
    if not entry.path:
        walk.root.entry = entry
        return
    parent, _, name = entry.path.rpartition("/")
    place = walk.find(parent, make=True)
    if place is None:
        raise ImageError("a path below something that is no directory", where=_shown(entry.path))
    if entry.kind is Kind.HARDLINK:
        target = _target(walk, entry)
        indirect = target.linked or target.entry.kind is Kind.SYMLINK
        place.children[name] = _Node(target.entry, linked=True, via=entry.link if indirect else "")
        return
    old = place.children.get(name)
    both = entry.kind is Kind.DIRECTORY and old is not None and old.entry.kind is Kind.DIRECTORY
    place.children[name] = _Node(entry, old.children if both and old else {})


def _target(walk: _Walk, link: Entry) -> _Node:
    parent, _, name = link.link.rpartition("/")
    place = walk.find(parent)
    node = place.children.get(name) if place else None
    if node is None or node.entry.kind is Kind.DIRECTORY:
        what = "a directory" if node else "nothing"
        raise ImageError(
            f"a hard link to {one_line(repr(link.link))}, which is {what}", where=_shown(link.path)
        )
    return node


@dataclass(frozen=True, slots=True)
class _Walk:
    """Finds directories for one layer.

    ``own`` are the paths that are directories when this layer has been laid: links and files of lower layers
    there are about to be replaced, whichever member comes first, so they are neither followed nor in the way.
    """

    root: _Node
    own: frozenset[str]
    budget: _Budget

    def find(self, path: str, *, make: bool = False) -> _Node | None:
        """Give the directory ``path``, links followed; None where there is none, and none to be made."""
        todo = path.split("/")[::-1] if path else []
        trail: list[tuple[str, _Node]] = [("", self.root)]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del trail[max(1, len(trail) - 1) :]
            if part in ("", ".", ".."):
                continue
            at = f"{trail[-1][0]}/{part}" if trail[-1][0] else part
            child = self._child(trail[-1][1], part, at, make)
            if child is None:
                return None
            if child.entry.kind is Kind.DIRECTORY:
                trail.append((at, child))
                continue
            links += 1
            if links > _MOST_LINKS:
                raise ImageError("symbolic links without end", where=_shown(path))
            target = child.entry.link.split("/")
            with within(_shown(path)):
                self.budget.walk(len(target))
            del trail[1 if target[0] == "" else len(trail) :]
            todo += target[::-1]
        if links:
            with within(_shown(path)):
                self.budget.check(trail[-1][0])
        return trail[-1][1]

    def _child(self, place: _Node, name: str, path: str, make: bool) -> _Node | None:
        """Give the directory or symbolic link ``name`` in ``place``."""
        child = place.children.get(name)
        kind = child.entry.kind if child else None
        if kind is Kind.DIRECTORY or (kind is Kind.SYMLINK and path not in self.own):
            return child
        if not make or (child and path not in self.own):
            return None
        with within(_shown(path)):
            self.budget.spend(1)
            self.budget.hold(width(path))
        made = place.children[name] = _Node(_directory(path))
        return made


def _shown(path: str) -> str:
    return f"entry {one_line(repr(path))}"


def _directory(path: str) -> Entry:
    return Entry(path, Kind.DIRECTORY, 0o755)


def _listed(root: _Node) -> Iterator[tuple[str, Entry]]:
    """Give paths and entries, depth first; the first name of a shared entry is its file."""
    names: dict[int, str] = {}
    todo = [(path, root.children[path]) for path in sorted(root.children, reverse=True)]
    while todo:
        path, node = todo.pop()
        entry = node.entry if not node.via else replace(node.entry, via=node.via)
        first = path if entry.kind is Kind.DIRECTORY else names.setdefault(id(node.entry), path)
        if first != path:
            yield (
                path,
                replace(entry, path=path, kind=Kind.HARDLINK, link=first, major=0, minor=0, content=b""),
            )
        else:
            yield path, entry if entry.path == path else replace(entry, path=path)
        todo += [(f"{path}/{name}", node.children[name]) for name in sorted(node.children, reverse=True)]
