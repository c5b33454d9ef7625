"""Stage ``iso``: an ISO that boots kernel and initrd, from CD and as a disk, under BIOS, EFI or both.

Kernel and initrd are stored once.  For EFI they lie in a FAT image, the EFI system partition, at the end of
the ISO: El Torito's EFI entry and the MBR's partition of type 0xEF name that image, and the ISO 9660
records of all its files point into it, so isolinux reads the same bytes as systemd-boot.  For BIOS alone
they are plain files.
"""

from __future__ import annotations

import enum
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import SpecError
from linuxkit_rules.formats import iso9660, mbr
from linuxkit_rules.formats.entry import Entry, Slice
from linuxkit_rules.formats.fat import Extent, File, Layout
from linuxkit_rules.formats.fat_sectors import Volume
from linuxkit_rules.formats.streams import Copy, SupportsWrite
from linuxkit_rules.installed import version
from linuxkit_rules.stages.esp import check_cmdline, cluster_for, esp_files, isolinux_cfg, payload, tool
from linuxkit_rules.stages.iso_master import EFI_IMAGE, direct, iso_path, master
from linuxkit_rules.stages.pack import FIXED_TIME
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine, Inputs, Stage, as_json
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.pieces import BLOCK, Assembly, assembling
from linuxkit_rules.values import dataclass

ISO = "application/vnd.linuxkit-rules.iso.v1"
"""Media type of an ISO."""

_ISOLINUX, _SYSTEMD_BOOT = "isolinux", "systemd-boot"
_ISOLINUX_BIN = "/ISOLINUX/ISOLINUX.BIN"
_ISOLINUX_FILES = {
    _ISOLINUX_BIN: "usr/lib/ISOLINUX/isolinux.bin",
    "/ISOLINUX/LDLINUX.C32": "usr/lib/syslinux/modules/bios/ldlinux.c32",
}
_MBR_CODE = "usr/lib/ISOLINUX/isohdpfx.bin"
_SERIALS = 1  # not the stage's version, which may rise while an ISO's bytes stay
_NO_BIOS = b"\xcd\x18\xf4\xeb\xfd"  # int 18h: let the BIOS try its next disk; else halt


class Boot(enum.Enum):
    """Which firmware an ISO is for."""

    BIOS = "bios"
    EFI = "efi"
    HYBRID = "hybrid"

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the library's tools whose images are the stage's inputs ``bootloader``."""
        return (_ISOLINUX,) * (self is not Boot.EFI) + (_SYSTEMD_BOOT,) * (self is not Boot.BIOS)


@dataclass(frozen=True)
class IsoHead(Stage):
    """Lays out what comes before the large files, which are not yet there: a changed initrd needs no other.

    ``boot`` is that of the stage ``iso``; ``volume`` is its label, and ``paths`` are those of the large
    files, in ISO 9660.  The input ``isolinux`` is that tool's image, for EFI alone none.  The head is padded
    to a block; it begins with the master boot record's code, which is not yet told where anything lies.
    """

    name: ClassVar[str] = "iso-head"
    version: ClassVar[int] = 3
    boot: Boot
    volume: str
    cmdline: str
    paths: tuple[str, ...]

    def parameters(self) -> dict[str, Any]:
        """Give the fields, and the version of pycdlib, which lays it out."""
        return {**super().parameters(), "pycdlib": version("pycdlib")}

    def label(self) -> str:
        """The volume and the firmware."""
        return f"{self.volume} ({self.boot.value})"

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Master it."""
        tools = _tree(inputs[_ISOLINUX], work)
        loader = self._loader(tools, work.store)
        image = () if self.boot is Boot.BIOS else (EFI_IMAGE,)
        boot = _ISOLINUX_BIN if loader else None
        head = master(self.volume, loader, boot, (*image, *self.paths), FIXED_TIME)
        code = _content(tools, _MBR_CODE, work.store) if loader else _NO_BIOS
        head[: mbr.CODE] = code[: mbr.CODE].ljust(mbr.CODE, b"\0")
        return Result(work.store.put(bytes(head + bytes(-len(head) % BLOCK))))

    def _loader(self, tools: Mapping[str, Entry], store: Store) -> dict[str, bytes]:
        """Give the files of the BIOS's boot loader, by their paths."""
        if self.boot is Boot.EFI:
            return {}
        files = {path: _content(tools, source, store) for path, source in _ISOLINUX_FILES.items()}
        return {**files, "/ISOLINUX/ISOLINUX.CFG": isolinux_cfg(self.cmdline)}


@dataclass(frozen=True)
class Iso(Stage):
    """Lists the pieces of the ISO of the inputs ``kernel`` (one) and ``initrd`` (one, or segments in order).

    Inputs ``bootloader`` are the images of ``boot.tools``, by their manifests.  ``title`` names the boot
    entry and the volumes, there in upper case and cut to what ISO 9660 and FAT allow.  ``arch`` is amd64
    or, for EFI only, arm64.
    """

    name: ClassVar[str] = "iso"
    version: ClassVar[int] = 5
    boot: Boot
    title: str
    cmdline: str
    arch: str = "amd64"

    def parameters(self) -> dict[str, Any]:
        """Give the fields, and the version of pycdlib, which lays out the head."""
        return {**super().parameters(), "pycdlib": version("pycdlib")}

    def label(self) -> str:
        """Name and firmware."""
        return f"{self.title} ({self.boot.value})"

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Lay it out; raise SpecError where the architecture or the command line cannot be booted so."""
        if self.boot is not Boot.EFI and self.arch != "amd64":
            raise SpecError(f"{self.arch} machines have no BIOS", hint="ask for the format iso-efi")
        images = dict(zip(self.boot.tools, inputs["bootloader"], strict=True))
        with assembling(work.store) as assembly:
            body = [assembly.whole(item) for role in ("kernel", "initrd") for item in inputs[role]]
            files = self._files(_tree(_only(images, _SYSTEMD_BOOT), work), *body)
            paths = tuple(iso_path(file.path) for file in files)
            cmdline = "" if self.boot is Boot.EFI else check_cmdline(self.cmdline)
            stage = IsoHead(self.boot, volume_label(self.title), cmdline, paths)
            head = work.run(stage, {_ISOLINUX: _only(images, _ISOLINUX)}).output
            self._write(assembly, work.store.read(head.digest), files, self._serial(inputs))
            return assembly.commit(ISO)

    def _write(self, out: Assembly, mastered: bytes, files: Sequence[File], serial: int) -> None:
        head = bytearray(mastered)
        body = self._body(files, serial, len(head))
        extents = {iso_path(path): extent for path, extent in body.extents.items()}
        if self.boot is not Boot.BIOS:
            extents[EFI_IMAGE] = Extent(0, body.size)
        direct(head, extents, body.size)
        head[: mbr.SECTOR] = self._mbr(head, body.size, serial).to_bytes()
        out.write(bytes(head))
        body.write(out, out.copy)

    def _files(self, tools: Mapping[str, Entry], kernel: Slice, *initrd: Slice) -> tuple[File, ...]:
        """Give what follows the head: kernel and initrd, and what else is in the EFI system partition."""
        parts = payload(kernel, initrd)
        if self.boot is Boot.BIOS:
            return parts
        return (*esp_files(tools, self.arch, self.title, check_cmdline(self.cmdline)), *parts)

    def _body(self, files: Sequence[File], serial: int, begin: int) -> Body:
        if self.boot is Boot.BIOS:
            return Plain(files)
        cluster, hidden = cluster_for(files), begin // mbr.SECTOR
        volume = Volume(self.title, serial, FIXED_TIME, cluster, hidden=hidden, alignment=BLOCK)
        return Layout(volume, files)

    def _serial(self, inputs: Inputs) -> int:
        """Give 32 bits that differ between ISOs and not between builds."""
        digests = {role: [str(item.digest) for item in items] for role, items in inputs.items()}
        recipe = canonical_json([self.name, _SERIALS, as_json(self), digests])
        return int.from_bytes(hashlib.sha256(recipe).digest()[:4], "big")

    def _mbr(self, head: bytearray, size: int, serial: int) -> mbr.Mbr:
        """Give the MBR: its one partition is the EFI system partition, or for BIOS alone the whole ISO."""
        begin, size, code = len(head) // mbr.SECTOR, size // mbr.SECTOR, bytes(head[: mbr.CODE])
        if self.boot is not Boot.EFI:
            code = mbr.isohybrid_code(code, iso9660.find(head, _ISOLINUX_BIN).block)
        if self.boot is Boot.BIOS:
            return mbr.Mbr(code, serial, (mbr.Partition(mbr.HIDDEN_IFS, 0, begin + size, active=True),))
        return mbr.Mbr(code, serial, (mbr.Partition(mbr.EFI_SYSTEM, begin, size, active=True),))


class Body(Protocol):
    """What follows the head: ``size`` bytes, in which ``extents`` are the files, by path."""

    size: int
    extents: Mapping[str, Extent]

    def write(self, out: SupportsWrite, copy: Copy) -> int:
        """Write it, and give its size."""


class Plain:
    """Files one after the other, each from the beginning of a file system's block."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files = files
        self.size = 0
        extents: dict[str, Extent] = {}
        for file in files:
            extents[file.path] = Extent(self.size, file.size)
            self.size += file.size + -file.size % BLOCK
        self.extents: Mapping[str, Extent] = extents

    def write(self, out: SupportsWrite, copy: Copy) -> int:
        """Write them, contents by ``copy``; give the size."""
        for file in self._files:
            for part in file.parts:
                copy(part, out)
            out.write(bytes(-file.size % BLOCK))
        return self.size


def volume_label(title: str) -> str:
    """Give ``title`` in d-characters (ECMA-119, 7.4.1), at most 32."""
    return re.sub("[^A-Z0-9_]", "_", title.upper())[:32] or "LINUXKIT"


def _only(images: Mapping[str, Descriptor], name: str) -> tuple[Descriptor, ...]:
    return (images[name],) if name in images else ()


def _tree(images: Sequence[Descriptor], work: Engine) -> dict[str, Entry]:
    """Give the file tree of the one image in ``images``, or where there is none, none."""
    return {path: entry for image in images for path, entry in image_tree(image, work).items()}


def _content(tools: Mapping[str, Entry], path: str, store: Store) -> bytes:
    out = io.BytesIO()
    store.copy(tool(tools, path), out)
    return out.getvalue()
