"""Layers of overlay file systems show the flat tree: held against a model of overlayfs of its own."""

import io
from collections.abc import Callable, Hashable, Mapping, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linuxkit_rules.errors import ImageError
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.layers import flatten, states
from linuxkit_rules.oci.overlayfs import is_whiteout, stacked, topped, view

Tree = Mapping[str, Entry]
ROOT = Entry("", Kind.DIRECTORY, 0o755)


def held(tree: Tree) -> dict[str, Entry]:
    """A tree as an initramfs holds it, with its root."""
    return {entry.path: entry for entry in cpio.held(({"": ROOT} | dict(tree)).values())}


def mounted(layers: Sequence[Tree]) -> dict[str, Entry]:
    """What the kernel shows of ``layers``, the topmost first: fs/overlayfs/namei.c and readdir.c in short.

    A name is looked up from the top; below a directory the search goes on in the lower ones that are merged
    with it, and ends at the first that has something else there, a whiteout too.
    """

    def listed(path: str, merged: Sequence[Tree]) -> None:
        if path:
            shown[path] = merged[0][path]
        lead = f"{path}/" if path else ""
        names = {item for layer in merged for item in layer if item and item.rpartition("/")[0] == path}
        for name in sorted(names, key=lambda item: item.removeprefix(lead)):
            stack: list[Tree] = []
            for layer in merged:
                entry = layer.get(name)
                if entry is None:
                    continue
                if entry.kind is not Kind.DIRECTORY:
                    if not stack and not is_whiteout(entry):
                        shown[name] = entry
                    break
                stack.append(layer)
            if stack:
                listed(name, stack)

    # fs/overlayfs/super.c, ovl_setup_trap: a directory that is two layers is ELOOP.
    seen = [frozenset(inodes(layer).items()) for layer in layers]
    assert len(set(seen)) == len(seen), "a layer is there twice"
    shown = {"": layers[0][""]}
    listed("", layers)
    return shown


def inodes(tree: Tree) -> dict[str, tuple[object, ...]]:
    """What can be seen of each path: attributes, content, and which other paths are the same file."""
    names: dict[str, set[str]] = {}
    for path, entry in tree.items():
        names.setdefault(entry.link if entry.kind is Kind.HARDLINK else path, set()).add(path)
    seen: dict[str, tuple[object, ...]] = {}
    for path, entry in tree.items():
        file = tree[entry.link] if entry.kind is Kind.HARDLINK else entry
        attributes = (file.kind, file.mode, file.uid, file.gid, file.mtime, file.major, file.minor)
        link = file.link if file.kind is Kind.SYMLINK else ""
        seen[path] = (*attributes, link, file.content, frozenset(names[file.path]))
    return seen


NAMES = st.sampled_from(["a", "b", "l"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MODES = st.sampled_from([0o755, 0o700])
OWNERS = st.sampled_from([0, 33])
ENTRIES = st.one_of(
    st.builds(lambda path, mode, uid: Entry(path, Kind.DIRECTORY, mode, uid), PATHS, MODES, OWNERS),
    st.builds(
        lambda path, mode, data: Entry(path, Kind.FILE, mode, content=data, xattrs=(("user.x", data),)),
        PATHS,
        MODES,
        st.sampled_from([b"", b"one", b"two"]),
    ),
    st.builds(lambda path, target: Entry(path, Kind.SYMLINK, link=target), PATHS, PATHS | st.just("/a")),
    st.builds(lambda path, target: Entry(path, Kind.HARDLINK, link=target), PATHS, PATHS),
    st.builds(lambda path: Entry(path, Kind.CHAR, major=1, minor=3, mtime=-1), PATHS),
)
WHITEOUTS = st.builds(
    lambda path, name: Entry(f"{path}{name}", Kind.FILE),
    st.sampled_from(["", "", "a/", "b/", "l/", "a/b/", "b/a/"]),
    st.sampled_from([".wh.a", ".wh.b", ".wh.l", ".wh..wh..opq"]),
)
MEMBERS = st.lists(ENTRIES, max_size=6)
TO_AND_FRO = st.sampled_from([[Entry("a", Kind.FILE, content=b"one")], [Entry(".wh.a", Kind.FILE)]])
LAYERS = st.lists(
    MEMBERS | TO_AND_FRO | st.builds(lambda hidden, members: [hidden, *members], WHITEOUTS, MEMBERS),
    min_size=1,
    max_size=6,
)


@given(LAYERS)
@settings(
    max_examples=1500, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
def test_an_overlay_shows_the_flat_tree(count: Callable[..., None], layers: list[list[Entry]]) -> None:
    sound: list[list[Entry]] = []
    for layer in layers:
        try:
            flatten([*sound, layer])
        except ImageError:
            continue
        sound.append(layer)
    if not sound:
        return
    keeper = Keeper()
    stack = keeper.layers(stacked(map(held, states(sound)), keeper.keep))
    flat = held(flatten(sound))
    assert inodes(mounted(stack[::-1])) == inodes(flat)
    assert view(stack) == flat
    for layer in stack:
        assert_packs(layer)
    count("images whose overlay shows the flat tree, by a model of overlayfs", len(stack) > 1)
    count("layers made one with others, as they would have come twice", keeper.dropped)
    count("whiteouts in them", sum(is_whiteout(entry) for layer in stack for entry in layer.values()))


def test_a_layer_over_others_stands_for_the_same_one_below() -> None:
    one, two = ({"": ROOT, "a": Entry("a", Kind.FILE, content=data)} for data in (b"1", b"2"))
    for below, number in ([one, two], 2), ([one, two, one], 2), ([one, one], 1), ([two], 2), ([], 1):
        keeper = Keeper()
        stack = keeper.layers(topped(below, one, keeper.keep))
        assert len(stack) == number
        assert mounted(stack[::-1]) == one


class Keeper:
    """Keeps layers by what can be seen of them; ``dropped`` counts those that were asked for and not used."""

    def __init__(self) -> None:
        self.dropped = 0
        self._kept: dict[Hashable, Tree] = {}

    def keep(self, layer: Tree) -> Hashable:
        key = frozenset(inodes(layer).items())
        self._kept[key] = layer
        self.dropped += 1
        return key

    def layers(self, keys: Sequence[Hashable]) -> list[Tree]:
        self.dropped -= len(keys)
        return [self._kept[key] for key in keys]


def assert_packs(layer: Tree) -> None:
    """An archive says a layer exactly."""
    out = io.BytesIO()
    cpio.write(layer.values(), out, lambda content, file: file.write(content))  # type: ignore[arg-type]
    out.seek(0)
    read = {entry.path: entry for entry in cpio.read(out)}
    assert inodes(read) == inodes(layer)
