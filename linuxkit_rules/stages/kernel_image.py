"""A kernel package as LinuxKit's kernel images lay it out: /kernel and /kernel.tar; and its /kernel.config.

https://github.com/linuxkit/linuxkit/blob/master/docs/kernels.md: ``kernel.tar`` holds lib/modules/<version>.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.globs import matches
from linuxkit_rules.debian.tree import KERNEL, MODULES, Tree, with_parents
from linuxkit_rules.errors import PackageError
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.compression import Compression, open_reader, sniff
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.stages.pack import FIXED_TIME, open_blobs
from linuxkit_rules.store.blobs import Store

CONFIG = "kernel.config"
"""Path of the kernel's configuration."""

PACKED = (".ko.xz", ".ko.zst", ".ko.gz")
"""How the names of packed modules end."""

_MOST = 256 << 20
_CONFIGS = ("boot/config-*",)
_DROPPED = ("*/build", "*/source")


def kernel_layer(tree: Tree, store: Store) -> Iterator[Entry]:
    """Give ``kernel``, ``kernel.config`` and ``kernel.tar`` of a kernel package.

    The configuration is left out where the package has none; PackageError where it holds no kernel.
    """
    kernels = sorted(path for path in tree.entries if matches(KERNEL, path))
    if not kernels:
        raise PackageError("it holds no kernel", where=f"package {tree.name}")
    yield replace(tree.entries[kernels[-1]], path="kernel", mode=0o644)
    for path in [path for path in sorted(tree.entries) if matches(_CONFIGS, path)][-1:]:
        yield replace(tree.entries[path], path=CONFIG, mode=0o644)
    with store.writer() as writer, open_blobs(store) as copy:
        archive = tar.Writer(writer)
        for entry in _modules(tree, Contents(store)):
            archive.add(replace(entry, mtime=FIXED_TIME), copy)
        archive.close()
        blob = writer.commit()
    yield Entry("kernel.tar", Kind.FILE, content=Slice(blob.digest, 0, blob.size))


def _modules(tree: Tree, contents: Contents) -> Iterator[Entry]:
    """Give lib/modules, with every module decompressed."""
    prefix = f"{MODULES}/"
    paths = [path for path in tree.entries if path.startswith(prefix) and not matches(_DROPPED, path)]
    for entry in with_parents(tree, paths):
        if entry.path != "usr":
            plain = entry if entry.kind is not Kind.FILE else plain_module(entry, contents)
            yield replace(plain, path=plain.path.removeprefix("usr/"))


def plain_module(entry: Entry, contents: Contents) -> Entry:
    """Decompress a packed module, other files stay as they are; the signature in a module stays whole."""
    if not entry.path.endswith(PACKED):
        return entry
    view = contents.view(entry)
    if sniff(bytes(view[:6])) is Compression.NONE:
        return replace(entry, path=entry.path.rpartition(".")[0])
    data = open_reader(io.BytesIO(view)).read(_MOST + 1)
    if len(data) > _MOST:
        raise PackageError(f"a module of more than {_MOST} bytes", where=entry.path)
    return replace(entry, path=entry.path.rpartition(".")[0], content=data)
