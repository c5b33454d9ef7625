"""newc cpio archives, as the kernel unpacks them into its first root file system.

Format: https://www.kernel.org/doc/html/latest/driver-api/early-userspace/buffer-format.html; the names of the
fields are from there.  A member is a header of 110 ASCII bytes, its name and its contents, both padded to 4.
"""

from __future__ import annotations

import posixpath
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import BinaryIO

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.streams import Copy, SupportsWrite
from linuxkit_rules.formats.tar_header import normal, raw, text
from linuxkit_rules.values import dataclass

MAGIC = b"070701"
TRAILER = b"TRAILER!!!"
_MAGIC_CRC = b"070702"

# c_magic c_ino c_mode c_uid c_gid c_nlink c_mtime c_filesize c_maj c_min c_rmaj c_rmin c_namesize c_chksum
HEADER = struct.Struct("6s" + 13 * "8s")
_FORMAT = MAGIC + 13 * b"%08x"
_TYPES = {
    Kind.FILE: 0o100000,
    Kind.SYMLINK: 0o120000,
    Kind.CHAR: 0o020000,
    Kind.BLOCK: 0o060000,
    Kind.DIRECTORY: 0o040000,
    Kind.FIFO: 0o010000,
}
_KINDS = {value: kind for kind, value in _TYPES.items()}
_MAX = 2**32 - 1
_LINK = 0o777  # the mode of every symbolic link
_HEX = frozenset(b"0123456789abcdefABCDEF")
_LONGEST_NAME = 4096  # PATH_MAX, with the NUL


def write(entries: Iterable[Entry], out: SupportsWrite, copy: Copy) -> int:
    """Write an archive of ``entries``, in their order, to ``out``; give its size in bytes.

    ``copy`` writes contents.  Inode numbers count from 1; hard links share their file's number and
    attributes, and only the first has the contents.  A hard link to anything but a file becomes a copy of it.
    An entry with ``via`` becomes a symbolic link to that path, as in LinuxKit's initramfs.
    What newc cannot say: extended attributes are left out, times are held within 32 bits; FormatError for
    files of 4 GiB or more, too long names, and hard links whose file is not among ``entries`` before them.
    """
    listed = held(entries)
    links = Counter(entry.link for entry in listed if entry.kind is Kind.HARDLINK)
    written: dict[str, tuple[int, Entry]] = {}
    size = 0
    for number, entry in enumerate(listed, 1):
        if entry.kind is Kind.HARDLINK:
            inode, first = written[entry.link]
            twin = replace(first, path=entry.path, content=b"")
            size += _member(out, twin, inode, 1 + links[entry.link], copy)
            continue
        if entry.path in links:
            written[entry.path] = (number, entry)
        size += _member(out, entry, number, 1 + links[entry.path] if entry.kind is Kind.FILE else 1, copy)
    out.write(_header(TRAILER, nlink=1))
    return size + len(_header(TRAILER, nlink=1))


def held(entries: Iterable[Entry]) -> list[Entry]:
    """Give ``entries``, in their order, as an archive that ``write`` makes of them holds them.

    An entry with ``via`` is a symbolic link, a hard link to anything but a file a copy of it; of a file's
    names the first that is neither has the contents.  There are no extended attributes, and times are within
    32 bits.  Raises FormatError for a hard link whose file is not among ``entries`` before it.
    """
    listed = list(entries)
    linked = {entry.link for entry in listed if entry.kind is Kind.HARDLINK}
    firsts: dict[str, Entry] = {}
    return [_held(entry, linked, firsts) for entry in listed]


def _held(entry: Entry, linked: AbstractSet[str], firsts: dict[str, Entry]) -> Entry:
    """Give one entry of ``held``; ``firsts`` are the entries so far to which ``linked`` leads."""
    if entry.xattrs or not 0 <= entry.mtime <= _MAX:
        entry = replace(entry, xattrs=(), mtime=min(max(entry.mtime, 0), _MAX))
    if entry.path in linked:
        firsts[entry.path] = entry
    if entry.via:
        return _symbolic(entry)
    if entry.kind is not Kind.HARDLINK:
        return entry if entry.kind is not Kind.SYMLINK or entry.mode == _LINK else replace(entry, mode=_LINK)
    first = firsts.get(entry.link)
    if first is None:
        raise FormatError(f"a hard link to {entry.link!r}, which is not before it", where=entry.path)
    if first.kind is Kind.FILE and not first.via:
        return replace(first, path=entry.path, kind=Kind.HARDLINK, link=first.path, content=b"")
    own = replace(first, path=entry.path, via="", mode=_LINK if first.kind is Kind.SYMLINK else first.mode)
    if first.kind is Kind.FILE:
        firsts[entry.link] = own
    return own


def _symbolic(entry: Entry) -> Entry:
    """Give the symbolic link that stands for an indirect hard link; it belongs to root."""
    target = posixpath.relpath(f"/{entry.via}", f"/{posixpath.dirname(entry.path)}")
    return Entry(entry.path, Kind.SYMLINK, _LINK, mtime=entry.mtime, link=target)


def _member(out: SupportsWrite, entry: Entry, inode: int, links: int, copy: Copy) -> int:
    name = raw(entry.path) or b"."
    content = raw(entry.link) if entry.kind is Kind.SYMLINK else entry.content
    size = len(content) if isinstance(content, bytes) else content.size
    _check(entry, name, size)
    header = _header(
        name,
        ino=inode,
        mode=_TYPES[entry.kind] | entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        nlink=links,
        mtime=entry.mtime,
        filesize=size,
        rmaj=entry.major,
        rmin=entry.minor,
    )
    out.write(header)
    if not size:
        return len(header)
    copy(content, out)
    out.write(bytes(-size % 4))
    return len(header) + size + -size % 4


def _header(
    name: bytes,
    *,
    ino: int = 0,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    nlink: int = 0,
    mtime: int = 0,
    filesize: int = 0,
    rmaj: int = 0,
    rmin: int = 0,
) -> bytes:
    length = len(name) + 1
    fields = (ino, mode, uid, gid, nlink, mtime, filesize, 0, 0, rmaj, rmin, length, 0)
    return _FORMAT % fields + name + bytes(1 + -(HEADER.size + length) % 4)


def _check(entry: Entry, name: bytes, size: int) -> None:
    if size > _MAX:
        raise FormatError("a file of 4 GiB or more does not fit into an initramfs", where=entry.path)
    if len(name) >= _LONGEST_NAME or b"\0" in name or name == TRAILER:
        raise FormatError("no name for a member of a cpio archive", where=entry.path[:100])
    if not all(0 <= value <= _MAX for value in (entry.uid, entry.gid, entry.major, entry.minor)):
        raise FormatError("an owner or a device number of more than 32 bits", where=entry.path)


def read(file: BinaryIO, blob: Digest | None = None) -> Iterator[Entry]:
    """Give the members of the archives that ``file`` holds one after the other, NULs between them skipped.

    Contents are bytes, or slices of ``blob`` where that is given (``file`` then begins where the blob does).
    Files with one inode number become hard links to the first of them.  FormatError where the bytes are not
    newc cpio.
    """
    reader = _Reader(file, blob)
    while reader.skip_padding():
        yield from _joined(list(iter(reader.member, None)))


@dataclass(frozen=True, slots=True)
class _Member:
    """A member as read: ``inode`` is None where it stands alone."""

    entry: Entry
    inode: tuple[int, int, int] | None


def _joined(members: list[_Member]) -> Iterator[Entry]:
    """Make hard links of members that share an inode; whichever has the contents, the first gets them."""
    contents = {item.inode: item.entry.content for item in members if item.inode and item.entry.size}
    first: dict[tuple[int, int, int], str] = {}
    for item in members:
        if item.inode is None:
            yield item.entry
        elif item.inode in first:
            yield replace(item.entry, kind=Kind.HARDLINK, link=first[item.inode], content=b"")
        else:
            first[item.inode] = item.entry.path
            yield replace(item.entry, content=contents.get(item.inode, b""))


class _Reader:
    """Reads members; ``position`` counts from the beginning of the file."""

    def __init__(self, file: BinaryIO, blob: Digest | None) -> None:
        self._file = file
        self._blob = blob
        self._position = 0
        self._pushed = b""

    def skip_padding(self) -> bool:
        """Go to the next archive; give whether there is one."""
        while (data := self._take(4, short=True)) and not data.strip(b"\0"):
            pass
        self._pushed = data
        return bool(data)

    def member(self) -> _Member | None:
        """Give the next member, or None for the trailer."""
        where = f"byte {self._position - len(self._pushed)}"
        ino, mode, uid, gid, nlink, mtime, size, maj, minor, rmaj, rmin, length, _ = self._header(where)
        if not 1 < length <= _LONGEST_NAME:
            raise FormatError(f"a name of {length} bytes in a cpio archive", where=where)
        name = self._take(length)[:-1]
        self._take(-(HEADER.size + length) % 4)
        if name == TRAILER:
            return None
        kind = _KINDS.get(mode & 0o170000)
        if kind is None:
            raise FormatError(f"a member of type {mode & 0o170000:o} in a cpio archive", where=where)
        content, link = self._content(size, kind), ""
        if kind is Kind.SYMLINK and isinstance(content, bytes):
            content, link = b"", text(content)
        if b"\0" in name or "\0" in link or (content and kind is not Kind.FILE):
            raise FormatError("a NUL in a name, or contents of no file, in a cpio archive", where=where)
        path = normal(text(name))
        inode = (maj, minor, ino) if nlink > 1 and kind is Kind.FILE else None
        entry = Entry(path, kind, mode & 0o7777, uid, gid, mtime, link, rmaj, rmin, (), content)
        return _Member(entry, inode)

    def _header(self, where: str) -> list[int]:
        """Give the numbers of the next header."""
        header = self._pushed + self._take(HEADER.size - len(self._pushed))
        self._pushed = b""
        magic, *fields = HEADER.unpack(header)
        if magic not in (MAGIC, _MAGIC_CRC):
            raise FormatError("not the header of a newc cpio archive", where=where)
        if not all(_HEX.issuperset(field) for field in fields):
            raise FormatError("not a number in the header of a cpio archive", where=where)
        return [int(field, 16) for field in fields]

    def _content(self, size: int, kind: Kind) -> bytes | Slice:
        content: bytes | Slice
        if self._blob is None or kind is not Kind.FILE or not size:
            content = self._take(size)
        else:
            content = Slice(self._blob, self._position, size)
            self._skip(size)
        self._take(-size % 4, short=True)
        return content

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._take(min(size, 1 << 20)))

    def _take(self, size: int, short: bool = False) -> bytes:
        data = self._file.read(size)
        self._position += len(data)
        if len(data) < size and not short:
            raise FormatError("the cpio archive ends too early", where=f"byte {self._position}")
        return data
