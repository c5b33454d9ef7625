"""From layers to an initrd: the stages unpack, rootfs and join."""

import dataclasses
import gzip
import io
import lzma
import re
import subprocess
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import zstandard

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import ImageError, StoreError
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.compression import LARGE, Compression
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.stages.join import INITRD, Join
from linuxkit_rules.stages.pack import FIXED_TIME, pack
from linuxkit_rules.stages.rootfs import Rootfs, fit_out
from linuxkit_rules.stages.stage import Engine, Event, Stage, key
from linuxkit_rules.stages.unpack import LAYER_INDEX, Unpack, load
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.pieces import SUFFIX
from tests.contents import whole
from tests.hostile.headers import archive, block
from tests.hostile.resources import ATTRIBUTES
from tests.images import tar
from tests.initrds import archives, image, unpacked


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def layer_of(tree: Path) -> bytes:
    command = [
        "tar",
        "--sort=name",
        "--mtime=@1577934245",
        "--owner=0",
        "--group=0",
        "-cf",
        "-",
        "-C",
        str(tree),
        ".",
    ]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("how", [bytes, gzip.compress, zstandard.compress, lzma.compress])
def test_a_layer_is_unpacked_and_indexed(engine: Engine, how: type) -> None:
    plain = tar(a=b"hello", b=b"")
    layer = engine.store.put(how(plain))
    result = engine.run(Unpack(Digest.of(plain)), {"layer": (layer,)})
    assert result.output.media_type == LAYER_INDEX
    assert [item.digest for item in result.refers] == [Digest.of(plain)]
    first, second = load(engine.store, result.output)
    assert (first.path, second.path, second.content) == ("a", "b", b"")
    assert isinstance(first.content, Slice)
    out = io.BytesIO()
    engine.store.copy(first.content, out)
    assert out.getvalue() == b"hello"


def test_a_plain_layer_is_not_copied(engine: Engine) -> None:
    layer = engine.store.put(tar(a=b"x"))
    before = sorted(engine.store.root.glob("blobs/sha256/*"))
    result = engine.run(Unpack(), {"layer": (layer,)})
    assert result.refers[0].digest == layer.digest
    new = set(engine.store.root.glob("blobs/sha256/*")) - set(before)
    assert new == {engine.store.path(result.output.digest)}


def test_the_index_keeps_everything(engine: Engine) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as file:
        for name, kind in (("d/", b"5"), ("d/s", b"2"), ("n", b"3"), ("h", b"1"), ("é\udcff", b"0")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode, info.uid, info.mtime = kind, "d/s", 0o4711, 99, -3
            info.devmajor, info.devminor = (1, 3) if kind == b"3" else (0, 0)
            info.pax_headers = {"SCHILY.xattr.user.a": "\udcff=", "SCHILY.xattr.user.0": "x"}
            file.addfile(info)
    index = engine.run(Unpack(), {"layer": (engine.store.put(out.getvalue()),)}).output
    found = load(engine.store, index)
    assert [(item.path, item.kind, item.link, item.minor) for item in found] == [
        ("d", Kind.DIRECTORY, "", 0),
        ("d/s", Kind.SYMLINK, "d/s", 0),
        ("n", Kind.CHAR, "", 3),
        ("h", Kind.HARDLINK, "d/s", 0),
        ("é\udcff", Kind.FILE, "", 0),
    ]
    assert {(item.mode, item.uid, item.mtime, item.xattrs) for item in found} == {
        (0o4711, 99, -3, (("user.0", b"x"), ("user.a", b"\xff=")))
    }


def test_attributes_are_in_memory_once(engine: Engine) -> None:
    """20 MB of them, in an archive that packs to a few kB; the index, in hex, is twice as long."""
    layer = engine.store.put(archive(*[ATTRIBUTES, block()] * 20))
    tracemalloc.start()
    try:
        index = engine.run(Unpack(), {"layer": (layer,)}).output
        _, unpacking = tracemalloc.get_traced_memory()
        found = load(engine.store, index)
        _, loading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = sum(len(value) for entry in found for _, value in entry.xattrs)
    assert size == 20 * 15 * 65_000
    assert index.size > 2 * size
    assert unpacking < size / 2
    assert loading < 1.6 * size


@pytest.mark.parametrize("how", [bytes, gzip.compress])
def test_a_layer_with_another_diff_id_is_refused(engine: Engine, how: type) -> None:
    layer = engine.store.put(how(tar(a=b"hello")))
    with pytest.raises(ImageError, match="was expected") as caught:
        engine.run(Unpack(Digest.of(b"other")), {"layer": (layer,)})
    assert str(layer.digest) in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"no tar" * 200, gzip.compress(tar(a=b"x" * 5000))[:-9], zstandard.compress(b"no tar" * 200)]
)
def test_a_damaged_layer_is_refused(engine: Engine, data: bytes) -> None:
    with pytest.raises(ImageError, match="layer sha256:"):
        engine.run(Unpack(), {"layer": (engine.store.put(data),)})


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP, Compression.ZSTD])
def test_a_segment_is_aligned_and_says_its_compression(engine: Engine, compression: Compression) -> None:
    entries = [Entry("a", Kind.FILE, content=b"hello")]
    segment = pack(entries, engine.store, compression)
    assert segment.size % 4 == 0
    assert segment.media_type == f"application/vnd.linuxkit-rules.segment.v1{compression.suffix}"
    assert unpacked(engine.store, segment)["a"].content == b"hello"


def test_a_segment_of_a_missing_layer_is_an_error(engine: Engine) -> None:
    entry = Entry("a", Kind.FILE, content=Slice(Digest.of(b"gone"), 0, 4))
    with pytest.raises(StoreError):
        pack([entry], engine.store)
    short = Entry("a", Kind.FILE, content=Slice(engine.store.put(b"abc").digest, 1, 4))
    with pytest.raises(StoreError, match="too early"):
        pack([short], engine.store)


def test_an_initrd_is_its_segments_in_order(engine: Engine) -> None:
    files = [Entry("same", Kind.FILE, content=bytes([number]) * 5) for number in range(3)]
    forms = (Compression.NONE, Compression.GZIP, Compression.ZSTD)
    segments = [pack([entry], engine.store, form) for entry, form in zip(files, forms, strict=True)]
    odd = engine.store.put(engine.store.read(segments[0].digest) + b"\0")
    initrd = engine.run(Join(), {"segment": (*segments, odd, segments[1])}).output
    data = whole(engine.store, initrd)
    assert (initrd.media_type, len(data) % 4) == (INITRD + SUFFIX, 0)
    parts = [next(iter(cpio.read(io.BytesIO(part)))).content for part in archives(data)]
    assert parts == [files[number].content for number in (0, 1, 2, 0, 1)]


def test_large_segments_begin_at_blocks(engine: Engine) -> None:
    small, large = (engine.store.put(byte * size) for byte, size in ((b"s", 10), (b"L", 100_000)))
    data = whole(engine.store, engine.run(Join(), {"segment": (small, small, large, small, large)}).output)
    assert len(data) % 4 == 0
    assert [found.start() for found in re.finditer(b"s+|L+", data)] == [0, 12, 4096, 104_096, 106_496]


def test_a_container_keeps_its_tree_below_the_prefix(engine: Engine, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "app").write_bytes(b"x" * 3000)
    (tree / "bin" / "app").chmod(0o755)
    (tree / "bin" / "twin").hardlink_to(tree / "bin" / "app")
    (tree / "lib").symlink_to("/bin")
    tree.chmod(0o711)
    prefix = "containers/services/redis/rootfs"
    manifest = image(engine, layer_of(tree), tar(**{"bin/.wh.none": b"", "new/file": b"1"}))
    segment = engine.run(Rootfs(prefix), {"image": (manifest,)}).output
    found = unpacked(engine.store, segment)
    for path in ("containers", "containers/services", "containers/services/redis"):
        assert found[path] == Entry(path, Kind.DIRECTORY, 0o755, mtime=FIXED_TIME)
    assert (found[prefix].mode, found[prefix].mtime) == (0o711, 1577934245)
    assert found[f"{prefix}/bin/app"].content == b"x" * 3000
    assert (found[f"{prefix}/bin/twin"].kind, found[f"{prefix}/bin/twin"].link) == (
        Kind.HARDLINK,
        f"{prefix}/bin/app",
    )
    assert found[f"{prefix}/lib"].link == "/bin"
    assert found[f"{prefix}/new/file"].content == b"1"
    assert found[f"{prefix}/etc/resolv.conf"].content == b"\n# no resolv.conf configured\n"
    assert all(path == prefix or path.startswith(f"{prefix}/") or prefix.startswith(path) for path in found)


def test_an_init_image_is_at_the_root(engine: Engine) -> None:
    segment = engine.run(Rootfs(resolv_link=True), {"image": (image(engine, tar(init=b"#!")),)}).output
    found = unpacked(engine.store, segment)
    assert found["init"].content == b"#!"
    assert found["etc/resolv.conf"].link == "/run/resolvconf/resolv.conf"
    assert "" not in found


def sound(path: str, kind: Kind = Kind.FILE, **fields: Any) -> dict[str, Entry]:
    return {path: Entry(path, kind, mtime=7, **fields)}


def test_every_tree_is_fitted_out() -> None:
    fitted = fit_out({}, resolv_link=False)
    folders = {path: entry for path, entry in fitted.items() if entry.kind is Kind.DIRECTORY}
    assert list(folders) == ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"]
    assert {(entry.mode, entry.uid, entry.mtime) for entry in folders.values()} == {(0o755, 0, FIXED_TIME)}
    assert Digest.of(bytes(fitted["etc/hosts"].content)).hex.startswith("43037ff87af87fda")  # type: ignore[arg-type]
    assert (fitted["etc/mtab"].kind, fitted["etc/mtab"].link) == (Kind.SYMLINK, "/proc/mounts")
    assert list(fitted) == sorted(fitted, key=lambda path: path.split("/"))


def test_what_an_image_has_is_replaced_or_dropped() -> None:
    tree = (
        sound("etc", Kind.DIRECTORY, mode=0o700, uid=9)
        | sound("etc/hosts", uid=1)
        | sound("etc/mtab", mode=0o600)
    )
    tree |= (
        sound(".dockerenv") | sound("Dockerfile") | sound("dev/console", Kind.CHAR) | sound("etc/hostname")
    )
    tree |= sound("sub/Dockerfile") | sound("etc/resolv.conf", Kind.SYMLINK) | sound("dev/null", Kind.CHAR)
    fitted = fit_out(tree, resolv_link=True)
    assert set(tree) - set(fitted) == {".dockerenv", "Dockerfile", "dev/console", "etc/hostname"}
    assert (fitted["etc"].mode, fitted["etc"].uid) == (0o755, 0)
    assert (fitted["etc/hosts"].uid, fitted["etc/hosts"].mtime) == (0, FIXED_TIME)
    assert fitted["etc/mtab"] == dataclasses.replace(tree["etc/mtab"], mtime=FIXED_TIME)
    assert fitted["dev/null"] == tree["dev/null"]


def test_links_to_what_is_replaced_keep_the_file() -> None:
    tree = {
        "Dockerfile": Entry("Dockerfile", Kind.FILE, content=b"FROM x"),
        "z": Entry("z", Kind.HARDLINK, link="Dockerfile"),
    }
    assert fit_out(tree, resolv_link=False)["z"] == Entry("z", Kind.FILE, content=b"FROM x")


def test_a_link_in_place_of_a_needed_directory_gives_way() -> None:
    fitted = fit_out(sound("etc", Kind.SYMLINK) | sound("usr/etc/x"), resolv_link=False)
    assert fitted["etc"].kind is Kind.DIRECTORY


def test_a_changed_layer_reruns_only_what_it_must(engine: Engine) -> None:
    base, one, two = tar(base=b"b"), tar(a=b"1"), tar(a=b"2")
    engine.run(Rootfs("c"), {"image": (image(engine, base, one),)})
    events: list[Event] = []
    engine.report = events.append
    engine.run(Rootfs("c"), {"image": (image(engine, base, two),)})
    done = sorted((event.how, event.stage) for event in events)
    assert done == [("hit", "unpack"), ("run", "rootfs"), ("run", "unpack")]


def test_what_decides_bytes_is_in_the_key() -> None:
    stages: list[Stage] = [
        Rootfs("a"),
        Rootfs("b"),
        Rootfs("a", resolv_link=True),
        Rootfs("a", compression=Compression.GZIP),
        Rootfs("a", level=9),
    ]
    assert len({key(stage, {}) for stage in stages}) == len(stages)
    assert key(Rootfs("a", level=19), {}) == key(Rootfs("a", release=True), {})
    assert Rootfs("a").parameters()["compressor"] == {"zstd": [[4, LARGE, 1], Compression.ZSTD.version]}
    assert Rootfs("a", level=4).parameters()["compressor"] == {"zstd": [4, Compression.ZSTD.version]}
    ruled = Rootfs("a", compression=None, release=True).parameters()["compressor"]
    assert ruled == {"zstd": [19, Compression.ZSTD.version], "gzip": [9, Compression.GZIP.version]}


def test_a_large_segment_is_packed_fast_unless_somebody_says_how(engine: Engine) -> None:
    half = engine.store.put(bytes(range(256)) * (LARGE >> 9))
    files = [Entry(name, Kind.FILE, content=Slice(half.digest, 0, half.size)) for name in ("a", "b")]
    store, zstd = engine.store, Compression.ZSTD
    assert pack(files[:1], store) == pack(files[:1], store, zstd, 4) != pack(files[:1], store, zstd, 1)
    assert pack(files, store) == pack(files, store, zstd, 1) != pack(files, store, zstd, 4)


def test_two_stores_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        work = Engine(Store(tmp_path / name))
        made.append(work.run(Rootfs("x"), {"image": (image(work, tar(b=b"1", a=b"2")),)}).output)
    assert made[0] == made[1]


def test_an_unsound_image_is_named(engine: Engine) -> None:
    manifest = image(engine, tar(**{"f": b"", "f/x": b""}))
    with pytest.raises(ImageError, match="no directory") as caught:
        engine.run(Rootfs(), {"image": (manifest,)})
    assert str(manifest.digest) in str(caught.value)
