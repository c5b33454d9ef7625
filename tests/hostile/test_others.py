"""Our reader held against libarchive and GNU tar, both ways: what it accepts, it reads as they do.

It may refuse more.  Where it reads something else, the reason is in ``DIFFERENT``.
"""

import gzip
import io
import itertools
import os
import random
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.formats import tar
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.streams import SupportsWrite
from tests.hostile import generated
from tests.hostile.headers import archive, member, pax
from tests.hostile.others import Seen, as_cpio, gnu_tar, libarchive, ours
from tests.hostile.test_images import CASES
from tests.images import Blobs
from tests.tools import tool

BLOB = Digest.of(b"")


def read(data: bytes) -> list[Seen] | None:
    try:
        return [ours(entry) for entry in tar.read(io.BytesIO(data), BLOB)]
    except LinuxKitError:
        return None


def differences(data: bytes) -> list[str]:
    """What libarchive or GNU tar reads otherwise than we, where they and we accept the archive."""
    mine = read(data)
    if mine is None:
        return []
    held = (("GNU tar", gnu_tar(data), mine), ("libarchive", libarchive(data), [*map(as_cpio, mine)]))
    return [f"{name}: {_unlike(theirs, ours)}" for name, theirs, ours in held if theirs not in (None, ours)]


def _unlike(theirs: list[Seen] | None, mine: list[Seen]) -> str:
    pairs = itertools.zip_longest(theirs or (), mine)
    return "; ".join(f"{one} where we see {other}" for one, other in pairs if one != other)


@pytest.mark.parametrize("part", range(4))
def test_sound_archives_are_read_alike(part: int, count: Callable[..., None]) -> None:
    """And so is what our writer makes of what our reader gives."""
    for seed in range(25 * part, 25 * part + 25):
        data = generated.sound(random.Random(seed))
        assert differences(data) == [], seed
        again = _written(list(tar.read(io.BytesIO(data), BLOB)), data)
        assert read(again) == read(data)
        assert gnu_tar(again) == read(data)
        assert differences(again) == [], seed
        count("archives compared with libarchive and GNU tar", 2)


@pytest.mark.parametrize("part", range(8))
def test_damaged_archives_are_refused_or_read_alike(part: int, count: Callable[..., None]) -> None:
    for seed in range(25 * part, 25 * part + 25):
        assert differences(generated.changed(random.Random(seed))) == [], seed
        count("archives compared with libarchive and GNU tar")


def test_hostile_layers_are_refused_or_read_alike(count: Callable[..., None]) -> None:
    found = []
    for theme, case in CASES:
        if theme not in ("names", "links", "fields", "overrides", "kinds") or case.name in DIFFERENT:
            continue
        blobs = Blobs()
        case.build(blobs)
        for data in (data for data in blobs.data.values() if data.startswith(b"\x1f\x8b")):
            found += [f"{case.name}: {text}" for text in differences(gzip.decompress(data))]
            count("archives compared with libarchive and GNU tar")
    assert found == []


DIFFERENT = {
    "a time before 1970 with a fraction": "we round down, as POSIX and Go do; the others towards zero",
    "up, but not out": "we undo the way up, the others list it as it is",
}
"""Archives that we accept and GNU tar or libarchive read otherwise, by the name of the case; and why."""

OWN = {
    "an empty owner by pax": (
        archive(pax(("uid", "")), member(uid=5)),
        "POSIX: an empty record takes itself back; to libarchive it is 0",
    ),
    "an empty time by pax": (
        archive(pax(("mtime", "")), member(mtime=5)),
        "POSIX: an empty record takes itself back; to libarchive it is 0",
    ),
    "an owner for all": (
        archive(pax(("uid", "7"), flag=b"g"), member(uid=5)),
        "POSIX: it holds for all members that follow; libarchive and Go do not heed it",
    ),
}
"""More of them, with the archives."""


@pytest.mark.parametrize("name", OWN)
def test_known_differences_are_still_there(name: str) -> None:
    """One that goes is to be taken out of the list."""
    data, reason = OWN[name]
    assert reason
    assert read(data) is not None
    assert differences(data) != []


FORMATS = [
    *(("gnutar", "usr/bin/tar", form) for form in ("v7", "ustar", "oldgnu", "gnu", "pax")),
    *(("bsdtar", "usr/bin/bsdtar", form) for form in ("v7tar", "ustar", "gnutar", "pax")),
]
SHORT = ("v7", "ustar", "oldgnu", "v7tar")
"""Formats for which names are kept short."""


def grown(root: Path, seed: int, form: str) -> Path:
    """A tree on disk with files, links, pipes and odd names."""
    chance, long, early = random.Random(seed), form not in SHORT, form in ("gnu", "pax")
    names = ["a", "b b", "ä\n", "-c", "x" * (90 if long else 20), "~", "#"]
    folders = [root]
    for number in range(30):
        path = chance.choice(folders) / f"{chance.choice(names)}{number}"
        kind = chance.choice("ffffddsl" + ("" if form in ("v7", "v7tar") else "p"))
        if kind == "d":
            path.mkdir()
            folders.append(path)
        elif kind == "s":
            path.symlink_to(chance.choice(("../x", "/abs", "t" * (180 if long else 80))))
        elif kind == "l" and (files := sorted(root.rglob("*file"))):
            path.hardlink_to(chance.choice(files))
        elif kind == "p":
            os.mkfifo(path)
        else:
            path = path.with_name(f"{path.name}file")
            path.write_bytes(chance.randbytes(chance.choice((0, 1, 511, 512, 513, 9999))))
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.is_symlink():
            path.chmod(chance.choice((0o755, 0o4711, 0o1777, 0o640)) | (0o700 if path.is_dir() else 0))
        moment = chance.choice((0, 1492533000, -86400 if early else 5))
        os.utime(path, ns=(0, moment * 10**9 + (500 if long and moment > 0 else 0)), follow_symlinks=False)
    return root


def on_disk(root: Path) -> dict[str, tuple[object, ...]]:
    """What the archive must say of each path; hard links by their inode."""
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        name = str(path.relative_to(root))
        link = str(path.readlink()) if path.is_symlink() else ""
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        owner, mode = (status.st_uid, status.st_gid), status.st_mode
        found[name] = (stat.S_IFMT(mode), mode & 0o7777, owner, status.st_mtime_ns // 10**9, link, content)
    return found


def in_archive(data: bytes) -> dict[str, tuple[object, ...]]:
    """The same of what our reader gives."""
    found: dict[str, tuple[object, ...]] = {}
    types = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO)
    modes = dict(zip((Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO), types, strict=True))
    for entry in tar.read(io.BytesIO(data), BLOB):
        if entry.kind is Kind.HARDLINK:
            found[entry.path] = found[entry.link]
        elif entry.path:
            owner, content = (entry.uid, entry.gid), _content(entry.content, data)
            found[entry.path] = (modes[entry.kind], entry.mode, owner, entry.mtime, entry.link, content)
    return found


@pytest.mark.parametrize(("name", "program", "form"), FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_what_others_write_of_a_tree_is_read(
    name: str, program: str, form: str, seed: int, tmp_path: Path, count: Callable[..., None]
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    grown(root, seed, form)
    command = [*tool(name, program), f"--format={form}", "-cf", "-", "-C", str(root), "."]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    assert in_archive(data) == on_disk(root)
    count("archives compared with libarchive and GNU tar")


def _content(content: bytes | Slice, data: bytes) -> bytes:
    return content if isinstance(content, bytes) else data[content.offset : content.offset + content.size]


def _written(entries: list[Entry], data: bytes) -> bytes:
    out = io.BytesIO()
    writer = tar.Writer(out)

    def copy(content: bytes | Slice, target: SupportsWrite) -> None:
        target.write(_content(content, data))

    for entry in entries:
        writer.add(entry, copy)
    writer.close()
    return out.getvalue()
