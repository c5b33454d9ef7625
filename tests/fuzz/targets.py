"""One function for each parser that reads what others wrote.

Whatever the bytes are, it gives a value that is sound, or raises a LinuxKitError; anything else is a find.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.formats import cpio, tar
from linuxkit_rules.formats.compression import decompressed
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.limits import Limits
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.config import ImageSettings
from linuxkit_rules.oci.image import diff_ids
from linuxkit_rules.oci.layers import flatten
from linuxkit_rules.oci.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    Index,
    Platform,
    load_object,
    parse,
    require_image,
)
from linuxkit_rules.spec import linuxkit

BLOB = Digest.of(b"")
LIMITS = Limits(entries=500, total=4 << 20, extension=1 << 16, members=100, depth=64)
AMD64 = Platform("linux", "amd64")
TYPES = (None, MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)


def tar_archive(data: bytes) -> None:
    """A stream, or with a first byte that is odd an archive whose checksums are put right; as two layers."""
    if not data:
        return
    plain = _checked(data[1:]) if data[0] & 1 else b"".join(decompressed(io.BytesIO(data[1:]), LIMITS))
    entries = list(tar.read(io.BytesIO(plain), BLOB, LIMITS))
    for entry in entries:
        _check(entry, len(plain))
    whole = [replace(entry, content=_bytes(entry.content, plain)) for entry in entries]
    written = _written(whole)
    again = list(tar.read(io.BytesIO(written), BLOB, LIMITS))
    assert [replace(entry, content=_bytes(entry.content, written)) for entry in again] == whole
    cut = data[0] >> 1
    tree = flatten((whole[:cut], whole[cut:]), limits=LIMITS)
    _check_tree(tree)
    _check_segment([entry for path, entry in tree.items() if path])


def cpio_archive(data: bytes) -> None:
    """An archive that is read, and what is read written and read again."""
    entries = list(cpio.read(io.BytesIO(data)))
    for entry in entries:
        _check(entry, len(data))
    if len({entry.path for entry in entries}) == len(entries):
        _check_segment(entries)


def manifest(data: bytes) -> None:
    """A manifest, index or configuration, announced as what the first byte chooses."""
    if not data:
        return
    with contextlib.suppress(LinuxKitError):
        ImageSettings.from_json(load_object(data[1:], "image"), "image")
    value = parse(data[1:], TYPES[data[0] % len(TYPES)], "image")
    assert parse(value.to_bytes(), value.media_type, "image") == value
    if isinstance(value, Index):
        assert value.select(AMD64, "image") in value.members
    else:
        with contextlib.suppress(LinuxKitError):
            require_image(value, "image")
        assert len(diff_ids(data[1:], value, AMD64, "image")) == len(value.layers)


def yaml(data: bytes) -> None:
    """LinuxKit's YAML."""
    linuxkit.loads(data, "fuzz.yml")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "tar": tar_archive,
    "cpio": cpio_archive,
    "manifest": manifest,
    "yaml": yaml,
}


def _check(entry: Entry, size: int) -> None:
    parts = entry.path.split("/")
    assert entry.path == "" or not {"", ".", ".."} & set(parts)
    assert "\0" not in entry.path + entry.link
    assert 0 <= entry.mode <= 0o7777
    assert 0 <= entry.uid < 2**32
    assert 0 <= entry.gid < 2**32
    if isinstance(entry.content, Slice):
        assert 0 < entry.content.size <= size - entry.content.offset


def _check_tree(tree: dict[str, Entry]) -> None:
    """Parents are directories that come before; hard links name a file that does."""
    seen: dict[str, Entry] = {"": Entry("", Kind.DIRECTORY)}
    for path, entry in tree.items():
        assert entry.path == path
        assert seen[path.rpartition("/")[0]].kind is Kind.DIRECTORY
        assert entry.kind is not Kind.HARDLINK or seen[entry.link].kind not in (Kind.HARDLINK, Kind.DIRECTORY)
        seen[path] = entry


def _check_segment(entries: list[Entry]) -> None:
    """What is written as a segment is read back, as far as newc can say it."""
    out = io.BytesIO()
    assert cpio.write(entries, out, _copy) == len(out.getvalue())
    again = list(cpio.read(io.BytesIO(out.getvalue())))
    assert [entry.path for entry in again] == [entry.path for entry in entries]
    for before, after in zip(entries, again, strict=True):
        if before.kind is Kind.FILE and not before.via:
            assert (after.kind, after.mode, after.uid) == (before.kind, before.mode, before.uid)
            assert after.content == before.content


def _checked(data: bytes) -> bytes:
    """Give each block of ``data`` the checksum that it would have as a header."""
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    return b"".join(_with_checksum(block) if len(block) == 512 else block for block in blocks)


def _with_checksum(block: bytes) -> bytes:
    if not block.strip(b"\0") or block[148:149] == b"!":
        return block
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def _written(entries: list[Entry]) -> bytes:
    out = io.BytesIO()
    writer = tar.Writer(out)
    for entry in entries:
        writer.add(entry, _copy)
    writer.close()
    return out.getvalue()


def _bytes(content: bytes | Slice, data: bytes) -> bytes:
    return content if isinstance(content, bytes) else data[content.offset : content.offset + content.size]


def _copy(content: bytes | Slice, out: SupportsWrite) -> None:
    assert isinstance(content, bytes)
    out.write(content)


def sound(target: str, data: bytes) -> None:
    """Run one target on one input; anything but a LinuxKitError gets out."""
    with contextlib.suppress(LinuxKitError):
        TARGETS[target](data)
