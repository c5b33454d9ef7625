"""ELF: what a program needs to be loaded, and what a kernel module says of itself.

System V ABI, https://www.sco.com/developers/gabi/latest/contents.html: chapter 4 has the ELF header and the
section header table, chapter 5 the program header and the dynamic section.  Reading only; every offset and
count is checked against the bytes that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from linuxkit_rules.errors import FormatError
from linuxkit_rules.values import dataclass

MAGIC = b"\x7fELF"

ET_REL = 1
ET_EXEC = 2
ET_DYN = 3

EM_386 = 3
EM_X86_64 = 62
EM_AARCH64 = 183

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 14, 15, 29
_SHT_NOBITS = 8

_MOST_HEADERS = 65_536
_MOST_ENTRIES = 65_536
_LONGEST_STRING = 4_096

# e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize e_phentsize e_phnum e_shentsize e_shnum
# e_shstrndx
_HEADER = {32: "HHIIIIIHHHHHH", 64: "HHIQQQIHHHHHH"}
# 32: p_type p_offset p_vaddr p_paddr p_filesz …; 64: p_type p_flags p_offset p_vaddr p_paddr p_filesz …
_PROGRAM = {32: "IIIIIIII", 64: "IIQQQQQQ"}
# sh_name sh_type sh_flags sh_addr sh_offset sh_size sh_link sh_info sh_addralign sh_entsize
_SECTION = {32: "IIIIIIIIII", 64: "IIQQQQIIQQ"}
_DYNAMIC = {32: "iI", 64: "qQ"}


@dataclass(frozen=True, slots=True)
class Elf:
    """An object file's identity and what the dynamic linker reads of it.

    ``bits`` is 32 or 64, ``machine`` an ``EM_`` number and ``kind`` an ``ET_`` number.  ``runpath`` holds
    the folders of DT_RUNPATH, or of DT_RPATH where that is absent, as written (``$ORIGIN`` is kept).
    """

    bits: int
    machine: int
    kind: int
    interpreter: str | None = None
    soname: str | None = None
    needed: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


class _Image:
    """The bytes of an object file with its header read."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        ident = bytes(self.take(0, 16))
        if ident[:4] != MAGIC:
            raise FormatError("not an ELF file")
        self.bits = {1: 32, 2: 64}.get(ident[4], 0)
        self.order = {1: "<", 2: ">"}.get(ident[5], "")
        if not self.bits or not self.order or ident[6] != 1:
            raise FormatError("an ELF file of unknown class, byte order or version")
        header = self.unpack(_HEADER[self.bits], 16)
        self.kind, self.machine = header[0], header[1]
        self.programs = (header[4], header[8], header[9])
        self.sections = (header[5], header[10], header[11])
        self.names = header[12]

    def take(self, offset: int, size: int) -> memoryview:
        """Give ``size`` bytes from ``offset`` on; raise FormatError where the file ends before."""
        if offset + size > len(self.data):
            raise FormatError("the ELF file is cut off")
        return self.data[offset : offset + size]

    def unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        layout = self.order + layout
        return struct.unpack(layout, self.take(offset, struct.calcsize(layout)))

    def table(self, place: tuple[int, int, int], layout: str) -> Iterator[tuple[int, ...]]:
        """Read a header table given as (offset, entry size, count)."""
        offset, size, count = place
        if count and (size < struct.calcsize(self.order + layout) or count > _MOST_HEADERS):
            raise FormatError("an ELF header table of impossible size")
        if size == struct.calcsize(self.order + layout):
            yield from struct.iter_unpack(self.order + layout, self.take(offset, count * size))
            return
        for number in range(count):
            yield self.unpack(layout, offset + number * size)

    def segments(self) -> Iterator[_Segment]:
        for row in self.table(self.programs, _PROGRAM[self.bits]):
            yield _Segment(
                row[0], *((row[1], row[2], row[4]) if self.bits == 32 else (row[2], row[3], row[5]))
            )

    def string(self, table: memoryview, offset: int) -> str:
        """Read the NUL-terminated string at ``offset`` of a string table."""
        raw = bytes(table[offset : offset + _LONGEST_STRING])
        end = raw.find(b"\0")
        if end < 0:
            raise FormatError("an ELF string without end")
        return raw[:end].decode("utf-8", "surrogateescape")


def read(data: bytes | memoryview) -> Elf:
    """Read an object file; raise FormatError where it is none or its tables make no sense."""
    image = _Image(data)
    segments = list(image.segments())
    interpreter = next((_interpreter(image, item) for item in segments if item.kind == _PT_INTERP), None)
    dynamic = next((item for item in segments if item.kind == _PT_DYNAMIC and item.size), None)
    tags = _dynamic(image, dynamic) if dynamic else []
    strings = _strings(image, segments, dict(tags)) if tags else memoryview(b"")

    def texts(tag: int) -> tuple[str, ...]:
        return tuple(image.string(strings, value) for number, value in tags if number == tag)

    paths = texts(_DT_RUNPATH) or texts(_DT_RPATH)
    return Elf(
        bits=image.bits,
        machine=image.machine,
        kind=image.kind,
        interpreter=interpreter,
        soname=next(iter(texts(_DT_SONAME)), None),
        needed=texts(_DT_NEEDED),
        runpath=tuple(folder for path in paths for folder in path.split(":") if folder),
    )


def _interpreter(image: _Image, segment: _Segment) -> str:
    return image.string(image.take(segment.offset, min(segment.size, _LONGEST_STRING)), 0)


def _dynamic(image: _Image, segment: _Segment) -> list[tuple[int, int]]:
    """Read the dynamic section up to DT_NULL."""
    layout = image.order + _DYNAMIC[image.bits]
    width = struct.calcsize(layout)
    size = min(segment.size - segment.size % width, width * _MOST_ENTRIES)
    tags: list[tuple[int, int]] = []
    for tag, value in struct.iter_unpack(layout, image.take(segment.offset, size)):
        if tag == _DT_NULL:
            break
        tags.append((tag, value))
    return tags


def _strings(image: _Image, segments: list[_Segment], tags: dict[int, int]) -> memoryview:
    """Find the dynamic string table: DT_STRTAB is an address, so a PT_LOAD says where it is in the file."""
    address, size = tags.get(_DT_STRTAB), tags.get(_DT_STRSZ, 0)
    if address is None:
        return memoryview(b"")
    for item in segments:
        if item.kind == _PT_LOAD and item.address <= address < item.address + item.size:
            return image.take(item.offset + address - item.address, size)
    raise FormatError("the ELF file's DT_STRTAB lies in no segment")


def section(data: bytes | memoryview, name: str) -> memoryview | None:
    """Give the bytes of the first section called ``name``, or None; raise FormatError for broken tables."""
    image = _Image(data)
    rows = list(image.table(image.sections, _SECTION[image.bits]))
    if not rows:
        return None
    if image.names >= len(rows):
        raise FormatError("the ELF file's e_shstrndx names no section")
    names = bytes(image.take(rows[image.names][4], rows[image.names][5]))
    wanted = name.encode() + b"\0"
    for row in rows:
        if row[1] != _SHT_NOBITS and names.startswith(wanted, row[0]):
            return image.take(row[4], row[5])
    return None


def modinfo(data: bytes | memoryview) -> tuple[tuple[str, str], ...]:
    """Give what a kernel module says of itself: the ``tag=value`` strings of its ``.modinfo`` section.

    Linux, include/linux/moduleparam.h (``__MODULE_INFO``).  A file without that section gives nothing.
    """
    content = section(data, ".modinfo")
    return parse_modinfo(bytes(content)) if content is not None else ()


def parse_modinfo(content: bytes) -> tuple[tuple[str, str], ...]:
    """Split NUL-separated ``tag=value`` strings, in their order."""
    texts = (item.decode("utf-8", "surrogateescape") for item in content.split(b"\0") if item)
    pairs = (text.partition("=") for text in texts)
    return tuple((tag, value) for tag, equals, value in pairs if equals)
