"""The ar archive, as far as Debian packages use it.

deb(5) and ar(5): the common format, member names of at most 16 characters, optionally ended by a slash, no
symbol table and no long names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from linuxkit_rules.errors import FormatError
from linuxkit_rules.values import dataclass

MAGIC = b"!<arch>\n"
_HEADER = 60
_END = b"`\n"
_MOST_MEMBERS = 1_000


@dataclass(frozen=True, slots=True)
class Member:
    """A member: its name, and where its bytes lie in the archive."""

    name: str
    offset: int
    size: int


def read(file: BinaryIO, size: int) -> Iterator[Member]:
    """Read the members of an archive of ``size`` bytes; raise FormatError where it is not whole.

    ``file`` must be seekable; the bytes of members are skipped.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise FormatError("not an ar archive")
    place = len(MAGIC)
    for _ in range(_MOST_MEMBERS):
        if place >= size:
            return
        file.seek(place)
        member = _header(file.read(_HEADER), place + _HEADER)
        if member.offset + member.size > size:
            raise FormatError(f"the ar archive ends within {member.name!r}")
        yield member
        place = member.offset + member.size + member.size % 2
    raise FormatError(f"the ar archive has more than {_MOST_MEMBERS} members")


def _header(raw: bytes, offset: int) -> Member:
    """Read a header: name 16, mtime 12, uid 6, gid 6, mode 8, size 10, then a back quote and a line feed."""
    if len(raw) != _HEADER or raw[58:] != _END:
        raise FormatError("an ar member's header is damaged")
    name, size = raw[:16].rstrip(b" ").removesuffix(b"/"), raw[48:58].rstrip(b" ")
    if not name or not name.isascii() or not size.isdigit():
        raise FormatError("an ar member has no proper name or size")
    return Member(name.decode("ascii"), offset, int(size))


def write(out: BinaryIO, members: list[tuple[str, bytes]]) -> None:
    """Write an archive; times and owners are 0, modes 0644."""
    out.write(MAGIC)
    for name, content in members:
        out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}".encode("ascii") + _END)
        out.write(content + b"\n" * (len(content) % 2))
