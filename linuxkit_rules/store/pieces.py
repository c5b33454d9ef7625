"""Large results that are laid together from blobs: kept as lists of pieces, written out where wanted.

An initrd is segments end to end; an ISO is a head, then kernel and segments.  To store such a thing whole
would write every byte once more, and keep it twice.  A *list of pieces* is a small blob instead, JSON
``{"pieces": [[digest, offset, size], …]}``; the media type of its descriptor ends with ``+pieces``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import IO

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.buffers import page_buffer
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.store.blobs import OCTET_STREAM, BlobWriter, Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.room import set_aside
from linuxkit_rules.values import dataclass

SUFFIX = "+pieces"
"""What the media type of a list of pieces ends with."""

BLOCK = 4096
"""Size of the blocks that file systems share; a piece that begins at one in both files is best laid so."""

_COPIERS = 2
_SPACE = 1 << 20
"""Bytes that a copier has in memory."""

_LARGE = 16 << 20
"""Bytes: for less, room need not be set aside."""

_PAUSE = 0.02
"""Seconds: what is written in less is not worth a thought."""

_FICLONERANGE = 0x4020940D  # the number on all machines but MIPS, PowerPC and SPARC
_RANGE = struct.Struct("=qQQQ")
"""struct file_clone_range: src_fd src_offset src_length dest_offset."""

_NEVER = (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV)
"""What says that blocks cannot be shared at all between the store and this file."""


class Assembly:
    """Takes bytes, which it stores, and slices of blobs, which it notes.  Made by ``assembling``.

    Writers of formats write to it as to a file, with its ``copy`` for contents.
    """

    def __init__(self, store: Store, own: BlobWriter) -> None:
        self._store = store
        self._own = own
        self._pieces: list[tuple[Digest | None, int, int]] = []
        self._lists: dict[Digest, tuple[Slice, ...]] = {}
        self.size = 0

    def whole(self, blob: Descriptor) -> Slice:
        """Give all bytes of ``blob``, or all that it lists, as a content for ``copy`` of this assembly.

        Raises what ``contents`` raises.
        """
        if not is_list(blob):
            return Slice(blob.digest, 0, blob.size)
        pieces = self._lists[blob.digest] = contents(self._store, blob)
        return Slice(blob.digest, 0, sum(piece.size for piece in pieces))

    def write(self, data: bytes | memoryview, /) -> int:
        """Append bytes; give their number."""
        self._note(None, self._own.size, len(data))
        return self._own.write(data)

    def copy(self, content: bytes | Slice, out: SupportsWrite) -> None:
        """Append a content to ``out``, which is this assembly."""
        if isinstance(content, bytes):
            out.write(content)
        else:
            for piece in self._lists.get(content.digest, (content,)):
                self._note(piece.digest, piece.offset, piece.size)

    def commit(self, media_type: str) -> Result:
        """Store the list, which refers to all blobs that it names; StoreError where one is missing."""
        own = self._own.commit().digest if self._own.size else Digest("")
        pieces = [Slice(digest or own, offset, size) for digest, offset, size in self._pieces]
        rows = [[str(piece.digest), piece.offset, piece.size] for piece in pieces]
        listed = self._store.put(canonical_json({"pieces": rows}), media_type + SUFFIX)
        blobs = dict.fromkeys(piece.digest for piece in pieces)
        return Result(listed, tuple(self._blob(digest) for digest in blobs))

    def _blob(self, digest: Digest) -> Descriptor:
        return Descriptor(OCTET_STREAM, digest, self._store.size(digest))

    def _note(self, digest: Digest | None, offset: int, size: int) -> None:
        """Note a piece; one that goes on where the last one ends makes that longer."""
        if not size:
            return
        self.size += size
        if self._pieces:
            last, begin, length = self._pieces[-1]
            if (last, begin + length) == (digest, offset):
                self._pieces[-1] = last, begin, length + size
                return
        self._pieces.append((digest, offset, size))


@contextlib.contextmanager
def assembling(store: Store) -> Iterator[Assembly]:
    """Begin a list of pieces; one that is not committed leaves nothing behind."""
    with store.writer() as own:
        yield Assembly(store, own)


def is_list(blob: Descriptor) -> bool:
    """Whether ``blob`` is a list of pieces."""
    return blob.media_type.endswith(SUFFIX)


def contents(store: Store, blob: Descriptor) -> tuple[Slice, ...]:
    """Give the pieces that ``blob`` lists, or where it is no list, itself.

    Raises StoreError where the list is missing, FormatError where it is none.
    """
    if not is_list(blob):
        return (Slice(blob.digest, 0, blob.size),)
    try:
        rows = json.loads(store.read(blob.digest))["pieces"]
        return tuple(Slice(Digest.parse(digest), offset, size) for digest, offset, size in rows)
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError("is no list of pieces", where=f"blob {blob.digest}") from error


def write_out(store: Store, blob: Descriptor, out: IO[bytes], *, flush: bool = False) -> None:
    """Write what ``blob`` is, or what it lists, to ``out``, a file on disk, from where it stands.

    What begins at a block in both files shares it, where the file system can; the rest is copied, by
    threads, and a whole blob verified on the way.  With ``flush`` it goes to the disk meanwhile, so that a
    sync at the end is short.  Raises StoreError where a blob is missing or has rotted; ``out`` has got bytes
    by then.
    """
    from concurrent.futures import ThreadPoolExecutor  # takes 10 ms

    out.flush()
    file, begin = out.fileno(), out.tell()
    parts = _placed(store, contents(store, blob), file, begin)
    size = sum(part.piece.size for part in parts)
    if size >= _LARGE and not any(part.shared for part in parts):
        set_aside(file, begin, size)
    blobs: dict[Digest, list[_Part]] = {}
    for part in sorted(parts, key=lambda part: -part.piece.size):
        blobs.setdefault(part.piece.digest, []).append(part)
    jobs = iter(blobs.values())
    meanwhile = _flushing(file) if flush else contextlib.nullcontext()
    with meanwhile, ThreadPoolExecutor(_COPIERS) as copiers:
        done = [copiers.submit(copy_context().run, _copy, store, jobs, file) for _ in range(_COPIERS)]
        for item in done:
            item.result()
    out.seek(begin + size)


def is_written(store: Store, blob: Descriptor, path: Path) -> bool:
    """Whether the file ``path`` holds what ``blob`` is, or what it lists.

    Raises StoreError where a blob is missing or has rotted, OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        out = _Comparison(file)
        for piece in contents(store, blob):
            store.copy(piece, out)
        return out.same and not file.read(1)


class _Comparison:
    """Takes bytes, and tells whether ``file`` has the same."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.same = True

    def write(self, data: bytes | memoryview, /) -> int:
        self.same = self.same and self._file.read(len(data)) == data
        return len(data)


@contextlib.contextmanager
def _flushing(file: int) -> Iterator[None]:
    """Have what is written to ``file`` go to the disk meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    done = threading.Event()

    def flush() -> None:
        while not done.wait(_PAUSE):
            os.fdatasync(file)

    with ThreadPoolExecutor(1) as flusher:
        flushed = flusher.submit(flush)
        try:
            yield
        finally:
            done.set()
    flushed.result()


class _Place:
    """Writes to a file from one place on, whatever else is written to it at the same time."""

    def __init__(self, file: int, position: int) -> None:
        self._file = file
        self._position = position

    def write(self, data: bytes | memoryview, /) -> int:
        size = len(data)
        while data:
            number = os.pwrite(self._file, data, self._position)
            self._position += number
            data = memoryview(data)[number:]
        return size


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of a file that is written: from ``begin`` on, where ``shared`` bytes of it are already."""

    piece: Slice
    begin: int
    shared: int


def _placed(store: Store, pieces: Iterable[Slice], out: int, begin: int) -> list[_Part]:
    """Place ``pieces`` end to end from ``begin`` on, and have ``out`` share what it can."""
    parts, can_share = [], True
    for piece in pieces:
        shared = 0
        if can_share:
            try:
                shared = _share(store, piece, begin, out)
            except OSError as error:
                can_share = error.errno not in _NEVER
        parts.append(_Part(piece, begin, shared))
        begin += piece.size
    return parts


def _share(store: Store, piece: Slice, begin: int, out: int) -> int:
    """Have ``out`` share the piece's whole blocks with its blob; give their bytes, 0 where they lie elsewise.

    ioctl_ficlonerange(2); btrfs, XFS and others have it.  Raises OSError where that cannot be done, be it for
    this piece alone; copying tells what is wrong with that.
    """
    size = piece.size // BLOCK * BLOCK
    if not size or piece.offset % BLOCK or begin % BLOCK:
        return 0
    with store.path(piece.digest).open("rb") as file:
        fcntl.ioctl(out, _FICLONERANGE, _RANGE.pack(file.fileno(), piece.offset, size, begin))
    return size


def _copy(store: Store, blobs: Iterator[Sequence[_Part]], out: int) -> None:
    """Have parts in ``out``, all those of one blob at a time, which is verified once."""
    space = page_buffer(_SPACE)
    for parts in blobs:
        for part in parts:
            digest, done = part.piece.digest, part.shared
            note(written=part.piece.size)
            if done:
                store.open(digest).close()
            if done < part.piece.size:
                rest = Slice(digest, part.piece.offset + done, part.piece.size - done)
                store.copy(rest, _Place(out, part.begin + done), space)
