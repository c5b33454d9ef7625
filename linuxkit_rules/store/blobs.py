"""The content store: an OCI image layout on disk, shared by all builds of a user.

OCI image specification, image-layout.md:
https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md

A blob is written to a temporary file beside the others, hashed on the way, synced and renamed: a reader sees
whole blobs only, and putting the same bytes twice is harmless.  What a power cut can leave is a blob without
an entry (``memory.py``) or an entry without its blob; neither is ever taken for a result.

Reading verifies: ``read``, and ``copy`` of a whole blob, on the way; ``open``, for slices and indexes, by
reading the blob through once in a process that has not written it.  That takes about a tenth of the time of
packing it (measured: 0.12 s of 1.15 s for a kernel's 101 MB).  A build with nothing to do opens no blob.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import DamagedError, StoreError
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.buffers import page_buffer, sha256_of
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.store.locks import Locks
from linuxkit_rules.store.promises import Promises, Source
from linuxkit_rules.store.scratch import Scratch, write_fixed
from linuxkit_rules.store.usage import Usage, cannot_write

OCTET_STREAM = "application/octet-stream"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
INDEX = b'{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}'
FIXED = {"oci-layout": LAYOUT, "index.json": INDEX}
"""Files of the image layout that are the same in every store."""

_SPACE = 1 << 19
"""Bytes that are copied at a time."""


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
    """Blobs below ``root``: ``root/blobs/sha256/<hex>``.

    ``clock`` gives seconds since 1970, to tell when something was last used; what ``source`` has promised
    comes when it is read.
    """

    def __init__(
        self, root: Path, clock: Callable[[], float] = time.time, source: Source | None = None
    ) -> None:
        self.root = root.absolute()
        self.usage = Usage(self.root, clock)
        self.promises = Promises(self.root, source, self.usage) if source else None
        self._blobs = self.root / "blobs" / "sha256"
        self._prefix = f"{self._blobs}{os.sep}"
        self._temporary = self.root / "tmp"
        self._scratch = Scratch(self._temporary, clock)
        self._locks = Locks(self.root / "locks")
        self._sound: set[Digest] = set()
        self._swept = False

    def path(self, digest: Digest) -> Path:
        """Where the blob lies, if it is there."""
        return self._blobs / digest.hex

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there with the size it should have; if so, it stays while this process runs."""
        self.usage.begin()
        path = self._prefix + descriptor.digest.hex
        try:
            state = os.stat(path)  # noqa: PTH116 - a Path costs more than the call, and null builds ask for all
        except OSError:
            return False
        return (
            self.usage.begun and state.st_size == descriptor.size and self.usage.keeps(path, state.st_mtime)
        )

    def can_have(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, as ``has`` says, or is promised."""
        return self.has(descriptor) or (self.promises is not None and self.promises.holds(descriptor))

    def size(self, digest: Digest) -> int:
        """Give the size of a blob that is here or promised; raise DamagedError where it is neither."""
        try:
            return os.stat(self._prefix + digest.hex).st_size  # noqa: PTH116 - as in ``has``: ISOs ask for many
        except OSError:
            promised = self.promises.find(digest) if self.promises else None
            if promised is None:
                raise self._missing(digest) from None
            return promised.size

    def keeps_folder(self, path: Path) -> bool:
        """Whether the folder ``path`` of the store is there; if so, it stays while this process runs."""
        self.usage.begin()
        try:
            used = path.stat().st_mtime
        except OSError:
            return False
        return self.usage.begun and self.usage.keeps(path, used)

    def come(self, digest: Digest) -> None:
        """Have a promised blob come, as reading it does; where it does not, it is promised no more."""
        if self.promises is None or self.path(digest).exists() or self.promises.find(digest) is None:
            return
        with self.exclusive(f"promise-{digest.hex}"):
            blob = self.promises.find(digest)
            if blob is None or self.has(blob):
                return
            with self.writer() as writer:
                if self.promises.source.fetch(blob, writer):
                    writer.commit(blob.media_type, digest)
                    return
            self.promises.drop(digest)

    def open(self, digest: Digest) -> io.BufferedReader:
        """Open the blob for reading, verified; raise DamagedError where it is missing or has rotted."""
        file = self._open(digest)
        if digest not in self._sound:
            try:
                self._check(digest, sha256_of(file))
                note(read=file.tell(), hashed=file.tell())
                file.seek(0)
            except BaseException:
                file.close()
                raise
        return file

    def read(self, digest: Digest) -> bytes:
        """Give a small blob, verified; raise DamagedError where it is missing or has rotted."""
        with self._open(digest) as file:
            data = file.read()
        note(read=len(data), hashed=len(data))
        self._check(digest, hashlib.sha256(data).hexdigest())
        return data

    def copy(self, content: bytes | Slice, out: SupportsWrite, space: memoryview | None = None) -> None:
        """Write the bytes of ``content`` to ``out``, in blocks that ``out`` may not keep.

        Each of them is in ``space``, where that is given.  They are verified, unless this process has written
        or verified the blob before.  Raises DamagedError where the blob is missing or has rotted; ``out`` may
        have got bytes by then.  StoreError where the blob is shorter than the slice needs.
        """
        if isinstance(content, bytes):
            out.write(content)
            return
        found = hashlib.sha256() if content.digest not in self._sound and self._is_whole(content) else None
        with self._open(content.digest) if found else self.open(content.digest) as file:
            file.seek(content.offset)
            left = content.size
            space = page_buffer(min(left, _SPACE)) if space is None else space
            while left:
                data = space[: file.readinto(space[:left])]
                if not data:
                    raise StoreError(f"blob {content.digest} ends too early", where=str(self.root))
                if found:
                    found.update(data)
                out.write(data)
                left -= len(data)
        note(read=content.size, hashed=content.size if found else 0)
        if found:
            self._check(content.digest, found.hexdigest())

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
        with self._temporarily(self._scratch.file) as path:
            yield path

    @contextlib.contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        """Give an empty temporary folder on the store's file system, gone afterwards unless renamed."""
        with self._temporarily(self._scratch.directory) as path:
            yield path

    @contextlib.contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Keep other threads and processes out of what is named so; raise StoreError where that cannot be."""
        self._prepare()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._locks.exclusive(name))
            except OSError as error:
                raise cannot_write(self.root, error) from error
            yield

    def publish(self, temporary: Path, digest: Digest) -> None:
        """Rename a finished temporary file, whose bytes are those of ``digest``, to its blob's name."""
        temporary.chmod(0o444)
        temporary.replace(self.path(digest))
        self._sound.add(digest)

    def _open(self, digest: Digest) -> io.BufferedReader:
        try:
            with contextlib.suppress(FileNotFoundError):
                return self.path(digest).open("rb")
            self.come(digest)
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise self._missing(digest) from None
        except OSError as error:
            raise StoreError(
                f"blob {digest} cannot be read: {error.strerror}", where=str(self.root)
            ) from error

    def _missing(self, digest: Digest) -> DamagedError:
        message = f"blob {digest} is not in the store"
        return DamagedError(message, digest=str(digest), where=str(self.root))

    def _is_whole(self, content: Slice) -> bool:
        try:
            return (content.offset, content.size) == (0, self.size(content.digest))
        except DamagedError:
            return False  # opening it says why

    def _check(self, digest: Digest, found: str) -> None:
        """Remember a sound blob; remove one that is not what its name says, so that it is made anew."""
        if found == digest.hex:
            self._sound.add(digest)
            return
        self._sound.discard(digest)
        with contextlib.suppress(OSError):
            self.path(digest).unlink(missing_ok=True)
        message = f"blob {digest} was damaged and has been dropped"
        raise DamagedError(message, digest=str(digest), where=str(self.root), hint="build again")

    @contextlib.contextmanager
    def _temporarily(self, make: Callable[[], contextlib.AbstractContextManager[Path]]) -> Iterator[Path]:
        """Give what ``make`` gives; faults of writing it become StoreErrors, others stay what they are."""
        self._prepare()
        name = None
        try:
            with make() as path:
                name = str(path)
                yield path
        except OSError as error:
            if name is not None and (error.errno is None or error.filename not in (None, name)):
                raise
            raise cannot_write(self.root, error) from error

    def _prepare(self) -> None:
        try:
            if not self._temporary.is_dir():
                self._blobs.mkdir(parents=True, exist_ok=True)
                for name, content in FIXED.items():
                    if not (self.root / name).exists():
                        write_fixed(self.root / name, content)
                self._temporary.mkdir(exist_ok=True)
            if not self._swept:
                self._swept = True
                self._scratch.sweep()
        except OSError as error:
            raise cannot_write(self.root, error, "make the store") from error
        self.usage.begin()
