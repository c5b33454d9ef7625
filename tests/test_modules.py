import io
import json
import lzma
import tarfile
from pathlib import Path

import pytest

from linuxkit_rules.debian.lock import LIBRARY_LOCK, Pin, load_lock
from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError, PackageError
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.formats.entry import Entry
from linuxkit_rules.oci.image import save
from linuxkit_rules.spec.component import load_component, parse_component
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.component import ComponentImage
from linuxkit_rules.stages.kernel import Kernel
from linuxkit_rules.stages.modules import Modules
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.debs import deb, entries, kernel_module, tar_of

BASE = "usr/lib/modules/6.1"
PLACED = "lib/modules/6.1"
"""Where they go to without an init image whose lib is a link."""
FILES: dict[str, bytes | str] = {
    "boot/vmlinuz-6.1": b"the kernel",
    "boot/config-6.1": b"",
    f"{BASE}/build": "/usr/src/x",
    f"{BASE}/modules.builtin": b"kernel/fs/ext4.ko\n",
    f"{BASE}/modules.order": b"kernel/net/a.ko\n",
    f"{BASE}/kernel/net/a.ko": kernel_module(
        "alias=pci:a*", "depends=b-b", "softdep=pre: s-alias post: gone", "name=a"
    ),
    f"{BASE}/kernel/net/b-b.ko.xz": lzma.compress(kernel_module("depends=c", "alias=b")),
    f"{BASE}/kernel/net/c.ko": kernel_module("depends="),
    f"{BASE}/kernel/lib/s_one.ko": kernel_module("alias=s-alias", "depends=ext4"),
    f"{BASE}/kernel/lib/unused.ko": kernel_module("depends="),
    f"{BASE}/kernel/lib/torn.ko": kernel_module("depends=nowhere"),
}
KERNEL = "image: k\npackages: [linux-image-6.1]\nkernel: {package: 'linux-image-*'}\n"


def _image(engine: Engine, files: dict[str, bytes | str] = FILES) -> Descriptor:
    data = deb(files)
    engine.store.put(data)
    pin = Pin("linux-image-6.1", "1", "amd64", "pool/x.deb", len(data), Digest.of(data))
    component = parse_component(KERNEL, "build.yml")
    return engine.run(ComponentImage(component, (pin,), "amd64"), {}).output


def _plain_image(engine: Engine, *layers: dict[str, bytes | str]) -> Descriptor:
    stored = tuple(engine.store.put(tar_of(entries(layer))) for layer in layers)
    rootfs = {"type": "layers", "diff_ids": [str(item.digest) for item in stored]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    return save(engine.store, json.dumps(config).encode(), stored).output


def _segment(
    engine: Engine, image: Descriptor, roots: tuple[str, ...] | None, **more: list[Descriptor]
) -> dict[str, Entry]:
    stage = Modules(roots=roots, compression=Compression.NONE)
    blob = engine.run(stage, {"image": [image], **more}).output
    with engine.store.open(blob.digest) as file:
        return {item.path: item for item in cpio.read(file, blob.digest)}


def _text(engine: Engine, entry: Entry) -> str:
    path = engine.store.root / "text"
    with path.open("wb") as out:
        engine.store.copy(entry.content, out)
    return path.read_text()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path), access=Access(offline=True))


def _names(tree: dict[str, Entry]) -> list[str]:
    return [path.removeprefix(f"{PLACED}/kernel/") for path in tree if path.endswith((".ko", ".xz"))]


def test_modules_come_with_what_they_need_and_nothing_else(engine: Engine) -> None:
    tree = _segment(engine, _image(engine), ("a", "ext4"))
    assert _names(tree) == ["lib/s_one.ko", "net/a.ko", "net/b-b.ko", "net/c.ko"]
    assert f"{PLACED}/build" not in tree
    assert _text(engine, tree[f"{PLACED}/modules.dep"]) == (
        "kernel/lib/s_one.ko:\n"
        "kernel/net/a.ko: kernel/net/b-b.ko kernel/net/c.ko\n"
        "kernel/net/b-b.ko: kernel/net/c.ko\n"
        "kernel/net/c.ko:\n"
    )
    assert "\nalias pci:a* a\nalias b b_b\n" in _text(engine, tree[f"{PLACED}/modules.alias"])
    assert _text(engine, tree[f"{PLACED}/modules.softdep"]).endswith("\nsoftdep a pre: s-alias post: gone\n")
    assert _text(engine, tree[f"{PLACED}/modules.builtin"]) == "kernel/fs/ext4.ko\n"
    assert _text(engine, tree["etc/modules-load.d/linuxkit.conf"]) == "a\n"


def test_the_version_moves_with_the_bytes(engine: Engine) -> None:
    stage = Modules(roots=("a",), compression=Compression.NONE)
    image = _image(engine)
    digests = [item.digest.hex[:16] for item in (image, engine.run(stage, {"image": [image]}).output)]
    assert (ComponentImage.version, Modules.version, digests) == (
        2,
        5,
        ["cda073a7029a476b", "9945ae9e702ebc70"],
    )


def test_a_packed_module_is_unpacked_and_dashes_do_not_matter(engine: Engine) -> None:
    tree = _segment(engine, _image(engine), ("b-b",))
    size = tree[f"{PLACED}/kernel/net/b-b.ko"].size
    assert size == len(kernel_module("depends=c", "alias=b"))
    assert _names(tree) == _names(_segment(engine, _image(engine), ("b_b",)))


def test_without_roots_all_modules_come(engine: Engine) -> None:
    files = {path: item for path, item in FILES.items() if "torn" not in path}
    tree = _segment(engine, _image(engine, files), None)
    assert len(_names(tree)) == 5
    assert f"{PLACED}/modules.order" in tree
    assert "etc/modules-load.d/linuxkit.conf" not in tree


def test_a_module_that_is_not_there_is_named_with_its_likes(engine: Engine) -> None:
    with pytest.raises(PackageError, match=r"the kernel has no module unusd .is it unused"):
        _segment(engine, _image(engine), ("unusd",))
    with pytest.raises(PackageError, match="module torn needs nowhere"):
        _segment(engine, _image(engine), ("torn",))


def test_a_finished_tree_stays_as_it_is_and_goes_where_init_has_lib(engine: Engine) -> None:
    files: dict[str, bytes | str] = {"lib/modules/1/modules.dep": b"x", "lib/modules/1/kernel/a.ko": b"y"}
    image = _plain_image(engine, {"kernel": b"k", "kernel.tar": tar_of(entries(files))})
    alpine = _plain_image(engine, {"lib/": b"", "lib/libc.so": b""})
    merged = _plain_image(engine, {"lib": "usr/lib"})
    plain = _segment(engine, image, None, init=[alpine])
    assert [path for path in plain if path.endswith(("dep", "ko"))] == sorted(files)
    both = [path for path in _segment(engine, image, None, init=[merged]) if path.endswith(("dep", "ko"))]
    assert both == [f"usr/{path}" for path in sorted(files)]


def test_a_foreign_archive_is_left_as_it_is(engine: Engine) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        first = tarfile.TarInfo("lib/modules/1/z.ko")
        first.size, first.mtime = 5, 7
        archive.addfile(first, io.BytesIO(b"noelf"))
        for name, target in (("a.ko", "z.ko"), ("b.ko", "a.ko")):
            link = tarfile.TarInfo(f"lib/modules/1/{name}")
            link.type, link.linkname = tarfile.LNKTYPE, f"lib/modules/1/{target}"
            archive.addfile(link)
    image = _plain_image(engine, {"kernel": b"k", "kernel.tar": out.getvalue()})
    tree = {path.rpartition("/")[2]: item for path, item in _segment(engine, image, None).items()}
    assert sorted(tree) == ["1", "a.ko", "b.ko", "lib", "modules", "z.ko"]
    assert (tree["a.ko"].size, tree["a.ko"].mtime) == (5, 7)
    assert {tree[name].link for name in ("b.ko", "z.ko")} == {"lib/modules/1/a.ko"}


def test_a_kernel_is_taken_out_of_its_image(engine: Engine) -> None:
    blob = engine.run(Kernel(), {"image": [_image(engine)]}).output
    assert engine.store.read(blob.digest) == b"the kernel"
    with pytest.raises(ImageError, match=r"has no file /bzImage .it has kernel, kernel.config, kernel.tar"):
        engine.run(Kernel("bzImage"), {"image": [_image(engine)]})


@pytest.mark.network
def test_debians_kernel_gives_its_modules(tmp_path: Path) -> None:
    engine = Engine(Store(tmp_path))
    component = load_component(LIBRARY_LOCK.parent / "pkg/kernel/build.yml")
    stage = ComponentImage(component, load_lock(LIBRARY_LOCK).pins(component, "amd64"), "amd64")
    tree = _segment(engine, engine.run(stage, {}).output, ("virtio_net",))
    names = {path.rpartition("/")[2] for path in tree if path.endswith(".ko")}
    assert names == {"failover.ko", "net_failover.ko", "virtio.ko", "virtio_net.ko", "virtio_ring.ko"}
