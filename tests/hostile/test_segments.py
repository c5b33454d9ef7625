"""What a hostile image becomes in the initramfs: nothing outside its own folder, and nothing through links.

The kernel unpacks each record where its path leads, links among the parents followed.  It puts a directory in
a link's place where a record says so (init/initramfs.c, clean_path).  So a segment must have a record for
each directory on the way to a path of its own, before it.
"""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import FormatError, ImageError, LinuxKitError
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.limits import Limits
from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.plan.graph import realise
from linuxkit_rules.plan.image import Parts, plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.stages.pack import pack
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.hostile.headers import archive, block, member
from tests.hostile.links import folder, hard, soft
from tests.images import Blobs, tar

YML = """\
kernel: {image: test/kernel:1}
init: [test/init:1, test/init:2]
volumes:
  - {name: data, image: test/evil:1}
onboot:
  - {name: first, image: test/evil:1}
services:
  - {name: a, image: test/evil:2, readonly: true}
  - {name: b, image: test/evil:3}
files:
  - {path: containers/services/a/rootfs/etc/passwd, contents: ours}
  - {path: containers/services/b/lower/link/x, contents: ours}
"""
LINKS = [
    soft(b"etc", b"/etc"),
    soft(b"dev", b"/dev"),
    soft(b"proc", b"../../../.."),
    soft(b"link", b"/"),
    member(b"link/through", b"1"),
    soft(b"rootfs", b"/"),
    soft(b"up", b"../../../../srv"),
    member(b"up/shadow", b"evil"),
    hard(b"up/twin", b"up/shadow"),
]
EVIL = [
    archive(*LINKS),
    archive(folder(b"."), soft(b"config.json", b"/etc/passwd"), soft(b"lower", b"/"), soft(b"etc", b"/etc")),
    archive(
        folder(b"."), soft(b"link", b"/etc"), soft(b"dev", b"/"), soft(b"sys", b"/"), hard(b"h", b"link")
    ),
]


def project(root: Path, evil: list[bytes], yml: str = YML, init: bytes = b"") -> Parts:
    """Plan an image of hostile images, out of a layout."""
    blobs = Blobs()
    kernel = tar(**{"kernel": b"KERNEL", "kernel.tar": tar(**{"lib/modules/1/modules.order": b""})})
    images = {f"evil:{number}": layer for number, layer in enumerate(evil, 1)}
    images |= {"kernel:1": kernel, "init:1": init or tar(init=b"#!/bin/sh\n"), "init:2": tar(other=b"1")}
    named = [(blobs.image([layer]), {REF_NAME: f"docker.io/test/{name}"}) for name, layer in images.items()]
    for name, data in blobs.files(*named).items():
        (root / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "layout" / name).write_bytes(data)
    (root / "evil.yml").write_text(yml)
    settings = Settings(compression=Compression.NONE, level=0, layouts=(root / "layout",))
    return plan({"evil.yml": root / "evil.yml"}, "evil", settings)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def entries(engine: Engine, segment: Descriptor) -> list[Entry]:
    return list(cpio.read(io.BytesIO(engine.store.read(segment.digest))))


def test_no_segment_writes_through_a_link_or_out_of_its_folder(
    tmp_path: Path, engine: Engine, count: Callable[..., None]
) -> None:
    parts = project(tmp_path, EVIL)
    found = {step.name: entries(engine, realise(step, engine).output) for step in parts.segments}
    for name, records in found.items():
        seen: dict[str, Kind] = {"": Kind.DIRECTORY}
        for entry in records:
            way = entry.path.split("/")
            above = ["/".join(way[:length]) for length in range(1, len(way))]
            assert all(seen.get(path) is Kind.DIRECTORY for path in above), (name, entry.path)
            assert entry.path not in seen or not entry.path, (name, entry.path)
            seen[entry.path] = entry.kind
            if name.startswith(("services/", "onboot/", "volumes/")):
                own = f"containers/{name.rpartition('/')[0]}"
                assert entry.path == own or entry.path.startswith(own + "/") or own.startswith(entry.path)
            count("records of hostile images looked at")
    assert len(found["services/a/rootfs"]) > 10


def test_what_the_system_mounts_is_a_directory_whatever_the_image_has(tmp_path: Path, engine: Engine) -> None:
    """The class of CVE-2026-41579 (runc): an image whose /dev is a link."""
    parts = project(tmp_path, EVIL)
    (step,) = (step for step in parts.segments if step.name == "onboot/000-first/rootfs")
    kinds = {entry.path: entry.kind for entry in entries(engine, realise(step, engine).output)}
    base = next(path for path in kinds if path.endswith("/lower"))
    for name in ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys"):
        assert kinds[f"{base}/{name}"] is Kind.DIRECTORY
    assert kinds[f"{base}/link"] is Kind.SYMLINK


BAD = archive(member(b"../x"))
CALLERS = {
    "an init image": "init: [test/evil:1]\n",
    "two init images": "init: [test/init:1, test/evil:1]\n",
    "an onboot container": "onboot: [{name: a, image: test/evil:1}]\n",
    "a service": "services: [{name: a, image: test/evil:1}]\n",
    "a volume": "volumes: [{name: a, image: test/evil:1}]\n",
    "a kernel": "kernel: {image: test/evil:1}\n",
}


@pytest.mark.parametrize("caller", CALLERS)
def test_every_stage_names_image_layer_and_entry(caller: str, tmp_path: Path, engine: Engine) -> None:
    parts = project(tmp_path, [BAD], CALLERS[caller])
    steps = [*parts.segments, *([parts.kernel] if parts.kernel else [])]
    told = []
    for step in steps:
        try:
            realise(step, engine)
        except LinuxKitError as error:
            told.append(str(error))
    assert told
    for message in told:
        assert "evil.yml" in message or caller == "two init images"
        assert "test/evil:1: layer sha256:" in message
        assert "entry '../x': a name that leads out of the archive" in message


def test_a_bad_archive_of_modules_is_named(tmp_path: Path, engine: Engine) -> None:
    parts = project(tmp_path, [tar(**{"kernel": b"K", "kernel.tar": BAD})], "kernel: {image: test/evil:1}\n")
    (step,) = (step for step in parts.segments if step.name == "kernel/modules")
    with pytest.raises(ImageError, match=r"test/evil:1: /kernel.tar: layer sha256:\w+: entry '../x': a name"):
        realise(step, engine)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (archive(member(b"TRAILER!!!")), "no name for a member of a cpio archive"),
        (archive(block(b"a/" * 50, b"5"), *[soft(b"l%d" % n, b"a/" * 50) for n in range(2)]), ""),
    ],
)
def test_what_no_initramfs_can_hold_is_refused_by_the_image_s_name(
    layer: bytes, why: str, tmp_path: Path, engine: Engine
) -> None:
    parts = project(tmp_path, [layer], "init: [test/evil:1]\n")
    (step,) = (step for step in parts.segments if step.name == "init/000/rootfs")
    if not why:
        assert realise(step, engine).output.size
        return
    with pytest.raises(FormatError, match=rf"test/evil:1: TRAILER!!!: {why}"):
        realise(step, engine)


@pytest.mark.parametrize(
    "entry",
    [
        Entry("TRAILER!!!", Kind.FILE),
        Entry("a\0b", Kind.FILE),
        Entry("a" * 4096, Kind.FILE),
        Entry("a", Kind.FILE, uid=2**32),
        Entry("a", Kind.CHAR, major=2**32),
        Entry(
            "a",
            Kind.FILE,
            content=Slice(
                Descriptor.from_json({"mediaType": "a", "digest": "sha256:" + "0" * 64, "size": 0}).digest,
                0,
                2**32,
            ),
        ),
        Entry("a", Kind.HARDLINK, link="none"),
    ],
    ids=["trailer", "NUL", "long", "owner", "device", "4 GiB", "link"],
)
def test_what_newc_cannot_say_is_refused(entry: Entry, engine: Engine) -> None:
    with pytest.raises(FormatError):
        pack([entry], engine.store, Compression.NONE)


def test_names_and_numbers_at_the_edge_are_kept(engine: Engine) -> None:
    edge = [
        Entry("a" * 4095, Kind.FILE),
        Entry("d", Kind.DIRECTORY, uid=2**32 - 2, gid=2**32 - 2),
        Entry("d/TRAILER!!!", Kind.FILE, content=b"1"),
        Entry("n", Kind.CHAR, major=2**32 - 1, minor=2**32 - 1),
    ]
    segment = pack(edge, engine.store, Compression.NONE)
    assert [(entry.path, entry.uid, entry.major) for entry in entries(engine, segment)] == [
        (entry.path, entry.uid, entry.major) for entry in edge
    ]


def test_an_image_is_looked_at_again_under_stricter_limits(tmp_path: Path) -> None:
    parts = project(tmp_path, [archive(member(b"a"), member(b"b"), member(b"c"))], "init: [test/evil:1]\n")
    (step,) = (step for step in parts.segments if step.name == "init/000/rootfs")
    store = Store(tmp_path / "store")
    wide = realise(step, Engine(store)).output
    with pytest.raises(ImageError, match="3 members, more than the 2 allowed"):
        realise(step, Engine(store, limits=Limits(entries=2)))
    assert realise(step, Engine(store, limits=Limits(entries=3))).output == wide
    events: list[str] = []
    realise(step, Engine(store, lambda event: events.append(event.how)))
    assert set(events) == {"hit"}
