"""Images in one file: ``docker save`` archives, and archives of an OCI image layout.

Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format":
https://github.com/moby/docker-image-spec/blob/v1.3.1/v1.2.md; image-layout.md for the other.
"""

from __future__ import annotations

import io
import posixpath
from typing import Any

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError, ImageError, SpecError, one_line
from linuxkit_rules.formats.compression import Compression, decompressed, sniff
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.formats.tar import read as read_tar
from linuxkit_rules.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    SIZE_LIMIT,
    Manifest,
    load_json,
)
from linuxkit_rules.oci.origin import HashWriter
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.store.blobs import Store

_LINKS = 8


class ArchiveFiles:
    """The files of a tar archive that lies in the store, plain or compressed."""

    def __init__(self, store: Store, archive: Descriptor, name: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self.name = name
        self._store = store
        self._entries = _entries(store, archive, name, limits)

    def read(self, path: str) -> bytes:
        """Give a small file; raise FileNotFoundError where there is none, ImageError where it is too long."""
        content = self._find(path)
        if _length(content) > SIZE_LIMIT:
            raise ImageError(f"{path} is longer than {SIZE_LIMIT} bytes", where=self.name)
        out = io.BytesIO()
        self._store.copy(content, out)
        return out.getvalue()

    def copy(self, path: str, out: SupportsWrite) -> None:
        """Write a file's bytes to ``out``; raise FileNotFoundError where there is none."""
        self._store.copy(self._find(path), out)

    def _find(self, path: str) -> bytes | Slice:
        """Give the content of the file ``path``, through links inside the archive."""
        wanted = path
        for _ in range(_LINKS):
            entry = self._entries.get(path)
            if entry is None:
                raise FileNotFoundError(2, "no such file in the archive", wanted)
            if entry.kind is Kind.FILE:
                return entry.content
            if entry.kind not in (Kind.SYMLINK, Kind.HARDLINK):
                break
            symbolic = entry.kind is Kind.SYMLINK
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path) if symbolic else "", entry.link))
        raise ImageError(f"{one_line(wanted)} is no file", where=self.name)


class DockerArchive:
    """One image of a ``docker save`` archive, as an origin of blobs; ``top`` is the manifest it has for us.

    ``ref`` is a name among its RepoTags, or ``""`` for the only image.  Raises ImageError where the archive
    is none, or has not exactly that image.
    """

    def __init__(self, files: ArchiveFiles, ref: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self.name = files.name
        self._files = files
        self._paths: dict[Digest, str] = {}
        self._known: dict[tuple[str, str], Descriptor] = {}
        image = _pick(_images(files), ref, self.name)
        config = self._add(_path(image.get("Config"), self.name), DOCKER_CONFIG)
        listed = _layers(image, self.name)
        if len(listed) > limits.layers:
            raise limits.excess("layers", f"{len(listed)} layers", ImageError, self.name)
        layers = tuple(self._add(_path(item, self.name), DOCKER_LAYER) for item in listed)
        self._manifest = Manifest(config, layers, DOCKER_MANIFEST).to_bytes()
        self.top = Descriptor(DOCKER_MANIFEST, Digest.of(self._manifest), len(self._manifest))

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write the blob to ``out``; raise ImageError where the archive does not have it."""
        if descriptor == self.top:
            out.write(self._manifest)
        elif descriptor.digest in self._paths:
            self._files.copy(self._paths[descriptor.digest], out)
        else:
            raise ImageError(f"blob {descriptor.digest} is missing", where=self.name)

    def _add(self, path: str, media_type: str) -> Descriptor:
        """Find out the digest of a file, which the archive does not tell."""
        if (path, media_type) not in self._known:
            out = HashWriter()
            try:
                self._files.copy(path, out)
            except FileNotFoundError:
                raise ImageError(f"the archive lacks {one_line(path)}", where=self.name) from None
            self._paths[out.digest] = path
            self._known[path, media_type] = Descriptor(media_type, out.digest, out.size)
        return self._known[path, media_type]


def _entries(store: Store, archive: Descriptor, name: str, limits: Limits) -> dict[str, Entry]:
    """Index the archive's members by path; of several with one path the last counts."""
    try:
        plain = _plain(store, archive, limits)
        with store.open(plain.digest) as file:
            return {entry.path: entry for entry in read_tar(file, plain.digest, limits)}
    except FormatError as error:
        where = f"{name}: {error.where}" if error.where else name
        raise ImageError(f"is no archive of images: {error.message}", where=where, hint=error.hint) from error


def _plain(store: Store, archive: Descriptor, limits: Limits) -> Descriptor:
    """Give the archive without its compression, as a blob that slices can point into."""
    with store.open(archive.digest) as file:
        if sniff(file.read(6)) is Compression.NONE:
            return archive
        file.seek(0)
        with store.writer() as writer:
            for piece in decompressed(file, limits):
                writer.write(piece)
            return writer.commit()


def _images(files: ArchiveFiles) -> list[dict[str, Any]]:
    try:
        value = load_json(files.read("manifest.json"), f"{files.name}: manifest.json")
    except FileNotFoundError:
        raise ImageError("is no docker archive: it has no manifest.json", where=files.name) from None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ImageError("manifest.json must be a list of objects", where=files.name)
    return value


def _pick(images: list[dict[str, Any]], ref: str, where: str) -> dict[str, Any]:
    found = [image for image in images if not ref or _canonical(ref) in map(_canonical, _tags(image))]
    if len(found) == 1:
        return found[0]
    names = ", ".join(tag for image in images for tag in _tags(image)) or "images without a name"
    what = f"{len(found)} images match {ref!r}" if found else f"there is no image {ref!r}"
    raise ImageError(what, where=where, hint=f"there are: {one_line(names)}")


def _tags(image: dict[str, Any]) -> list[str]:
    tags = image.get("RepoTags") or []
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _canonical(name: str) -> str:
    try:
        return str(Reference.parse(name))
    except SpecError:
        return name


def _layers(image: dict[str, Any], where: str) -> list[Any]:
    layers = image.get("Layers") or []
    if not isinstance(layers, list):
        raise ImageError("Layers must be a list", where=where)
    return layers


def _path(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ImageError("manifest.json must name Config and Layers as paths", where=where)
    return posixpath.normpath(value)


def _length(content: bytes | Slice) -> int:
    return len(content) if isinstance(content, bytes) else content.size
