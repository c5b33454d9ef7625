"""Segments: parts of the initramfs, each a newc archive that is compressed on its own and padded to 4 bytes.

The kernel unpacks any number of them laid one after the other
(https://www.kernel.org/doc/html/latest/driver-api/early-userspace/buffer-format.html).  For archives of the
whole system a segment is a run of tar members without the archive's end, which can be laid so too.  The
segment of a root file system may be a list of several.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BufferedReader
from typing import Any, TypedDict

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import StoreError
from linuxkit_rules.formats import cpio, tar
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.buffers import BLOCK, page_buffer
from linuxkit_rules.formats.compression import LARGE, CompressedWriter, Compression, compressed
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.streams import Copy, SupportsWrite
from linuxkit_rules.stages.stage import Inputs, Stage
from linuxkit_rules.stages.support import OPTIONS, SUPPORT, chosen, load
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.values import dataclass

SEGMENT = "application/vnd.linuxkit-rules.segment.v1"
"""Media type of a segment, before the compression's suffix."""

MEMBERS = "application/vnd.linuxkit-rules.members.v1.tar"
"""Media type of a segment of tar members."""

ALIGNMENT = 4
FIXED_TIME = 1492533000
"""2017-04-18T16:30:00Z: LinuxKit's time for everything that it makes itself."""


class Form(enum.Enum):
    """What a segment is a part of."""

    CPIO = "cpio"
    """An initramfs."""

    TAR = "tar"
    """A tar archive, which keeps extended attributes; never compressed."""


@dataclass(frozen=True, kw_only=True)
class PackingStage(Stage):
    """A stage that writes a segment; how that is compressed, and by what, is in its key.

    ``compression`` None leaves it to the input ``support`` (the stage ``ramdisk-support``): the best that the
    kernel unpacks, and gzip where that is not known.  ``level`` 0 is the default; with ``release`` it is the
    one that takes time for size.
    """

    compression: Compression | None = Compression.ZSTD
    level: int = 0
    release: bool = False
    form: Form = Form.CPIO

    def is_remote(self) -> bool:
        """Its inputs are all that it reads."""
        return True

    def as_members(self) -> PackingStage:
        """Give the stage that packs the same entries as tar members."""
        return replace(self, form=Form.TAR, compression=Compression.NONE, level=0, release=False)

    def packed(self, entries: Iterable[Entry], inputs: Inputs, store: Store) -> Descriptor:
        """Write the segment of ``entries``, in their order, and give its descriptor.

        Raises FormatError where an entry does not fit into the archive, StoreError for a missing content,
        ImageError where the kernel could not unpack it.
        """
        if self.form is Form.TAR:
            return pack_members(entries, store)
        compression = self.chosen(inputs, store)
        return pack(without_boot(entries), store, compression, self.level_of(compression))

    def chosen(self, inputs: Inputs, store: Store) -> Compression:
        """Give how a segment of an initramfs is compressed.

        Raises ImageError where the kernel could not unpack it.
        """
        known = [load(store, item) for item in inputs.get(SUPPORT, ())]
        return chosen(self.compression, known[0] if known else None)

    def parameters(self) -> dict[str, Any]:
        """Give the fields, the levels that are meant, and the compressors' versions."""
        ways = [self.compression] if self.compression else list(OPTIONS)
        meant = {way.value: [self.level_of(way) or _rule(way), way.version] for way in ways}
        fields = {
            name: item for name, item in super().parameters().items() if name not in ("level", "release")
        }
        return {**fields, "compressor": meant}

    def level_of(self, compression: Compression) -> int:
        """Give the level that was asked for, 0 where none was."""
        return self.level or (compression.release_level if self.release else 0)


def _rule(compression: Compression) -> int | list[int]:
    """Give the default level, or where that depends on the size, both and the size that parts them."""
    small, large = compression.default_levels
    return small if small == large else [small, LARGE, large]


class Packing(TypedDict, total=False):
    """How a plan's stages pack: fields of ``PackingStage``."""

    compression: Compression | None
    level: int
    release: bool


def pack(
    entries: Iterable[Entry], store: Store, compression: Compression = Compression.ZSTD, level: int = 0
) -> Descriptor:
    """Write the segment of ``entries``, in their order, and give its descriptor.

    Level 0 is the default for that many bytes.  Raises FormatError where an entry does not fit into a cpio
    archive, StoreError where a content is missing.
    """
    entries = list(entries)
    level = level or compression.default_level(sum(entry.size for entry in entries))
    with store.writer() as writer, open_blobs(store) as copy:
        with compressed(writer, compression, level) as out:
            cpio.write(entries, out, copy)
        writer.write(bytes(-writer.size % ALIGNMENT))
        return writer.commit(SEGMENT + compression.suffix)


def without_boot(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Leave out what lies below boot, as LinuxKit does in an initramfs (pkg/initrd, CopySplitTar).

    A hard link to a file that is left out becomes that file.
    """
    gone: dict[str, Entry] = {}
    heirs: dict[str, str] = {}
    for entry in entries:
        if entry.path.startswith("boot/"):
            gone[entry.path] = entry
        elif entry.kind is Kind.HARDLINK and entry.link in gone:
            first = heirs.setdefault(entry.link, entry.path)
            yield replace(gone[entry.link], path=first) if first == entry.path else replace(entry, link=first)
        else:
            yield replace(entry, via="") if entry.via.startswith("boot/") else entry


def pack_members(entries: Iterable[Entry], store: Store) -> Descriptor:
    """Write ``entries`` as tar members, hard links after all that they can be links to, without an end."""
    with store.writer() as writer, open_blobs(store) as copy:
        archive, links = tar.Writer(writer), []
        for entry in entries:
            if entry.kind is Kind.HARDLINK:
                links.append(entry)
            else:
                archive.add(entry, copy)
        for entry in links:
            archive.add(entry, copy)
        return writer.commit(MEMBERS)


def parents(path: str) -> Iterator[Entry]:
    """Give the directories ``path`` and above it, the outermost first, as LinuxKit makes them."""
    parts = path.split("/") if path else []
    for count in range(1, len(parts) + 1):
        yield Entry("/".join(parts[:count]), Kind.DIRECTORY, 0o755, mtime=FIXED_TIME)


@contextlib.contextmanager
def open_blobs(store: Store) -> Iterator[Copy]:
    """Give what ``Store.copy`` does, with each blob opened once: for many files out of few layers."""
    with contextlib.ExitStack() as stack:
        files: dict[Digest, BufferedReader] = {}
        buffer = page_buffer(BLOCK)

        def copy(content: bytes | Slice, out: SupportsWrite) -> None:
            if isinstance(content, bytes):
                out.write(content)
                return
            file = files.get(content.digest)
            if file is None:
                file = files[content.digest] = stack.enter_context(store.open(content.digest))
            _copy_slice(file, content, out, buffer)

        yield copy


def _copy_slice(file: BufferedReader, content: Slice, out: SupportsWrite, buffer: memoryview) -> None:
    note(read=content.size)
    file.seek(content.offset)
    left, fill = content.size, out.fill if isinstance(out, CompressedWriter) else None
    while left:
        if fill:
            taken = fill(file, left)
        else:
            taken = file.readinto(buffer[:left])
            out.write(buffer[:taken])
        if not taken:
            raise StoreError(f"blob {content.digest} ends too early", hint="build again")
        left -= taken
