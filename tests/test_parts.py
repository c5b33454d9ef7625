"""A root file system's segment is laid together from parts, one for each large layer."""

import dataclasses
import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.stages.pack import Form, without_boot
from linuxkit_rules.stages.parts import LARGE_LAYER, Part, by_layer, tree_digest
from linuxkit_rules.stages.rootfs import Rootfs, below, fit_out, image_tree
from linuxkit_rules.stages.segment import ContainerRootfs
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.pieces import SUFFIX, contents
from tests.bench.images import noise
from tests.contents import whole
from tests.images import tar
from tests.initrds import image, unpacked

PREFIX = "containers/services/app/rootfs"
BASE = noise("base", LARGE_LAYER)
LIBRARY = noise("library", LARGE_LAYER + 1)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def made(engine: Engine, *layers: bytes, **how: Any) -> Descriptor:
    return engine.run(Rootfs(PREFIX, **how), {"image": (image(engine, *layers),)}).output


def stages(engine: Engine, *layers: bytes, **how: Any) -> Counter[str]:
    """Which stages run for such a root file system."""
    events: list[Event] = []
    engine.report = events.append
    made(engine, *layers, **how)
    return Counter(event.stage for event in events if event.how == "run")


def linked() -> bytes:
    """A layer with a large file of two names, a link, and a device."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        file = tarfile.TarInfo("usr/bin/large")
        file.size = len(LIBRARY)
        archive.addfile(file, io.BytesIO(LIBRARY))
        for name, kind, target in (
            ("usr/bin/twin", tarfile.LNKTYPE, "usr/bin/large"),
            ("lib", tarfile.SYMTYPE, "usr/lib"),
            ("dev/null", tarfile.CHRTYPE, ""),
        ):
            item = tarfile.TarInfo(name)
            item.type, item.linkname = kind, target
            archive.addfile(item)
    return out.getvalue()


def test_the_parts_make_the_tree_of_one_archive(engine: Engine) -> None:
    layers = tar(base=BASE, small=b"s"), linked(), tar(**{"boot/vmlinuz": b"k", "usr/bin/app": b"app"})
    tree = without_boot(below(PREFIX, fit_out(image_tree(image(engine, *layers), engine), resolv_link=False)))
    whole_tree = tuple(tree)
    one = engine.run(Part(tree=tree_digest(whole_tree), entries=whole_tree), {}).output
    parted = made(engine, *layers)
    assert parted.media_type.endswith(f"+zstd{SUFFIX}")
    found = unpacked(engine.store, parted)
    assert found == unpacked(engine.store, one)
    assert found[f"{PREFIX}/usr/bin/twin"].link == f"{PREFIX}/usr/bin/large"
    assert found[f"{PREFIX}/usr/bin/large"].content == LIBRARY


def test_directories_and_links_come_before_what_lies_in_them(engine: Engine) -> None:
    tree = fit_out(image_tree(image(engine, linked()), engine), resolv_link=False)
    first, *others = by_layer(list(below(PREFIX, tree))).values()
    assert {entry.kind for part in others for entry in part} == {Kind.FILE, Kind.HARDLINK}
    assert {Kind.DIRECTORY, Kind.SYMLINK, Kind.CHAR} <= {entry.kind for entry in first}


def test_a_small_layer_more_packs_no_large_one(engine: Engine) -> None:
    base, library = tar(base=BASE), tar(library=LIBRARY)
    assert stages(engine, base, library, tar(app=b"1")) == {"unpack": 3, "rootfs": 1, "part": 3}
    assert stages(engine, base, library, tar(app=b"2")) == {"unpack": 1, "rootfs": 1, "part": 1}
    assert stages(engine, base, library, tar(app=b"2"), tar(more=b"m")) == {
        "unpack": 1,
        "rootfs": 1,
        "part": 1,
    }
    assert stages(engine, base, library, tar(app=b"1")) == {}


def test_a_layer_that_hides_some_of_a_large_one_packs_that_anew(engine: Engine) -> None:
    base, library = tar(base=BASE, gone=noise("gone", LARGE_LAYER)), tar(library=LIBRARY)
    made(engine, base, library)
    assert stages(engine, base, library, tar(**{".wh.gone": b""})) == {"unpack": 1, "rootfs": 1, "part": 1}
    found = unpacked(engine.store, made(engine, base, library, tar(**{".wh.gone": b""})))
    assert f"{PREFIX}/base" in found
    assert f"{PREFIX}/gone" not in found


def test_another_place_is_another_part(engine: Engine) -> None:
    made(engine, tar(base=BASE))
    other = engine.run(Rootfs("elsewhere"), {"image": (image(engine, tar(base=BASE)),)}).output
    assert "elsewhere/base" in unpacked(engine.store, other)


def test_all_parts_are_packed_as_their_sum_wants_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linuxkit_rules.formats.compression.LARGE", 2 * LARGE_LAYER)
    parted = contents(engine.store, made(engine, tar(base=BASE), tar(library=LIBRARY)))
    fast = contents(engine.store, made(engine, tar(base=BASE), tar(library=LIBRARY), level=1))
    assert parted == fast
    assert fast != contents(engine.store, made(engine, tar(base=BASE), tar(library=LIBRARY), level=4))


@pytest.mark.parametrize("how", [{"release": True}, {"level": 19}], ids=str)
def test_where_size_counts_there_is_one_archive(engine: Engine, how: dict[str, Any]) -> None:
    assert not made(engine, tar(base=BASE), tar(library=LIBRARY), **how).media_type.endswith(SUFFIX)


def test_a_small_image_and_tar_members_are_not_parted(engine: Engine) -> None:
    assert stages(engine, tar(app=b"1")) == {"unpack": 1, "rootfs": 1}
    assert stages(engine, tar(base=BASE), form=Form.TAR, compression=Compression.NONE) == {
        "unpack": 1,
        "rootfs": 1,
    }


def test_the_largest_layers_are_parts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linuxkit_rules.stages.parts.LARGE_LAYER", 10)
    monkeypatch.setattr("linuxkit_rules.stages.parts.MOST_PARTS", 3)
    layers = [tar(**{f"file-{number}": bytes(20 + number)}) for number in range(5)]
    tree = fit_out(image_tree(image(engine, *layers), engine), resolv_link=False)
    names = [[entry.path for entry in part] for part in by_layer(list(tree.values())).values()]
    assert names[1:] == [["file-2"], ["file-3"], ["file-4"]]
    assert {"file-0", "file-1"} < set(names[0])


def test_a_part_says_which_layer_it_is(engine: Engine) -> None:
    events: list[Event] = []
    engine.report = events.append
    made(engine, tar(base=BASE))
    digest = Digest.of(tar(base=BASE)).hex[:12]
    assert [event.label for event in events if event.stage == "part"] == [PREFIX, f"{PREFIX} {digest}"]


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
def test_every_compression_is_parted(engine: Engine, compression: Compression) -> None:
    found = unpacked(engine.store, made(engine, tar(base=BASE), tar(app=b"1"), compression=compression))
    assert found[f"{PREFIX}/base"].content == BASE


def test_large_parts_begin_at_blocks(engine: Engine) -> None:
    parted = made(engine, tar(base=BASE), compression=Compression.NONE)
    data = whole(engine.store, parted)
    begins = [data.index(piece) for piece in (f"{PREFIX}/base\0".encode(),)]
    assert [(begin - 110) % 4096 for begin in begins] == [0]


def test_bytes_move_only_with_the_versions(engine: Engine) -> None:
    """Where this fails, raise those of both root file systems, and ``Part.version`` where its own moved."""
    parted = made(engine, tar(base=BASE), linked(), compression=Compression.NONE)
    versions = (Part.version, Rootfs.version, ContainerRootfs.version)
    assert (versions, Digest.of(whole(engine.store, parted)).hex[:16]) == ((1, 5, 5), "fd4458f86ab14f27")


def test_what_makes_a_part_is_in_its_digest() -> None:
    entry = Entry("a", Kind.FILE, content=Slice(Digest.of(b""), 0, 1))
    others = [
        dataclasses.replace(entry, **{name: value})
        for name, value in {
            "path": "b",
            "kind": Kind.FIFO,
            "mode": 0o600,
            "uid": 1,
            "gid": 1,
            "mtime": 1,
            "link": "x",
            "major": 1,
            "minor": 1,
            "via": "x",
            "xattrs": (("user.a", b"1"),),
            "content": b"1",
        }.items()
    ]
    others += [
        dataclasses.replace(entry, content=Slice(*place))
        for place in ((Digest.of(b"x"), 0, 1), (Digest.of(b""), 1, 1), (Digest.of(b""), 0, 2))
    ]
    assert {item.name for item in dataclasses.fields(Entry)} == {
        name for other in others for name in vars_changed(entry, other)
    }
    digests = {tree_digest(made) for made in ([], [entry], [entry, entry], *([other] for other in others))}
    assert len(digests) == len(others) + 3


def vars_changed(one: Entry, other: Entry) -> list[str]:
    return [
        item.name
        for item in dataclasses.fields(Entry)
        if getattr(one, item.name) != getattr(other, item.name)
    ]
