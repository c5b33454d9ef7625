"""The images that are built: ten services of Debian packages, about 1 GB; and small ones made in code.

Packages are pinned by ``packages.lock`` beside this file; ``python -m tests.bench --lock`` makes it anew.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from linuxkit_rules import host
from linuxkit_rules.debian.lock import LIBRARY_LOCK, format_lock, load_lock
from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.compression import Compression, compressed
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci import image as stored
from linuxkit_rules.oci.layout import write_layout
from linuxkit_rules.oci.manifest import CONFIG, LAYER, MANIFEST, Manifest, Platform
from linuxkit_rules.plan.update import Update, components, locked_gpgv
from linuxkit_rules.spec.component import load_component
from linuxkit_rules.stages.component import ComponentImage
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store

HERE = Path(__file__).parent
LOCK = HERE / "packages.lock"
SERVICES = ("builder", "jvm", "science", "node", "database", "sql", "files", "metrics", "cache", "proxy")
"""The services, the largest first."""

REPLACED = ("node", "files")
"""Services with a third version, which has no layer of the first."""

ARCH = "amd64"
_GZIP = LAYER + "+gzip"


@dataclass(frozen=True)
class Named:
    """An image of the store under the reference that YAMLs use."""

    reference: str
    image: Descriptor


def make_lock(engine: Engine) -> None:
    """Resolve the packages of all services and tools, and write the lock."""
    gpgv = locked_gpgv(engine, load_lock(LIBRARY_LOCK), host.host_arch())
    update = Update(engine, gpgv, arches=(ARCH,), report=print)
    files = sorted([*HERE.glob("set/*/build.yml"), *HERE.glob("tools/*/build.yml")])
    LOCK.write_text(format_lock(update.lock(components(files))))


def reference(name: str, version: int = 1) -> str:
    """The reference of a service's image."""
    return f"docker.io/bench/{name}:{version}"


def service_images(engine: Engine, names: Iterable[str]) -> Iterator[Named]:
    """Make the services' images, packed as registries have them, and of each a second version.

    The second has a layer more, of one file: what a new build of an application comes to.  A third has all
    layers made anew: what comes of a new base.
    """
    lock = load_lock(LOCK)
    for name in names:
        component = load_component(HERE / "set" / name / "build.yml")
        image = engine.run(ComponentImage(component, lock.pins(component, ARCH), ARCH), {}).output
        plain = stored.load(engine.store, image).layers
        layers = [_packed(layer, engine.store) for layer in plain]
        yield Named(reference(name), _image(layers, engine.store))
        change = _layer({"etc/bench-version": b"2\n"}, engine.store)
        yield Named(reference(name, 2), _image([*layers, change], engine.store))
        if name in REPLACED:
            anew = [_packed(_later(layer, engine.store), engine.store) for layer in plain]
            yield Named(reference(name, 3), _image(anew, engine.store))


def _later(layer: Descriptor, store: Store) -> Descriptor:
    """Make a plain layer anew, each file a second later."""
    with store.open(layer.digest) as file, store.writer() as writer:
        archive = tar.Writer(writer)
        for entry in tar.read(file, layer.digest):
            archive.add(replace(entry, mtime=entry.mtime + 1), store.copy)
        archive.close()
        return writer.commit(LAYER)


def small_images(store: Store, count: int, size: int = 1 << 16) -> Iterator[Named]:
    """Make ``count`` images: one layer that all share, and one of ``size`` bytes that each has alone."""
    shared = _layer({"bin/app": noise("shared", size)}, store)
    for number in range(count):
        own = _layer({"etc/own": noise(str(number), size)}, store)
        yield Named(reference(f"small-{number}"), _image([shared, own], store))


def noise(seed: str, size: int) -> bytes:
    """Bytes that halve when they are compressed, always the same for one seed."""
    blocks = (hashlib.sha256(f"{seed} {number}".encode()).hexdigest() for number in range(size // 64 + 1))
    return "".join(blocks).encode()[:size]


def layout(images: Iterable[Named], store: Store, folder: Path) -> None:
    """Write the images to the OCI layout ``folder``."""
    platform = Platform("linux", ARCH)
    write_layout(folder, store, [(item.reference, item.image, platform) for item in images])


@dataclass(frozen=True)
class _Layer:
    """A layer as registries have it, and the digest of its plain archive."""

    blob: Descriptor
    diff_id: Digest


def _layer(files: dict[str, bytes], store: Store) -> _Layer:
    plain = io.BytesIO()
    archive = tar.Writer(plain)
    for path, data in files.items():
        archive.add(Entry(path, Kind.FILE, 0o755, content=data), _copy)
    archive.close()
    return _packed(store.put(plain.getvalue(), LAYER), store)


def _copy(content: bytes | Slice, out: SupportsWrite) -> None:
    assert isinstance(content, bytes)
    out.write(content)


def _packed(layer: Descriptor, store: Store) -> _Layer:
    """Pack a plain layer by gzip."""
    with store.writer() as writer:
        with compressed(writer, Compression.GZIP) as out:
            store.copy(Slice(layer.digest, 0, layer.size), out)
        return _Layer(writer.commit(_GZIP), layer.digest)


def _image(layers: list[_Layer], store: Store) -> Descriptor:
    config = {
        "architecture": ARCH,
        "config": {"Cmd": ["/app"]},
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
    }
    kept = store.put(canonical_json(config), CONFIG)
    manifest = Manifest(kept, tuple(layer.blob for layer in layers), MANIFEST)
    return store.put(manifest.to_bytes(), MANIFEST)
