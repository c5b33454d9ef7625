"""Vendoring: all that a build needs from elsewhere, in one folder for a machine without a network.

The folder is an OCI image layout that holds each image under its reference, byte for byte as it is where it
comes from, with a folder ``packages`` of Debian packages in it.  What it holds already stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath

from linuxkit_rules.debian.lock import Pin
from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import ImageError, StoreError
from linuxkit_rules.formats.buffers import sha256_of
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.oci.layout import REF_NAME, Layout
from linuxkit_rules.oci.manifest import MANIFESTS, Index, Manifest, Member, Platform, parse, refers
from linuxkit_rules.oci.reference import Reference, parse_source
from linuxkit_rules.oci.signature import BUNDLE, PAYLOAD_LIMIT, SIGNATURE_ARTIFACT, signature_tag
from linuxkit_rules.plan.graph import Step, blamed
from linuxkit_rules.plan.written import is_left, replace_file, replacing
from linuxkit_rules.stages.access import PACKAGES
from linuxkit_rules.stages.component import ComponentImage
from linuxkit_rules.stages.deb import Deb
from linuxkit_rules.stages.image import ImageStage, LayoutImage, PullImage
from linuxkit_rules.stages.obtain import obtain
from linuxkit_rules.stages.stage import Engine, Stage
from linuxkit_rules.stages.verify import read_evidence
from linuxkit_rules.stages.whole import StoreOrigin, WholeImage, read_whole
from linuxkit_rules.store.blobs import LAYOUT, OCTET_STREAM
from linuxkit_rules.store.locks import lock
from linuxkit_rules.values import dataclass

VERSION = "oci-layout"
"""The file by which a folder is an OCI image layout (image-layout, "oci-layout file")."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the steps of a build take from elsewhere: images by reference, and packages."""

    images: tuple[tuple[Reference, WholeImage, Step], ...]
    packages: tuple[Pin, ...]


def wanted(steps: Iterable[Step], arch: str) -> Wanted:
    """Find out what ``steps``, and those below them, take from elsewhere for Debian's ``arch``.

    Images in layouts and archives that the YAML names by their path are the user's own files.
    """
    images: dict[tuple[Reference, WholeImage], Step] = {}
    packages: set[Pin] = set()
    for step in _all(steps):
        stage = step.stage
        if isinstance(stage, ComponentImage):
            packages.update(stage.pins)
        source = stage.source if isinstance(stage, WholeImage) else stage
        reference = _reference(source)
        if reference and isinstance(source, ImageStage):
            here = WholeImage(source, (Platform("linux", arch),), str(reference))
            images.setdefault((reference, stage if isinstance(stage, WholeImage) else here), step)
    return Wanted(
        tuple((reference, whole, step) for (reference, whole), step in images.items()),
        tuple(sorted(packages)),
    )


def vendor(want: Wanted, folder: Path, engine: Engine) -> None:
    """Write what is wanted to ``folder``.

    Another process that writes to it is waited for.  Raises NetworkError, ImageError or PackageError where
    something cannot be had, StoreError where the folder cannot be written.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock(number, fcntl.LOCK_EX)
        _claim(folder)
        _fill(want, folder, engine)
    finally:
        os.close(number)


def _fill(want: Wanted, folder: Path, engine: Engine) -> None:
    """Write what is wanted; nobody else does meanwhile."""
    blobs, members = folder / "blobs" / "sha256", _members(folder)
    for pin in want.packages:
        engine.run(Deb(pin), {})
        _copy(engine, Descriptor(OCTET_STREAM, pin.digest, pin.size), _package(folder, pin))
    for reference, stage, step in want.images:
        with blamed(step):
            top, found = read_whole(_whole(stage, step, engine), engine.store)
        for blob in found:
            _copy(engine, blob, blobs / blob.digest.hex)
        members[str(reference)] = Member(top, None, {REF_NAME: str(reference)})
        with blamed(step):
            members |= _signatures(stage, step, reference, top, blobs, engine)
    index = Index(tuple(member for _, member in sorted(members.items())))
    _put(folder / "index.json", index.to_bytes())


def _all(steps: Iterable[Step]) -> Iterator[Step]:
    """Give ``steps`` and all below them, each once."""
    seen: set[Step] = set()
    todo = list(steps)[::-1]
    while todo:
        step = todo.pop()
        if step not in seen:
            seen.add(step)
            yield step
            todo += [item.source for item in step.inputs if isinstance(item.source, Step)][::-1]


def _reference(stage: Stage | None) -> Reference | None:
    """Give the name under which a build asks for the image; None for one that the user has."""
    if not isinstance(stage, PullImage | LayoutImage):
        return None
    source = parse_source(stage.reference)
    return source if isinstance(source, Reference) else None


def _whole(stage: WholeImage, step: Step, engine: Engine) -> Descriptor:
    """Bring an image whole; of one platform's, its own signature is enough, as when it is built."""
    source = stage.source
    platform = _platform(stage, step)
    if platform and source and source.trust:
        with source.opened({}, engine, platform):
            stage = replace(stage, source=replace(source, trust=()))
    return engine.run(stage, {}, step.name).output


def _platform(stage: WholeImage, step: Step) -> Platform | None:
    """Give the platform whose own signature is enough, None where all of the image is wanted."""
    return None if step.stage is stage else stage.platforms[0]


def _signatures(
    stage: WholeImage, step: Step, reference: Reference, top: Descriptor, blobs: Path, engine: Engine
) -> dict[str, Member]:
    """Write what proves the image signed, if it must be, to ``blobs``; give its members by name.

    What else lies beside it, signatures that do not count or large blobs, stays where it is.
    """
    members: dict[str, Member] = {}
    if stage.source is None:
        return members
    for proof in stage.source.check(StoreOrigin(engine.store), top, engine, _platform(stage, step)):
        image, evidence = read_evidence(proof, engine.store)
        for item in evidence:
            _copy(engine, item, blobs / item.digest.hex)
        for item in evidence:
            if item.media_type in MANIFESTS:
                data = engine.store.read(item.digest)
                _config(stage.source, parse(data, item.media_type, str(reference)), blobs, engine)
                name = f"{reference.repository}:{signature_tag(image)}"
                if any(refers(data, image, kind, name) for kind in (SIGNATURE_ARTIFACT, BUNDLE)):
                    members[str(item.digest)] = Member(item)
                else:
                    members[name] = Member(item, None, {REF_NAME: name})
    return members


def _config(source: ImageStage, manifest: Manifest | Index, blobs: Path, engine: Engine) -> None:
    """Write the configuration of a manifest of signatures, if it is short and there; it proves nothing."""
    if isinstance(manifest, Manifest) and manifest.config.size <= PAYLOAD_LIMIT:
        with contextlib.suppress(ImageError), source.signatures(engine) as place:
            obtain(place, manifest.config, engine.store)
            _copy(engine, manifest.config, blobs / manifest.config.digest.hex)


def _claim(folder: Path) -> None:
    """Make the folder a layout; raise ImageError where it is something else.

    The file that says so comes first: a folder left half made is one that the next run may go on with.
    """
    with _writing(folder):
        names = {path.name for path in folder.iterdir() if not is_left(path, VERSION)}
    if names and VERSION not in names:
        hint = "name a new folder, or one that `moby vendor` has made"
        raise ImageError("is neither empty nor an OCI image layout", where=str(folder), hint=hint)
    _put(folder / VERSION, LAYOUT)
    with _writing(folder):
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (folder / PACKAGES).mkdir(exist_ok=True)


def _members(folder: Path) -> dict[str, Member]:
    """Give the images that the folder has, by name; raise ImageError where its index is none."""
    if not (folder / "index.json").exists():
        return {}
    index = Layout.at(folder).index
    return {
        member.annotations.get(REF_NAME, str(member.descriptor.digest)): member for member in index.members
    }


def _package(folder: Path, pin: Pin) -> Path:
    return folder / PACKAGES / PurePath(pin.filename).name


def _copy(engine: Engine, blob: Descriptor, target: Path) -> None:
    """Write a blob to ``target``, unless it is there."""
    with _writing(target):
        if target.is_file() and target.stat().st_size == blob.size:
            with target.open("rb") as file:
                if sha256_of(file) == blob.digest.hex:
                    return
        with replacing(target) as file:
            engine.store.copy(Slice(blob.digest, 0, blob.size) if blob.size else b"", file)


def _put(target: Path, data: bytes) -> None:
    replace_file(target, data, lambda reason: _unwritable(target, reason))


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(place, error.strerror) from error


def _unwritable(place: Path, reason: str | None) -> StoreError:
    return StoreError(f"cannot be written: {reason}", where=str(place))
