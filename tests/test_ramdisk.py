"""Segments are compressed as the kernel can unpack them, whatever kind of kernel image says so."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.debian.lock import LIBRARY_LOCK, load_lock
from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError, ImageError
from linuxkit_rules.formats import kconfig
from linuxkit_rules.formats.compression import Compression, sniff
from linuxkit_rules.oci.image import save
from linuxkit_rules.plan.graph import realise
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.spec.component import load_component
from linuxkit_rules.stages.component import ComponentImage
from linuxkit_rules.stages.files import Files
from linuxkit_rules.stages.pack import PackingStage
from linuxkit_rules.stages.ramdisk import RamdiskSupport
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.stages.support import chosen, load
from linuxkit_rules.store.blobs import Store
from tests.images import tar
from tests.project import Project
from tests.test_vmlinuz import PACKERS, bzimage, zboot

BOTH = b"#\n# Automatically generated\n#\nCONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\nCONFIG_X=m\n"
GZIP_ONLY = b"CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n"
NEITHER = b"# CONFIG_RD_GZIP is not set\nCONFIG_RD_XZ=y\nCONFIG_RD_ZSTD_X=y\n"
ZSTD, GZIP, NONE = Compression.ZSTD, Compression.GZIP, Compression.NONE


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def ikconfig(config: bytes) -> bytes:
    """A plain kernel that carries its configuration, as kernel/configs.c of Linux has it."""
    return b"\x7fELF" + bytes(70_000) + b"IKCFG_ST" + gzip.compress(config) + b"IKCFG_ED" + bytes(3000)


def image(engine: Engine, **files: bytes) -> Descriptor:
    layer = engine.store.put(tar(**files))
    rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    return save(engine.store, json.dumps(config).encode(), (layer,)).output


def support(engine: Engine, member: str = "kernel", **files: bytes) -> frozenset[Compression] | None:
    given = {"image": [image(engine, **files)]}
    return load(engine.store, engine.run(RamdiskSupport(member), given).output)


@pytest.mark.parametrize(
    ("config", "known"), [(BOTH, {ZSTD, GZIP}), (GZIP_ONLY, {GZIP}), (NEITHER, set()), (b"\xff\0", set())]
)
@pytest.mark.parametrize(
    "path",
    [
        "kernel.config",
        "boot/config",
        "boot/config-6.1.0-9",
        "lib/modules/6/config",
        "usr/lib/modules/6/config",
    ],
)
def test_a_configuration_beside_the_kernel_is_read(
    engine: Engine, path: str, config: bytes, known: set[Compression]
) -> None:
    assert support(engine, kernel=b"", **{path: config}) == known


WRAPPED = {
    "raw": lambda kernel: kernel,
    "Image.gz": PACKERS["gzip"],
    **{f"bzImage {name}": lambda kernel, pack=pack: bzimage(pack(kernel)) for name, pack in PACKERS.items()},
    "zboot": lambda kernel: zboot(PACKERS["gzip"](kernel)),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_configuration_inside_the_kernel_is_found(engine: Engine, wrapped: str) -> None:
    assert support(engine, kernel=WRAPPED[wrapped](ikconfig(BOTH))) == {ZSTD, GZIP}
    assert support(engine, "boot/Image", **{"boot/Image": WRAPPED[wrapped](ikconfig(GZIP_ONLY))}) == {GZIP}


@pytest.mark.parametrize("size", [1, 7, 100, 70_000])
def test_the_mark_is_found_across_pieces(size: int) -> None:
    kernel = ikconfig(BOTH)
    assert kconfig.embedded(kernel[at : at + size] for at in range(0, len(kernel), size)) == BOTH


UNKNOWN = {
    "nothing": b"",
    "no kernel": b"KERNEL",
    "no mark": bzimage(PACKERS["gzip"](b"\x7fELF" + bytes(5000))),
    "no end": ikconfig(BOTH).replace(b"IKCFG_ED", b"") + bytes(2 << 20),
    "damaged": ikconfig(BOTH).replace(b"IKCFG_ED", b"xIKCFG_ED").replace(gzip.compress(BOTH)[-12:], b"", 1),
    "a bomb": b"IKCFG_ST" + zlib.compress(bytes(17 << 20), 9, 31) + b"IKCFG_ED",
}


@pytest.mark.parametrize("kernel", UNKNOWN)
def test_where_there_is_no_configuration_it_is_not_known(engine: Engine, kernel: str) -> None:
    assert support(engine, kernel=UNKNOWN[kernel]) is None
    assert support(engine, "other", kernel=b"") is None


def test_a_configuration_of_too_many_bytes_is_refused() -> None:
    with pytest.raises(FormatError, match="of more than 16777216 bytes"):
        kconfig.embedded([UNKNOWN["a bomb"]])


def test_of_several_kernels_configurations_none_counts_but_the_kernels_own(engine: Engine) -> None:
    beside = {"boot/config-1": BOTH, "boot/config-2": GZIP_ONLY}
    assert support(engine, kernel=b"", **beside) is None
    assert support(engine, kernel=ikconfig(GZIP_ONLY), **beside) == {GZIP}


@pytest.mark.parametrize(
    ("known", "best"), [(None, GZIP), ({ZSTD, GZIP}, ZSTD), ({ZSTD}, ZSTD), ({GZIP}, GZIP), (set(), NONE)]
)
def test_the_best_that_the_kernel_unpacks_is_taken(known: set[Compression] | None, best: Compression) -> None:
    assert chosen(None, known if known is None else frozenset(known)) is best


def test_what_the_kernel_cannot_unpack_is_refused() -> None:
    assert chosen(ZSTD, None) is ZSTD
    assert chosen(NONE, frozenset()) is NONE
    with pytest.raises(ImageError, match=r"cannot unpack zstd: CONFIG_RD_ZSTD is not set .*auto"):
        chosen(ZSTD, frozenset({GZIP}))


def test_a_segment_is_packed_so(engine: Engine) -> None:
    stage = Files(items=(), compression=None)
    for known, suffix in (("null", "+gzip"), ('["gzip","zstd"]', "+zstd"), ("[]", "")):
        given = {"support": [engine.store.put(known.encode())]}
        assert engine.run(stage, given).output.media_type.endswith(f"v1{suffix}")
    assert engine.run(stage, {}).output.media_type.endswith("+gzip")


def packed(project: Project, engine: Engine, settings: Settings) -> list[Compression]:
    parts = plan({"tiny.yml": project.root / "tiny.yml"}, "tiny", settings)
    outputs = [realise(step, engine).output for step in parts.segments]
    assert all(isinstance(step.stage, PackingStage) for step in parts.segments)
    return [sniff(engine.store.read(output.digest)[:6]) for output in outputs]


@pytest.mark.parametrize(("config", "way"), [(BOTH, ZSTD), (GZIP_ONLY, GZIP), (NEITHER, NONE), (None, GZIP)])
def test_every_segment_of_an_image_is_packed_so(
    tmp_path: Path, engine: Engine, config: bytes | None, way: Compression, count: Callable[..., None]
) -> None:
    kernel = b"KERNEL" if config is None else ikconfig(config)
    project = Project.make(tmp_path / "project", kernel=kernel)
    settings = Settings(layouts=(project.root / "layout",))
    found = packed(project, engine, settings)
    assert set(found) == {way}
    assert len(found) >= 6
    count("segments compressed as the kernel unpacks them", len(found))


def test_a_changed_kernel_that_unpacks_the_same_packs_nothing_again(tmp_path: Path) -> None:
    for number, kernel in enumerate((ikconfig(BOTH), ikconfig(BOTH) + b"another")):
        project = Project.make(tmp_path / "project", kernel=kernel)
        project.scons()
        assert (project.ran().count("container-rootfs"), project.ran().count("ramdisk-support")) == (
            1 - number,
            1,
        )


def test_what_was_asked_for_and_cannot_be_unpacked_ends_the_build(tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", kernel=ikconfig(GZIP_ONLY))
    said = project.scons(check=False, LINUXKIT_COMPRESSION="zstd:3")
    assert "tiny.yml:" in said
    assert "the kernel cannot unpack zstd: CONFIG_RD_ZSTD is not set in it" in said
    assert "LINUXKIT_COMPRESSION=auto takes what it can" in said
    project.scons(LINUXKIT_COMPRESSION="gzip")


@pytest.mark.parametrize("config", [BOTH, GZIP_ONLY])
def test_a_release_is_smaller_and_its_segments_are_kept(tmp_path: Path, config: bytes) -> None:
    program = b"".join(b"%d times %d" % (number, number * number) for number in range(30))
    project = Project.make(tmp_path / "project", kernel=ikconfig(config), program=program)
    initrd = project.root / "out" / "tiny-initrd.img"
    project.scons()
    fast = initrd.stat().st_size
    project.scons(LINUXKIT_COMPRESSION="release")
    assert initrd.stat().st_size < fast
    assert "container-rootfs" in project.ran()
    project.scons()
    project.scons(LINUXKIT_COMPRESSION="release")
    assert project.ran() == []


@pytest.mark.network
def test_debians_kernel_says_that_it_unpacks_zstd(tmp_path: Path) -> None:
    engine = Engine(Store(tmp_path))
    component = load_component(LIBRARY_LOCK.parent / "pkg/kernel/build.yml")
    stage = ComponentImage(component, load_lock(LIBRARY_LOCK).pins(component, "amd64"), "amd64")
    given = {"image": [engine.run(stage, {}).output]}
    assert load(engine.store, engine.run(RamdiskSupport(), given).output) == {ZSTD, GZIP}


def test_bytes_move_only_with_the_stages_version(engine: Engine) -> None:
    given = {"image": [image(engine, kernel=ikconfig(BOTH))]}
    output = engine.run(RamdiskSupport(), given).output
    assert (RamdiskSupport.version, output.digest) == (2, Digest.of(b'["zstd","gzip"]'))
