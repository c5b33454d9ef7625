import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linuxkit_rules.errors import ImageError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.layers import flatten, remove


def file(path: str, content: bytes = b"1", **fields: Any) -> Entry:
    return Entry(path, Kind.FILE, content=content, **fields)


def folder(path: str, mode: int = 0o755, **fields: Any) -> Entry:
    return Entry(path, Kind.DIRECTORY, mode, mtime=5, **fields)


def soft(path: str, target: str) -> Entry:
    return Entry(path, Kind.SYMLINK, 0o777, link=target)


def hard(path: str, target: str) -> Entry:
    return Entry(path, Kind.HARDLINK, link=target)


def paths(*layers: list[Entry]) -> list[str]:
    return list(flatten(layers))


OPAQUE = ".wh..wh..opq"


def test_nothing_gives_nothing() -> None:
    assert flatten([]) == {}
    assert flatten([[], []]) == {}


def test_later_layers_and_later_members_win() -> None:
    tree = flatten([[file("a", b"1"), file("b", b"1"), file("b", b"2")], [file("a", b"3")]])
    assert {path: entry.content for path, entry in tree.items()} == {"a": b"3", "b": b"2"}


def test_order_is_parents_first_whatever_the_layers_order() -> None:
    members = [file("a/b"), folder("a"), file("a.c"), file("a/a"), file("B")]
    for order in itertools.permutations(members):
        assert paths(list(order)) == ["B", "a", "a/a", "a/b", "a.c"]


def test_unlisted_parents_are_made_and_the_root_only_where_listed() -> None:
    tree = flatten([[file("x/y/z")]])
    assert tree["x"] == Entry("x", Kind.DIRECTORY, 0o755)
    assert tree["x/y"] == Entry("x/y", Kind.DIRECTORY, 0o755)
    assert "" not in tree
    root = folder("", 0o1751, uid=12)
    assert flatten([[root], [file("x")]])[""] == root


def test_unlisted_parents_do_not_touch_lower_directories() -> None:
    tree = flatten([[folder("usr", 0o700)], [file("usr/b")]])
    assert tree["usr"].mode == 0o700


def test_a_directory_listed_again_keeps_its_children_and_takes_the_attributes() -> None:
    tree = flatten([[folder("d"), file("d/x")], [folder("d", 0o700, uid=3)]])
    assert (list(tree), tree["d"].mode, tree["d"].uid) == (["d", "d/x"], 0o700, 3)


@pytest.mark.parametrize(
    "new", [file("d"), soft("d", "x"), Entry("d", Kind.FIFO), Entry("d", Kind.CHAR, major=1)]
)
def test_anything_else_in_place_of_a_directory_drops_its_children(new: Entry) -> None:
    assert flatten([[folder("d"), file("d/x"), file("d/y/z")], [new]]) == {"d": new}
    assert paths([folder("d"), file("d/x")], [new], [folder("d")]) == ["d"]


@pytest.mark.parametrize("old", [file("d"), soft("d", "e"), Entry("d", Kind.FIFO)])
@pytest.mark.parametrize("order", [1, -1])
def test_a_directory_in_place_of_anything_else(old: Entry, order: int) -> None:
    upper = [folder("d", 0o700), file("d/in")][::order]
    tree = flatten([[old, folder("e")], upper])
    assert list(tree) == ["d", "d/in", "e"]
    assert tree["d"].mode == 0o700


def test_whiteouts_hide_what_lower_layers_have() -> None:
    lower = [folder("a"), file("a/gone"), file("a/kept"), file("top"), folder("dir"), file("dir/sub/x")]
    upper = [
        folder("a"),
        file("a/.wh.gone", b""),
        file(".wh.top", b""),
        file(".wh.dir", b""),
        file("no/.wh.such", b""),
    ]
    assert paths(lower, upper) == ["a", "a/kept"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_leaves_its_own_layer_alone(order: int) -> None:
    lower = [folder("d"), file("d/old"), file("f", b"1")]
    upper = [file(".wh.d", b""), folder("d", 0o700), file("d/new"), file(".wh.f", b""), file("f", b"2")][
        ::order
    ]
    tree = flatten([lower, upper])
    assert list(tree) == ["d", "d/new", "f"]
    assert (tree["d"].mode, tree["f"].content) == (0o700, b"2")


def test_what_was_removed_does_not_come_back() -> None:
    lower = [folder("d"), file("d/old"), file("d/sub/old")]
    assert paths(lower, [file(".wh.d")], [folder("d"), file("d/new")]) == ["d", "d/new"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_an_opaque_directory_hides_lower_layers_only_wherever_the_marker_stands(
    order: tuple[int, ...],
) -> None:
    lower = [folder("o"), file("o/a"), file("o/sub/c"), file("keep/k")]
    upper = [folder("o", 0o700), file(f"o/{OPAQUE}", b""), file("o/new"), file("o/sub/d")]
    tree = flatten([lower, [upper[index] for index in order]])
    assert list(tree) == ["keep", "keep/k", "o", "o/new", "o/sub", "o/sub/d"]
    assert tree["o"].mode == 0o700


def test_an_opaque_directory_that_is_not_listed_keeps_its_attributes() -> None:
    tree = flatten([[folder("o", 0o711), file("o/a")], [file(f"o/{OPAQUE}")]])
    assert (list(tree), tree["o"].mode) == (["o"], 0o711)


def test_an_opaque_root_hides_everything_below() -> None:
    assert paths([file("a"), file("b/c")], [file(OPAQUE), file("d")]) == ["d"]


def test_names_that_only_look_like_whiteouts_are_kept_and_drivers_names_ignored() -> None:
    names = [".wh", "wh.x", "x.wh.", "odd.wh.x"]
    assert paths([file(name) for name in names]) == sorted(names)
    assert paths([file("a"), file(".wh..wh.plnk"), file(".wh..wh.aufs")]) == ["a"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh."])
def test_whiteouts_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(ImageError, match="names nothing") as caught:
        flatten([[folder("d"), file(name)]])
    assert name in str(caught.value)


def test_a_file_of_several_names_is_one_file() -> None:
    first = file("h/z", b"hello", mode=0o640, uid=3)
    tree = flatten([[first, hard("h/b", "h/z"), hard("h/c", "h/b"), hard("a/d", "h/z")]])
    assert tree["a/d"] == dataclasses.replace(first, path="a/d")
    assert [(tree[path].kind, tree[path].link) for path in ("h/b", "h/c", "h/z")] == [
        (Kind.HARDLINK, "a/d")
    ] * 3
    assert (tree["h/b"].mode, tree["h/b"].uid, tree["h/b"].size) == (0o640, 3, 0)


@pytest.mark.parametrize(
    ("layers", "via"),
    [
        ([[file("a"), hard("b", "a"), hard("c", "b")]], {"c": "b"}),
        ([[file("z"), hard("b", "z"), hard("c", "z")]], {}),
        ([[file("a"), hard("b", "a"), hard("c", "b")], [file(".wh.a")]], {}),
        ([[file("a"), hard("b", "a"), hard("c", "b")], [file("b", b"new")]], {}),
        ([[soft("z", "a"), hard("b", "z")]], {"b": "z"}),
    ],
)
def test_hard_links_to_links_say_which_they_name(layers: list[list[Entry]], via: dict[str, str]) -> None:
    assert {path: entry.via for path, entry in flatten(layers).items() if entry.via} == via


def test_what_is_removed_is_named_by_no_link() -> None:
    tree = flatten([[file("a", b"x"), hard("b", "a"), hard("c", "b"), hard("d", "b")]])
    remove(tree, "b")
    assert {path: (entry.link, entry.via) for path, entry in tree.items()} == {
        "a": ("", ""),
        "c": ("a", ""),
        "d": ("a", ""),
    }


def test_hard_links_reach_into_lower_layers() -> None:
    tree = flatten([[file("low", b"x", mode=0o755)], [hard("up", "low")]])
    assert (tree["up"].kind, tree["up"].link, tree["up"].mode) == (Kind.HARDLINK, "low", 0o755)


@pytest.mark.parametrize("upper", [[file(".wh.a")], [file("a", b"new")], [folder("a")], [hard("a", "other")]])
def test_the_other_name_of_a_removed_file_becomes_the_file(upper: list[Entry]) -> None:
    tree = flatten([[file("other"), file("a", b"x"), hard("b", "a"), hard("c", "a")], upper])
    assert (tree["b"].kind, tree["b"].content) == (Kind.FILE, b"x")
    assert (tree["c"].kind, tree["c"].link) == (Kind.HARDLINK, "b")


def test_hard_links_of_symbolic_links_and_devices() -> None:
    tree = flatten(
        [[soft("s", "other"), hard("t", "s"), Entry("n", Kind.CHAR, major=1, minor=3), hard("o", "n")]]
    )
    assert (tree["s"].kind, tree["t"].kind, tree["t"].link) == (Kind.SYMLINK, Kind.HARDLINK, "s")
    assert (tree["n"].kind, tree["n"].minor, tree["o"].link) == (Kind.CHAR, 3, "n")


@pytest.mark.parametrize(
    "layer", [[hard("a", "none")], [folder("d"), hard("a", "d")], [hard("a", "b"), file("b")]]
)
def test_hard_links_to_nothing_are_refused(layer: list[Entry]) -> None:
    with pytest.raises(ImageError, match="hard link") as caught:
        flatten([layer])
    assert caught.value.where == "entry 'a'"


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "./usr/../usr/lib/", "../../usr/lib", "other"])
def test_links_among_the_parents_are_followed(target: str) -> None:
    lower = [
        folder("usr"),
        folder("usr/lib", 0o711),
        file("usr/lib/old"),
        soft("other", "usr/lib"),
        soft("lib", target),
    ]
    upper = [file("lib/new"), file("lib/.wh.old"), hard("lib/same", "lib/new")]
    tree = flatten([lower, upper])
    assert list(tree) == ["lib", "other", "usr", "usr/lib", "usr/lib/new", "usr/lib/same"]
    assert (tree["usr/lib/new"].path, tree["usr/lib/same"].link) == ("usr/lib/new", "usr/lib/new")
    assert tree["usr/lib"].mode == 0o711


def test_links_never_lead_out_of_the_root() -> None:
    assert paths([soft("up", "../../.."), file("up/etc/x")]) == ["etc", "etc/x", "up"]


def test_a_dangling_link_among_the_parents_gets_its_directory() -> None:
    assert paths([soft("var", "data/var"), file("var/x")]) == ["data", "data/var", "data/var/x", "var"]


@pytest.mark.parametrize(
    "layer", [[soft("a", "a"), file("a/x")], [soft("a", "b"), soft("b", "a"), file("a/x")]]
)
def test_links_without_end_are_refused(layer: list[Entry]) -> None:
    with pytest.raises(ImageError, match="without end"):
        flatten([layer])


def test_a_whiteout_below_a_directory_that_replaces_a_link_leaves_the_links_target() -> None:
    lower = [folder("real"), file("real/x"), soft("d", "real")]
    assert paths(lower, [folder("d"), file("d/.wh.x"), file(f"d/{OPAQUE}")]) == ["d", "real", "real/x"]


def test_a_path_below_a_file_is_refused() -> None:
    with pytest.raises(ImageError, match="no directory"):
        flatten([[file("f"), file("f/x")]])


def test_very_deep_trees_are_no_trouble() -> None:
    deep = "/".join(["d"] * 2000)
    assert len(flatten([[file(deep)]])) == 2000


def test_remove_keeps_other_names_of_a_file() -> None:
    tree = flatten([[file("d/a", b"x"), hard("e", "d/a"), hard("f", "d/a"), file("d.x")]])
    remove(tree, "d")
    assert list(tree) == ["d.x", "e", "f"]
    assert (tree["e"].kind, tree["e"].content, tree["f"].link) == (Kind.FILE, b"x", "e")
    remove(tree, "none")
    assert list(tree) == ["d.x", "e", "f"]


parts = st.sampled_from(["a", "b", "c", ".wh.a", ".wh.b", OPAQUE])
places = st.lists(parts, min_size=1, max_size=4).map("/".join)
members = st.one_of(
    st.builds(file, places),
    st.builds(folder, places),
    st.builds(soft, places, st.sampled_from(["a", "b", "../a", "/b/c", "."])),
    st.builds(hard, places, places),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(members, max_size=6), max_size=4))
def test_any_layers_give_a_sound_tree_or_an_image_error(layers: list[list[Entry]]) -> None:
    try:
        tree = flatten(layers)
    except ImageError:
        return
    assert tree == flatten(layers)
    seen: set[str] = set()
    for path, entry in tree.items():
        assert entry.path == path
        parent = path.rpartition("/")[0]
        assert not parent or (tree[parent].kind is Kind.DIRECTORY and parent in seen)
        assert entry.kind is not Kind.HARDLINK or (
            entry.link in seen and tree[entry.link].kind is not Kind.HARDLINK
        )
        seen.add(path)
