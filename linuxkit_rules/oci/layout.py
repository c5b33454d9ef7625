"""OCI image layouts: a directory (or the tree of an archive) of blobs with an index of named images.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError, ImageError, SpecError
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.manifest import (
    MANIFEST,
    Index,
    Manifest,
    Member,
    Platform,
    load_object,
    parse,
    refers,
)
from linuxkit_rules.oci.origin import read_verified
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.store.blobs import Store

REF_NAME = "org.opencontainers.image.ref.name"
"""Annotation that names an image in a layout's index: a full reference, or a tag alone."""

CONTAINERD_NAME = "io.containerd.image.name"
"""Annotation by which Docker and containerd give the full reference beside a bare tag."""


class Files(Protocol):
    """The files of a layout, wherever they lie."""

    @property
    def name(self) -> str:
        """What messages call the place."""

    def read(self, path: str) -> bytes:
        """Give a small file; raise FileNotFoundError where there is none."""

    def copy(self, path: str, out: SupportsWrite) -> None:
        """Write a file's bytes to ``out``; raise FileNotFoundError where there is none."""


class DirectoryFiles:
    """The files below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def read(self, path: str) -> bytes:
        """Give a small file's bytes."""
        return (self.root / path).read_bytes()

    def copy(self, path: str, out: SupportsWrite) -> None:
        """Write a file's bytes to ``out``."""
        with (self.root / path).open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)


class Layout:
    """An OCI image layout that is read; its index is read once, when first asked for."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.name = files.name

    @classmethod
    def at(cls, root: Path) -> Layout:
        """Give the layout in the directory ``root``."""
        return cls(DirectoryFiles(root))

    @cached_property
    def index(self) -> Index:
        """The layout's index; raise ImageError where this is no layout of version 1.0.x."""
        version = load_object(self._read("oci-layout"), self.name).get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1.0."):
            raise ImageError(f"is an image layout of the unknown version {version!r}", where=self.name)
        value = parse(self._read("index.json"), None, f"{self.name}: index.json")
        if isinstance(value, Manifest):
            raise ImageError("index.json is no index", where=self.name)
        return value

    @cached_property
    def _by_name(self) -> dict[str, Member]:
        """Members by full reference without digest.  Of several with one name, the last was added last."""
        return {str(name): member for member in self.index.members for name in _full_names(member)}

    def find(self, reference: Reference) -> Descriptor | None:
        """Give the image or index that has the full reference, or None.

        A digest decides alone: it is that of a member of the same repository, whatever its tag.
        """
        if reference.digest is None:
            member = self._by_name.get(str(reference))
            return member.descriptor if member else None
        for member in self.index.members:
            if _matches(member, reference):
                return member.descriptor
        return None

    def find_ref(self, ref: str) -> Descriptor:
        """Give the image that ``ref`` means in this layout; raise ImageError unless it is exactly one.

        ``ref`` is a name as the index has it, a full or short reference, a tag, a digest, or ``""`` for the
        only image.
        """
        images = [member for member in self.index.members if member.is_image]
        for found in (_exact(images, ref), _same_reference(images, ref), _same_tag(images, ref)):
            if len({member.descriptor.digest for member in found}) == 1:
                return found[0].descriptor
            if found:
                raise ImageError(f"{len(found)} images match {ref!r}", where=self.name, hint=_choices(found))
        what = f"no image {ref!r}" if ref else "no image"
        raise ImageError(f"there is {what}", where=self.name, hint=_choices(images))

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob to ``out``, unverified; raise ImageError where it is missing."""
        try:
            self._files.copy(f"blobs/sha256/{descriptor.digest.hex}", out)
        except FileNotFoundError:
            raise ImageError(f"blob {descriptor.digest} is missing", where=self.name) from None
        except PermissionError as error:
            raise ImageError(f"blob {descriptor.digest}: {error.strerror}", where=self.name) from error

    def _read(self, path: str) -> bytes:
        try:
            return self._files.read(path)
        except OSError as error:
            raise ImageError(f"is no OCI image layout: {path}: {error.strerror}", where=self.name) from error


class LayoutRepository:
    """The part of a layout that belongs to one repository, as a place where signatures can lie.

    A manifest with a bare tag belongs to every repository.
    """

    def __init__(self, layout: Layout, repository: Reference) -> None:
        self.name = layout.name
        self._layout = layout
        self._domain = repository.domain
        self._path = repository.path

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob to ``out``, unverified; raise ImageError where it is missing."""
        self._layout.copy(descriptor, out)

    def manifest(self, name: str) -> tuple[Descriptor, bytes] | None:
        """Give the manifest or index with the tag or digest ``name``, or None where there is none."""
        members = self._layout.index.members
        if ":" in name:
            found = [member for member in members if str(member.descriptor.digest) == name]
        else:
            wanted = Reference(self._domain, self._path, name)
            found = [member for member in members if _matches(member, wanted)]
            found += [member for member in members if member.annotations.get(REF_NAME) == name]
        return self._read(found[0].descriptor) if found else None

    def referrers(self, subject: Digest, artifact_type: str = "") -> tuple[Member, ...]:
        """Give the manifests of the layout that refer to ``subject``, of one type or all.

        What is missing or damaged refers to nothing.
        """
        manifests = [item for item in self._layout.index.members if item.descriptor.media_type == MANIFEST]
        return tuple(item for item in manifests if self._refers(item, subject, artifact_type))

    def views(self) -> Iterator[LayoutRepository]:
        """Give this place alone: a layout has all there is."""
        yield self

    def _refers(self, member: Member, subject: Digest, artifact_type: str) -> bool:
        try:
            return refers(self._read(member.descriptor)[1], subject, artifact_type, self.name)
        except ImageError:
            return False

    def _read(self, descriptor: Descriptor) -> tuple[Descriptor, bytes]:
        return descriptor, read_verified(self._layout, descriptor)


def write_layout(root: Path, store: Store, images: Sequence[tuple[str, Descriptor, Platform | None]]) -> None:
    """Write images of the store, each with its name, as a layout to the new or empty directory ``root``.

    Raises ImageError where ``root`` holds something, StoreError where a blob is missing.
    """
    if root.exists() and any(root.iterdir()):
        raise ImageError("a layout is written to an empty directory only", where=str(root))
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for _, image, _ in images:
        _copy_tree(store, image, blobs)
    members = tuple(Member(image, platform, {REF_NAME: name}) for name, image, platform in images)
    (root / "oci-layout").write_bytes(canonical_json({"imageLayoutVersion": "1.0.0"}))
    (root / "index.json").write_bytes(Index(members).to_bytes())


def _copy_tree(store: Store, image: Descriptor, blobs: Path) -> None:
    """Copy a manifest or index and all that it names."""
    value = parse(store.read(image.digest), image.media_type, str(image.digest))
    _copy_blob(store, image.digest, blobs)
    if isinstance(value, Index):
        for member in value.members:
            _copy_tree(store, member.descriptor, blobs)
        return
    for item in (value.config, *value.layers):
        _copy_blob(store, item.digest, blobs)


def _copy_blob(store: Store, digest: Digest, blobs: Path) -> None:
    target = blobs / digest.hex
    if target.exists():
        return
    with store.open(digest) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
        os.fchmod(out.fileno(), 0o644)


def _full_names(member: Member) -> list[Reference]:
    """The full references of a member.  A bare tag names no repository, so it gives none."""
    texts = (member.annotations.get(CONTAINERD_NAME, ""), member.annotations.get(REF_NAME, ""))
    found = []
    for text in texts:
        if "/" in text:
            try:
                found.append(Reference.parse(text))
            except SpecError:
                continue
    return found


def _matches(member: Member, wanted: Reference) -> bool:
    """Whether the member has the name; a digest decides alone, whatever the tag, but in its repository."""
    names = _full_names(member)
    if wanted.digest is None:
        return wanted in names
    return member.descriptor.digest == wanted.digest and wanted.repository in (n.repository for n in names)


def _exact(images: list[Member], ref: str) -> list[Member]:
    if not ref:
        return images
    names = (REF_NAME, CONTAINERD_NAME)
    return [item for item in images if ref in (item.annotations.get(name) for name in names)]


def _same_reference(images: list[Member], ref: str) -> list[Member]:
    try:
        digest = Digest.parse(ref.removeprefix("@"))
        return [item for item in images if item.descriptor.digest == digest]
    except FormatError:
        pass
    try:
        wanted = Reference.parse(ref)
    except SpecError:
        return []
    return [item for item in images if _matches(item, wanted)]


def _same_tag(images: list[Member], ref: str) -> list[Member]:
    return [item for item in images if any(name.tag == ref for name in _full_names(item))]


def _choices(images: list[Member]) -> str:
    """What could be named instead, for a message."""
    names = sorted({item.annotations.get(REF_NAME, str(item.descriptor.digest)) for item in images})
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"there are: {', '.join(names[:8])}{more}" if names else "the layout is empty"
