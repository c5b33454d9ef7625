"""One member of a file tree, as tar, cpio and the trees built from them describe it."""

from __future__ import annotations

import enum

from linuxkit_rules.digest import Digest
from linuxkit_rules.values import dataclass

_ATTRIBUTE = 192
"""Bytes of memory that an extended attribute takes beside its name and value (CPython, 64 bits)."""


def width(name: str) -> int:
    """Give the bytes of memory that ``name`` may take: four a character where not all are ASCII."""
    return len(name) if name.isascii() else 4 * len(name)


def tree_order(path: str) -> str:
    """Give a sort key that orders paths part by part, as long as the path itself."""
    return path.replace("/", "\0")


class Kind(enum.Enum):
    """Type of a member; the values are the typeflags of ustar (IEEE 1003.1, pax)."""

    FILE = "0"
    HARDLINK = "1"
    SYMLINK = "2"
    CHAR = "3"
    BLOCK = "4"
    DIRECTORY = "5"
    FIFO = "6"


@dataclass(frozen=True, slots=True)
class Slice:
    """``size`` bytes of the blob ``digest``, beginning at ``offset``."""

    digest: Digest
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of a tree.

    ``path`` is relative and normal: no leading or trailing slash, no empty, ``.`` or ``..`` part; the root is
    ``""``.  Bytes that are not UTF-8 are kept as surrogate escapes.  ``mode`` holds the permission bits only
    (0 to 0o7777).  ``mtime`` is in whole seconds since 1970.  ``link`` is the target of a symbolic link as
    written, or the normal path of the file that a hard link names.  ``xattrs`` are sorted by name.  A FILE's
    ``content`` is its bytes, or the slice of a blob that holds them; other kinds have ``b""``.  ``via`` is
    the path that a layer's hard link names, where that is itself a hard link, or a symbolic link.
    """

    path: str
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()
    content: bytes | Slice = b""
    via: str = ""

    @property
    def size(self) -> int:
        """Length of the content in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.size

    @property
    def metadata(self) -> int:
        """Bytes of memory that the names, link and attributes take, about."""
        size = width(self.path) + width(self.link)
        for name, value in self.xattrs:
            size += _ATTRIBUTE + width(name) + len(value)
        return size
