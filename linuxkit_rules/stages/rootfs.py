"""Stage ``rootfs``: the segment that holds an image's root file system, as LinuxKit lays it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import ClassVar

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import within
from linuxkit_rules.formats.entry import Entry, Kind, tree_order
from linuxkit_rules.oci.image import load as load_image
from linuxkit_rules.oci.layers import flatten, remove
from linuxkit_rules.stages.join import laid
from linuxkit_rules.stages.pack import FIXED_TIME, Form, Packing, PackingStage, parents, without_boot
from linuxkit_rules.stages.parts import Part, by_layer, tree_digest
from linuxkit_rules.stages.stage import Engine, Inputs
from linuxkit_rules.stages.unpack import Unpack
from linuxkit_rules.stages.unpack import load as load_index
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

_HOSTS = b"""127.0.0.1       localhost
::1     localhost ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff00::0 ip6-mcastprefix
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""
_NO_RESOLV = b"\n# no resolv.conf configured\n"
_RESOLV_LINK = "/run/resolvconf/resolv.conf"
_DROPPED = ("dev/console", ".dockerenv", "Dockerfile", "etc/hostname")
_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")


@dataclass(frozen=True)
class Rootfs(PackingStage):
    """Packs the one input ``image`` (its manifest), every path below ``prefix``.

    ``prefix`` is ``""`` for an init image, else for example ``containers/services/redis/rootfs``; it and the
    directories above it are in the segment too, 0755 of root.  ``resolv_link``: etc/resolv.conf is a symbolic
    link into /run, as init images and volumes have it, and not a file.  ``image`` stands for the image in
    messages.  What a large layer brought is packed on its own, but not at a release's level: it costs size.
    """

    name: ClassVar[str] = "rootfs"
    version: ClassVar[int] = 5
    prefix: str = ""
    resolv_link: bool = False
    image: str = field(default="", compare=False)

    def label(self) -> str:
        """Where the image goes to."""
        return self.prefix

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Flatten, fit out and pack the image; raise ImageError where it is not sound."""
        (image,) = inputs["image"]
        tree = fit_out(image_tree(image, work, self.image), resolv_link=self.resolv_link)
        with within(self.image or f"image {image.digest}"):
            entries = list(below(self.prefix, tree))
            parts = self._parts(entries, inputs, work.store) if self.form is Form.CPIO else ()
            if not parts:
                return Result(self.packed(entries, inputs, work.store))
            segments = [work.run(part, {}).output for part in parts]
            return laid(segments, segments[0].media_type, work.store)

    def _parts(self, entries: Iterable[Entry], inputs: Inputs, store: Store) -> tuple[Part, ...]:
        """Give what is packed on its own, all as their sum wants it; nothing where size alone counts."""
        compression = self.chosen(inputs, store)
        level = self.level_of(compression)
        if level >= compression.release_level > 0:
            return ()
        packed = tuple(without_boot(entries))
        parts = by_layer(packed)
        if len(parts) < 2:
            return ()
        how: Packing = {
            "compression": compression,
            "level": level or compression.default_level(sum(entry.size for entry in packed)),
        }
        return tuple(
            Part(tree=tree_digest(part), entries=part, place=self.prefix, layer=layer, **how)
            for layer, part in parts.items()
        )


def image_tree(image: Descriptor, work: Engine, name: str = "") -> dict[str, Entry]:
    """Give the root file system of the image whose manifest is ``image``, as ``oci.layers.flatten`` does.

    ``name`` stands for the image in messages, which say the layer and the entry too.
    """
    with within(name or f"image {image.digest}"):
        names, layers = image_layers(image, work)
        return flatten((load_index(work.store, layer.output) for layer in layers), names, work.limits)


def image_layers(image: Descriptor, work: Engine) -> tuple[list[str], list[Result]]:
    """Give what messages call an image's layers, the lowest first, and what ``unpack`` gave of each."""
    layers = load_image(work.store, image).layers
    results = [work.run(Unpack(), {"layer": (layer,)}) for layer in layers]
    return [f"layer {layer.digest}" for layer in layers], results


def fit_out(tree: Mapping[str, Entry], *, resolv_link: bool) -> dict[str, Entry]:
    """Do to an image's tree what LinuxKit does to each (its ``moby/image.go``), and give the new tree.

    The directories that mounts need are there, 0755 of root; etc/hosts and etc/resolv.conf are LinuxKit's;
    etc/mtab is made where missing; what belongs to the machine that made the image is dropped.
    """
    fitted = dict(tree)
    for path in _DROPPED:
        if path in fitted and fitted[path].kind is not Kind.DIRECTORY:
            remove(fitted, path)
    for path in _DIRECTORIES:
        if path in fitted and fitted[path].kind is not Kind.DIRECTORY:
            remove(fitted, path)
        fitted[path] = Entry(path, Kind.DIRECTORY, 0o755, mtime=FIXED_TIME)
    for entry in _files(resolv_link):
        remove(fitted, entry.path)
        fitted[entry.path] = entry
    fitted["etc/mtab"] = replace(fitted.get("etc/mtab", _link("etc/mtab", "/proc/mounts")), mtime=FIXED_TIME)
    return dict(sorted(fitted.items(), key=lambda item: tree_order(item[0])))


def below(prefix: str, tree: Mapping[str, Entry]) -> Iterator[Entry]:
    """Give the entries of ``tree`` with their paths below ``prefix``, after those of ``prefix`` itself."""
    above = list(parents(prefix))
    if "" in tree:
        above[-1:] = [replace(tree[""], path=prefix)]
    yield from above
    for path, entry in tree.items():
        if path:
            yield _moved(entry, f"{prefix}/") if prefix else entry


def _moved(entry: Entry, lead: str) -> Entry:
    """Give ``entry`` with ``lead`` before its path; written out, as ``replace`` takes six times as long."""
    return Entry(
        lead + entry.path,
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime,
        lead + entry.link if entry.kind is Kind.HARDLINK else entry.link,
        entry.major,
        entry.minor,
        entry.xattrs,
        entry.content,
        entry.via and lead + entry.via,
    )


def _files(resolv_link: bool) -> Iterator[Entry]:
    yield Entry("etc/hosts", Kind.FILE, 0o644, mtime=FIXED_TIME, content=_HOSTS)
    if resolv_link:
        yield _link("etc/resolv.conf", _RESOLV_LINK)
    else:
        yield Entry("etc/resolv.conf", Kind.FILE, 0o644, mtime=FIXED_TIME, content=_NO_RESOLV)


def _link(path: str, target: str) -> Entry:
    return Entry(path, Kind.SYMLINK, 0o777, mtime=FIXED_TIME, link=target)
