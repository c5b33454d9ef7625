"""What libarchive and GNU tar see in an archive, in the same words as our reader."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from linuxkit_rules.formats.entry import Entry, Kind
from tests.tools import tool

_KINDS = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.CHAR, Kind.BLOCK, Kind.FIFO, Kind.HARDLINK)
_LETTERS = dict(zip("-dlcbph", _KINDS, strict=True)) | {"C": Kind.FILE}
_FORMATS = dict(zip((8, 4, 10, 2, 6, 1, 0), _KINDS, strict=True))
"""Kinds by the upper bits of a mode; libarchive gives a hard link none."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\([0-7]{3}|.)")
_LINE = re.compile(r"(.)(\S{9})\S* (-?\d+)/(-?\d+)\s+(\d+|\d+,\s*\d+) (\S+ \S+) (.*)")


@dataclass(frozen=True)
class Seen:
    """What one reader says of one member; ``size`` is that of a file, ``device`` that of a device."""

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    link: str = ""
    device: tuple[int, int] = (0, 0)


def ours(entry: Entry) -> Seen:
    device = (entry.major, entry.minor)
    head = (entry.path, entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime)
    return Seen(*head, entry.size, entry.link, device)


def libarchive(data: bytes) -> list[Seen] | None:
    """What bsdtar sees, by way of a cpio archive, which says no more of a hard link than that it is one.

    None where it complains.
    """
    done = _run([*tool("bsdtar", "usr/bin/bsdtar"), "-cf", "-", "--format=newc", "@-"], data)
    return None if done.returncode else list(_members(done.stdout))


def _members(data: bytes) -> Iterator[Seen]:
    at = 0
    while True:
        _, mode, uid, gid, _, mtime, size, _, _, major, minor, length, _ = (
            int(data[place : place + 8], 16) for place in range(at + 6, at + 110, 8)
        )
        name = data[at + 110 : at + 109 + length]
        start = at + 110 + length + -(110 + length) % 4
        content = data[start : start + size]
        at = start + size + -size % 4
        if name == b"TRAILER!!!":
            return
        kind = _FORMATS[mode >> 12 & 15]
        yield Seen(
            path=_normal(name.decode("utf-8", "surrogateescape")),
            kind=kind,
            mode=mode & 0o7777,
            uid=uid,
            gid=gid,
            mtime=mtime,
            size=size if kind is Kind.FILE else 0,
            link=content.decode("utf-8", "surrogateescape") if kind is Kind.SYMLINK else "",
            device=(major, minor),
        )


def as_cpio(seen: Seen) -> Seen:
    """What of ``seen`` a cpio archive can say."""
    link = seen.link if seen.kind is Kind.SYMLINK else ""
    mtime = seen.mtime if 0 <= seen.mtime < 2**32 else 2**32 - 1
    return replace(seen, mtime=mtime, link=link)


def gnu_tar(data: bytes) -> list[Seen] | None:
    """What GNU tar sees; None where it complains."""
    options = ["--numeric-owner", "--full-time", "--quoting-style=c", "-Ptvvf", "-"]
    done = _run([*tool("gnutar", "usr/bin/tar"), *options], data)
    if done.returncode:
        return None
    return [_from_listing(line) for line in done.stdout.decode("utf-8", "surrogateescape").splitlines()]


def _from_listing(line: str) -> Seen:
    match = _LINE.fullmatch(line)
    assert match, f"no line of a listing: {line!r}"
    letter, rights, uid, gid, size, time, names = match.groups()
    kind = _LETTERS[letter]
    found = [_plain(name) for name in _QUOTED.findall(names)]
    numbers = tuple(int(part) for part in size.split(","))
    link = found[1] if len(found) > 1 else ""
    return Seen(
        path=_normal(found[0]),
        kind=kind,
        mode=_mode(rights),
        uid=int(uid),
        gid=int(gid),
        mtime=_seconds(time),
        size=numbers[0] if kind is Kind.FILE else 0,
        link=_normal(link) if kind is Kind.HARDLINK else link,
        device=(numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0),
    )


def _run(command: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    environment = {"TZ": "UTC", "LC_ALL": "C"}
    return subprocess.run(command, input=data, capture_output=True, env=environment, timeout=60)


def _seconds(text: str) -> int:
    """Give the seconds since 1970; the calendar comes again every 400 years, and Python's ends with 9999."""
    year, rest = text.split(".")[0].split("-", 1)
    cycles = max(0, (int(year) - 9600) // 400)
    text = f"{int(year) - 400 * cycles:04}-{rest}"
    moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) + cycles * 146_097 * 86_400


def _mode(rights: str) -> int:
    mode = sum(1 << (8 - place) for place, sign in enumerate(rights) if sign in "rwxst")
    return mode | sum(
        bit for place, bit in ((2, 0o4000), (5, 0o2000), (8, 0o1000)) if rights[place] in "sStT"
    )


def _plain(text: str) -> str:
    """Undo the escapes of C."""

    def undone(match: re.Match[str]) -> str:
        sign = match[1]
        if len(sign) == 3:
            return chr(int(sign, 8)) if int(sign, 8) < 128 else bytes([int(sign, 8)]).decode("latin-1")
        return {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}.get(sign, sign)

    return _ESCAPE.sub(undone, text).encode("latin-1", "surrogateescape").decode("utf-8", "surrogateescape")


def _normal(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))
