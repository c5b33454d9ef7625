"""Large results that are laid together from blobs: kept as lists of pieces, written out where wanted.

An initrd is segments end to end; an ISO is a head, then kernel and segments.  To store such a thing whole
would write every byte once more, and keep it twice.  A *list of pieces* is a small blob instead, JSON
``{"pieces": [[digest, offset, size], …]}``; the media type of its descriptor ends with ``+pieces``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from contextvars import copy_context
from typing import IO

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError, StoreError
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.store.blobs import OCTET_STREAM, BlobWriter, Store
from linuxkit_rules.store.memory import Result

SUFFIX = "+pieces"
"""What the media type of a list of pieces ends with."""

_BLOCK = 1 << 20
_VERIFIERS = 2
_ELSEWHERE = frozenset((errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM))
"""How copy_file_range(2) says that these files, or this kernel, have no such short cut."""


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

    def write(self, data: bytes, /) -> int:
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


def write_out(store: Store, blob: Descriptor, out: IO[bytes]) -> None:
    """Write what ``blob`` is, or what it lists, to ``out``.

    The kernel copies, where it can by sharing blocks, while other threads verify the blobs.  Raises
    StoreError where one is missing or has rotted; ``out`` has got bytes by then.
    """
    from concurrent.futures import ThreadPoolExecutor  # takes 10 ms

    pieces = contents(store, blob)
    with ThreadPoolExecutor(_VERIFIERS) as verifiers:
        blobs = dict.fromkeys(piece.digest for piece in pieces)
        verified = [verifiers.submit(copy_context().run, store.verify, digest) for digest in blobs]
        try:
            for piece in pieces:
                _copy(store, piece, out)
        finally:  # what a verifier says comes first: it may have dropped the blob that was to be copied
            for item in verified:
                item.result()


def _copy(store: Store, piece: Slice, out: IO[bytes]) -> None:
    """Copy without looking."""
    note(read=piece.size, written=piece.size)
    with _opened(store, piece.digest) as file:
        file.seek(piece.offset)
        left = piece.size - _copy_inside(file, piece, out)
        while left:
            data = file.read(min(left, _BLOCK))
            if not data:
                raise StoreError(f"blob {piece.digest} ends too early", where=str(store.root))
            left -= out.write(data)


def _opened(store: Store, digest: Digest) -> IO[bytes]:
    """Open a blob without looking; StoreError where it is missing."""
    try:
        return store.path(digest).open("rb")
    except FileNotFoundError:
        return store.open(digest)  # says so in the store's words


def _copy_inside(file: IO[bytes], piece: Slice, out: IO[bytes]) -> int:
    """Have the kernel copy what it can, from where ``file`` stands on; give the number of bytes."""
    done = 0
    try:
        out.flush()
        target = out.fileno()
        while done < piece.size:
            number = os.copy_file_range(file.fileno(), target, piece.size - done)
            if not number:
                break
            done += number
    except OSError as error:
        if error.errno is not None and error.errno not in _ELSEWHERE:
            raise
    return done
