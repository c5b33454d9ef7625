"""The content store: an OCI image layout on disk, shared by all builds of a user.

OCI image specification, image-layout.md:
https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md

A blob is written to a temporary file beside the others, hashed on the way, synced and renamed: a reader sees
whole blobs only, and putting the same bytes twice is harmless.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import StoreError
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.entry import Slice

OCTET_STREAM = "application/octet-stream"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX = b'{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}'


class SupportsWrite(Protocol):
    """Anything with a file's ``write``."""

    def write(self, data: bytes, /) -> Any:
        """Append ``data``."""


class BlobWriter:
    """A blob that is being written: ``write`` bytes, then ``commit`` once.  Made by ``Store.writer``."""

    def __init__(self, store: Store, file: BinaryIO, temporary: Path) -> None:
        self._store = store
        self._file = file
        self._temporary = temporary
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data``; give its length, as a file's write does."""
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Give the number of bytes written so far."""
        return self.size

    def commit(self, media_type: str = OCTET_STREAM, expect: Digest | None = None) -> Descriptor:
        """Make the blob visible and give its descriptor; raise StoreError where it is not ``expect``."""
        digest = Digest(self._hash.hexdigest())
        if expect is not None and digest != expect:
            raise StoreError(f"the content is {digest} where {expect} was expected")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._store.publish(self._temporary, digest)
        note(hashed=self.size, written=self.size)
        return Descriptor(media_type, digest, self.size)


class Store:
    """Blobs below ``root``: ``root/blobs/sha256/<hex>``."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._blobs = self.root / "blobs" / "sha256"
        self._temporary = self.root / "tmp"

    def path(self, digest: Digest) -> Path:
        """Where the blob lies, if it is there."""
        return self._blobs / digest.hex

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there with the size it should have."""
        try:
            return os.stat(f"{self._blobs}/{descriptor.digest.hex}").st_size == descriptor.size  # noqa: PTH116 - null builds ask for every blob
        except OSError:
            return False

    def open(self, digest: Digest) -> BinaryIO:
        """Open the blob for reading; raise StoreError where it is missing."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise StoreError(f"blob {digest} is not in the store", where=str(self.root)) from None

    def read(self, digest: Digest) -> bytes:
        """Give a small blob, verified; one that has rotted is dropped and StoreError raised."""
        with self.open(digest) as file:
            data = file.read()
        note(read=len(data), hashed=len(data))
        if Digest.of(data) != digest:
            self._drop(digest)
        return data

    def copy(self, content: bytes | Slice, out: SupportsWrite, block: int = 1 << 20) -> None:
        """Write the bytes of ``content`` to ``out``.

        A slice that is its whole blob is verified on the way: a blob that has rotted is dropped, and
        StoreError raised, as it is where the blob is too short.  ``out`` has got bytes by then.
        """
        if isinstance(content, bytes):
            out.write(content)
            return
        with self.open(content.digest) as file:
            whole = (content.offset, content.size) == (0, os.fstat(file.fileno()).st_size)
            found = hashlib.sha256() if whole else None
            file.seek(content.offset)
            left = content.size
            while left:
                data = file.read(min(left, block))
                if not data:
                    raise StoreError(f"blob {content.digest} ends too early", where=str(self.root))
                if found:
                    found.update(data)
                out.write(data)
                left -= len(data)
        note(read=content.size, hashed=content.size if whole else 0)
        if found and found.hexdigest() != content.digest.hex:
            self._drop(content.digest)

    def put(self, data: bytes, media_type: str = OCTET_STREAM) -> Descriptor:
        """Store ``data`` and give its descriptor."""
        descriptor = Descriptor(media_type, Digest.of(data), len(data))
        if not self.has(descriptor):
            with self.writer() as writer:
                writer.write(data)
                writer.commit(media_type)
        return descriptor

    def put_file(self, path: Path, media_type: str = OCTET_STREAM) -> Descriptor:
        """Store a copy of the file ``path``."""
        with path.open("rb") as file, self.writer() as writer:
            shutil.copyfileobj(file, writer, 1 << 20)
            return writer.commit(media_type)

    @contextlib.contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """Begin a blob; one that is not committed leaves nothing behind."""
        with self.scratch() as path, path.open("w+b", buffering=1 << 18) as file:
            yield BlobWriter(self, file, path)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty temporary file on the store's file system, gone afterwards unless published."""
        self._prepare()
        try:
            number, name = tempfile.mkstemp(dir=self._temporary)
        except OSError as error:
            raise StoreError(f"cannot write to the store: {error.strerror}", where=str(self.root)) from error
        os.close(number)
        path = Path(name)
        try:
            yield path
        except OSError as error:
            if error.errno is None or error.filename not in (None, name):
                raise
            raise StoreError(f"cannot write to the store: {error.strerror}", where=str(self.root)) from error
        finally:
            path.unlink(missing_ok=True)

    def publish(self, temporary: Path, digest: Digest) -> None:
        """Rename a finished temporary file to its blob's name."""
        temporary.chmod(0o444)
        temporary.replace(self.path(digest))

    def _drop(self, digest: Digest) -> NoReturn:
        """Remove a blob that is not what its name says, so that the next build makes it anew."""
        self.path(digest).unlink(missing_ok=True)
        raise StoreError(f"blob {digest} was damaged and has been dropped", hint="build again")

    def _prepare(self) -> None:
        try:
            if self._temporary.is_dir():
                return
            self._blobs.mkdir(parents=True, exist_ok=True)
            for name, content in (("oci-layout", _LAYOUT), ("index.json", _INDEX)):
                target = self.root / name
                if not target.exists():
                    target.write_bytes(content)
            self._temporary.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the store: {error.strerror}", where=str(self.root), hint="set LINUXKIT_STORE"
            ) from error
