"""How the image of a component is made.

The lowest layer has the usr-merge links, then come a layer for each package, one for what maintainer scripts
would have made, and one for the component's own files; a kernel's has one layer in place of all but the last.
The image is as the OCI image specification says (config.md), with LinuxKit's label org.mobyproject.config.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.lock import Pin
from linuxkit_rules.debian.machine import Machine, machine
from linuxkit_rules.debian.select import choose, declared, ordered
from linuxkit_rules.debian.tree import MERGED, Tree, with_parents
from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.oci.image import save
from linuxkit_rules.oci.manifest import LAYER
from linuxkit_rules.stages.component import GENERATED, LAID_OVER, ComponentImage, LaidOver
from linuxkit_rules.stages.deb import package_tree
from linuxkit_rules.stages.generated import generated
from linuxkit_rules.stages.kernel_image import kernel_layer
from linuxkit_rules.stages.pack import FIXED_TIME, open_blobs
from linuxkit_rules.stages.stage import Engine, Inputs
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

_CREATED = "2017-04-18T16:30:00Z"


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer to be written; ``origin`` says in the image's history where it comes from."""

    origin: str
    entries: tuple[Entry, ...]


def make(stage: ComponentImage, inputs: Inputs, work: Engine) -> Result:
    """Fetch the packages and make the image; raise PackageError where a file or library is missing."""
    target = machine(stage.arch)
    try:
        trees = _trees(stage, target, work)
        overlay = _Layer(LAID_OVER, tuple(_laid_over(stage.files, inputs.get("file", ()))))
        if stage.component.kernel:
            layers = [_kernel_layer_of(trees, stage.pins, work.store), overlay]
        else:
            layers = [*_layers(stage, target, trees, work.store), overlay]
    except LinuxKitError as error:
        place = f"component {stage.component.image}" + (f", {error.where}" if error.where else "")
        error.where = place
        raise
    written = [(layer.origin, _write_layer(layer.entries, work.store)) for layer in layers if layer.entries]
    return save(work.store, _config(stage, written), tuple(item for _, item in written))


def _trees(stage: ComponentImage, target: Machine, work: Engine) -> dict[str, Tree]:
    pins = {pin.name: pin for pin in stage.pins}
    return {name: package_tree(pins[name], work) for name in ordered(stage.component, target, pins)}


def _layers(stage: ComponentImage, target: Machine, trees: dict[str, Tree], store: Store) -> Iterator[_Layer]:
    contents = Contents(store)
    versions = {pin.name: pin.version for pin in stage.pins}
    named = declared(stage.component, target, trees)
    given = {path: trees[name].entries[path] for name, paths in named.items() for path in paths}
    yield _Layer("usr-merge", tuple(_merged_links()))
    there: set[str] = set()
    for name, paths in choose(stage.component, target, trees, contents).items():
        there |= paths
        yield _Layer(f"{name}={versions[name]}", tuple(with_parents(trees[name], paths)))
    yield _Layer(GENERATED, tuple(generated(stage.component, given, there, contents)))


def _config(stage: ComponentImage, layers: Sequence[tuple[str, Descriptor]]) -> bytes:
    component = stage.component
    config: dict[str, Any] = {
        "Entrypoint": list(component.entrypoint),
        "Cmd": list(component.cmd),
        "Env": list(component.env),
        "WorkingDir": component.workdir,
        "User": component.user,
        "Labels": {"org.mobyproject.config": component.label} if component.label else {},
    }
    value: dict[str, Any] = {
        "architecture": stage.arch,
        "config": {name: item for name, item in config.items() if item},
        "created": _CREATED,
        "history": [{"created": _CREATED, "created_by": origin} for origin, _ in layers],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(item.digest) for _, item in layers]},
    }
    if stage.arch == "arm64":
        value["variant"] = "v8"
    return canonical_json(value)


def _write_layer(entries: Iterable[Entry], store: Store) -> Descriptor:
    """Store a layer of ``entries``, all with the fixed time, as plain tar."""
    with store.writer() as writer, open_blobs(store) as copy:
        archive = tar.Writer(writer)
        for entry in entries:
            archive.add(replace(entry, mtime=FIXED_TIME), copy)
        archive.close()
        return writer.commit(LAYER)


def _kernel_layer_of(trees: dict[str, Tree], pins: tuple[Pin, ...], store: Store) -> _Layer:
    """Give the layer of a kernel image: /kernel and /kernel.tar, as LinuxKit's kernel images have them."""
    ((name, tree),) = trees.items()
    return _Layer(f"{name}={pins[0].version}", tuple(kernel_layer(tree, store)))


def _merged_links() -> Iterator[Entry]:
    usr = ("usr", *(f"usr/{name}" for name in MERGED))
    paths = sorted((*MERGED, *usr))
    for path in paths:
        if path in MERGED:
            yield Entry(path, Kind.SYMLINK, 0o777, link=f"usr/{path}")
        else:
            yield Entry(path, Kind.DIRECTORY, 0o755)


def _laid_over(files: Sequence[LaidOver], contents: Sequence[Descriptor]) -> Iterator[Entry]:
    """Give entries for the files laid over, with the directories above them, each before what it holds."""
    blobs = iter(contents)
    entries: dict[str, Entry] = {}
    for item in files:
        parts = item.path.split("/")
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            entries.setdefault(above, Entry(above, Kind.DIRECTORY, 0o755))
        if item.link:
            entries[item.path] = Entry(item.path, Kind.SYMLINK, 0o777, link=item.link)
        else:
            blob = next(blobs)
            content = Slice(blob.digest, 0, blob.size) if blob.size else b""
            entries[item.path] = Entry(item.path, Kind.FILE, item.mode, content=content)
    return (entries[path] for path in sorted(entries))
