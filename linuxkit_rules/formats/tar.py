"""Tar archives, read strictly and within bounds, and written the same way each time.

ustar, pax and GNU's long names and numbers are read; ustar is written, with pax headers only where it falls
short.  Extended attributes are the pax records ``SCHILY.xattr.<name>``.  Sparse files are refused: a slice
cannot say them.  The fields and their specifications are in ``tar_header``.

Where readers in the field (GNU tar, libarchive, Go) see different members in the same bytes, an archive is
refused: two programs that look at it must not see two trees (CVE-2025-62518).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import FormatError, one_line
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.formats.streams import Copy, SupportsWrite
from linuxkit_rules.formats.tar_header import (
    BLOCK,
    HEADER,
    USTAR,
    XATTR,
    ZEROS,
    Fields,
    Pax,
    checksum_matches,
    device_of,
    identity,
    kind_of,
    mtime_of,
    name_of,
    normal,
    number,
    octal,
    padded,
    raw,
    record,
    records,
    size_of,
    text,
    xattrs_of,
)

_EXTENSIONS = frozenset((b"x", b"g", b"L", b"K"))
_SHARED_KEYS = frozenset((b"uid", b"gid", b"mtime"))
_OWN_KEYS = frozenset((b"path", b"linkpath", b"size"))
_NONE: Pax = {}
_OCTAL7, _OCTAL11 = 0o7777777, 0o77777777777


def read(file: BinaryIO, blob: Digest, limits: Limits = DEFAULT_LIMITS) -> Iterator[Entry]:
    """Give the members of the seekable, uncompressed archive ``file``, whose digest is ``blob``.

    Contents are slices of ``blob``.  Paths are made normal: ``.`` parts and outer slashes go, ``..`` takes a
    part back.  FormatError: a path that leaves the archive or is empty; a header damaged, of an unknown
    type, or beyond ``limits``, or an archive that ends inside a member.  A missing trailer is accepted.
    """
    return _Reader(file, blob, limits).entries()


class _Reader:
    """One pass over the headers; ``position`` is that of the next header."""

    def __init__(self, file: BinaryIO, blob: Digest, limits: Limits) -> None:
        self._file = file
        self._blob = blob
        self._limits = limits
        self._end = file.seek(0, 2)
        self._position = 0
        self._own: dict[bytes, bytes] = {}
        self._shared: dict[bytes, bytes] = {}
        self._own_size = 0
        self._own_flags = b""
        self._metadata = 0
        if self._end > limits.total:
            raise limits.excess("total", f"a tar archive of {self._end} bytes")

    def entries(self) -> Iterator[Entry]:
        count = 0
        while (fields := self._header()) is not None:
            if fields[7] in _EXTENSIONS:
                self._extend(fields)
                continue
            count += 1
            if count > self._limits.entries:
                raise self._limits.excess("entries", f"a tar archive of {count} members")
            entry = self._entry(fields, self._pax() if self._shared or self._own_flags else _NONE)
            self._metadata += entry.metadata
            if self._metadata > self._limits.metadata:
                what, where = f"names and attributes of {self._metadata} bytes", _shown(entry.path)
                raise self._limits.excess("metadata", what, where=where)
            yield entry
        if self._own_flags:
            raise FormatError("the tar archive ends after an extension header")

    def _header(self) -> Fields | None:
        """Give the next header's fields, or None at the end of the archive."""
        self._file.seek(self._position)
        block = self._file.read(BLOCK)
        if not block:
            return None
        if len(block) < BLOCK:
            raise FormatError(f"the tar archive ends inside a header at byte {self._position}")
        if block == ZEROS:
            self._trailer()
            return None
        fields = HEADER.unpack(block)
        if not checksum_matches(block, fields[6]):
            raise FormatError(f"not a tar header at byte {self._position}: its checksum does not match")
        self._position += BLOCK
        return fields

    def _trailer(self) -> None:
        second = self._file.read(BLOCK)
        if second.strip(b"\0"):
            raise FormatError(f"the tar archive goes on after a block of zeros at byte {self._position}")

    def _extend(self, fields: Fields) -> None:
        """Take in what an extension header says of the next member (or, for ``g``, of all that follow)."""
        flag, data = fields[7], self._extension(fields)
        if flag in self._own_flags or (flag == b"g" and self._own_flags):
            raise FormatError(f"an extension header too many at byte {self._position}")
        if flag == b"g":
            self._shared.update(_shared(data))
            return
        self._own_flags += flag
        if flag == b"x":
            found = dict(records(data))
            if any(found.get(key) == b"" for key in _OWN_KEYS):
                raise FormatError(f"an empty name or size in a pax header at byte {self._position}")
        else:
            name = data.split(b"\0", 1)[0]
            if not name:
                raise FormatError(f"an empty long name at byte {self._position}")
            found = {b"path" if flag == b"L" else b"linkpath": name}
        if not self._own.keys().isdisjoint(found):
            raise FormatError(f"a name given twice, by pax and by GNU, at byte {self._position}")
        self._own.update(found)

    def _extension(self, fields: Fields) -> bytes:
        """Give the contents of an extension header and go past them."""
        size = number(fields[4])
        if size < 0:
            raise FormatError(f"an extension header of {size} bytes at byte {self._position - BLOCK}")
        self._own_size += size
        if self._own_size > self._limits.extension:
            what = f"an extension header of {size} bytes at byte {self._position - BLOCK}"
            raise self._limits.excess("extension", what)
        data = self._file.read(size)
        if len(data) < size:
            raise FormatError(f"the tar archive ends inside an extension header at byte {self._position}")
        self._position += padded(size)
        return data

    def _pax(self) -> Pax:
        """Give the records for one member and forget its own; an empty value takes a record back."""
        merged = {**self._shared, **self._own}
        self._own, self._own_size, self._own_flags = {}, 0, b""
        return {key: value for key, value in merged.items() if value or key.startswith(XATTR)}

    def _entry(self, fields: Fields, pax: Pax) -> Entry:
        name = pax.get(b"path") or name_of(fields)
        try:
            return self._member(name, fields, pax)
        except FormatError as error:
            raise FormatError(error.message, where=_shown(text(name)), hint=error.hint) from None

    def _member(self, name: bytes, fields: Fields, pax: Pax) -> Entry:
        path, kind = normal(self._name(name)), kind_of(name, fields[7])
        if path.count("/") >= self._limits.depth:
            raise self._limits.excess("depth", f"a path of {path.count('/') + 1} parts")
        content: bytes | Slice = b""
        link, major, minor = "", 0, 0
        size = size_of(fields, pax)
        if kind is Kind.FILE:
            content = self._content(size)
        elif size:
            raise FormatError(f"a {kind.name.lower()} with contents of {size} bytes")
        elif kind is Kind.SYMLINK or kind is Kind.HARDLINK:
            link = self._name(pax.get(b"linkpath") or fields[8].split(b"\0", 1)[0])
            link = normal(link) if kind is Kind.HARDLINK else link
        elif kind is Kind.CHAR or kind is Kind.BLOCK:
            major, minor = device_of(fields, pax)
        if not path and kind is not Kind.DIRECTORY:
            raise FormatError("the root of an archive must be a directory")
        mode = octal(fields[1]) & 0o7777
        uid, gid = identity(fields[2], pax, b"uid"), identity(fields[3], pax, b"gid")
        xattrs = self._xattrs(pax) if pax else ()
        return Entry(path, kind, mode, uid, gid, mtime_of(fields, pax), link, major, minor, xattrs, content)

    def _xattrs(self, pax: Pax) -> tuple[tuple[str, bytes], ...]:
        found = xattrs_of(pax)
        if len(found) > self._limits.xattrs:
            raise self._limits.excess("xattrs", f"{len(found)} extended attributes")
        for name, value in found:
            if not name or "\0" in name:
                raise FormatError(f"{one_line(repr(name))} is no name of an extended attribute")
            if len(value) > self._limits.xattr:
                raise self._limits.excess("xattr", f"the attribute {one_line(name)} of {len(value)} bytes")
        return found

    def _content(self, size: int) -> bytes | Slice:
        offset = self._position
        if offset + size > self._end:
            raise FormatError("the tar archive ends inside its contents")
        self._position += padded(size)
        return Slice(self._blob, offset, size) if size else b""

    def _name(self, name: bytes) -> str:
        if len(name) > self._limits.name:
            raise self._limits.excess("name", f"a name of {len(name)} bytes")
        if not name or b"\0" in name:
            raise FormatError("a NUL in a name" if name else "an empty name")
        return text(name)


def _shown(name: str) -> str:
    return f"entry {one_line(repr(name))}"


def _shared(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give what a global header says of the members that follow; FormatError where it says which they are."""
    for key, value in records(data):
        if key in _OWN_KEYS or key.startswith(XATTR):
            raise FormatError(f"a global header that says {text(key)} of all members")
        if key in _SHARED_KEYS:
            yield key, value


class Writer:
    """Writes entries to ``out`` as ustar; equal entries give equal bytes."""

    def __init__(self, out: SupportsWrite) -> None:
        self._out = out

    def add(self, entry: Entry, copy: Copy) -> None:
        """Append ``entry``; ``copy`` writes its content.  FormatError: something that no tar can say."""
        name, link = raw(entry.path) or b".", raw(entry.link)
        name += b"/" if entry.kind is Kind.DIRECTORY else b""
        pax = b"".join(record(key, value) for key, value in _needed(entry, name, link))
        if pax:
            self._block(b"././@PaxHeader", b"x", size=len(pax))
            self._out.write(pax.ljust(padded(len(pax)), b"\0"))
        head, tail = _split(name) or (b"", name[:100])
        if not 0 <= entry.major <= _OCTAL7 or not 0 <= entry.minor <= _OCTAL7:
            raise FormatError(f"device {entry.major}:{entry.minor} is out of range", where=entry.path)
        fields = (entry.mode, _octal7(entry.uid), _octal7(entry.gid), entry.size, _octal11(entry.mtime))
        device = (entry.major, entry.minor)
        self._block(tail, entry.kind.value.encode(), *fields, link=link[:100], device=device, prefix=head)
        copy(entry.content, self._out)
        self._out.write(bytes(-entry.size % BLOCK))

    def close(self) -> None:
        """Write the trailer: two blocks of zeros."""
        self._out.write(ZEROS * 2)

    def _block(
        self,
        name: bytes,
        flag: bytes,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime: int = 0,
        *,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
        prefix: bytes = b"",
    ) -> None:
        numbers = (b"%07o\0" % mode, b"%07o\0" % uid, b"%07o\0" % gid, b"%011o\0" % _octal11(size))
        times = (b"%011o\0" % mtime, b" " * 8, flag, link, USTAR, b"", b"")
        devices = (b"%07o\0" % device[0], b"%07o\0" % device[1])
        block = HEADER.pack(name, *numbers, *times, *devices, prefix, b"")
        self._out.write(block[:148] + b"%06o\0 " % sum(block) + block[156:])


def _needed(entry: Entry, name: bytes, link: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the pax records for what ustar cannot say of ``entry``."""
    if _split(name) is None:
        yield b"path", name
    if len(link) > 100:
        yield b"linkpath", link
    if entry.size > _OCTAL11:
        yield b"size", b"%d" % entry.size
    for key, value in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if value != _octal7(value):
            yield key, b"%d" % value
    if entry.mtime != _octal11(entry.mtime):
        yield b"mtime", b"%d" % entry.mtime
    for key_text, value_bytes in entry.xattrs:
        yield XATTR + raw(key_text), value_bytes


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Give prefix and name fields for ``name``, or None where it does not fit."""
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", max(len(name) - 101, 1), min(156, len(name) - 1))
    return None if cut < 0 else (name[:cut], name[cut + 1 :])


def _octal7(value: int) -> int:
    return value if 0 <= value <= _OCTAL7 else 0


def _octal11(value: int) -> int:
    return value if 0 <= value <= _OCTAL11 else 0
