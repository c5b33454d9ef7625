"""The head of an ISO: everything before the large files, mastered by pycdlib.

pycdlib lays out volume descriptors, path tables, directories, boot catalogue and boot loader, with empty
files in the place of the large ones.  What it takes from the clock is set, and later the files' records are
pointed at where the bytes will lie, by the places that the standards name: nothing global is touched.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from linuxkit_rules.formats import iso9660
from linuxkit_rules.formats.fat import Extent
from linuxkit_rules.formats.iso9660 import BLOCK

CATALOGUE = "/BOOT.CAT;1"
EFI_IMAGE = "/EFI.IMG"
"""Path of the EFI system partition's image, where there is one."""

_MAKER = "LINUXKIT_RULES"


def master(
    label: str, loader: Mapping[str, bytes], boot: str | None, empty: Iterable[str], mtime: int
) -> bytearray:
    """Give the head of an ISO named ``label`` (d-characters of ECMA-119), all of ``mtime``.

    ``loader`` are the files to store, by path (``/ISOLINUX/ISOLINUX.BIN``); ``boot`` is the one of them
    that a BIOS boots, without emulation and with a boot information table; ``empty`` are the paths of files
    to be pointed elsewhere.  ``EFI_IMAGE`` among these is booted by EFI.
    """
    import pycdlib  # takes 0.1 s

    places = list(empty)
    iso = pycdlib.PyCdlib()
    iso.new(
        interchange_level=2,
        sys_ident="LINUX",
        vol_ident=label,
        vol_set_ident=label,
        preparer_ident_str=_MAKER,
        app_ident_str=_MAKER,
    )
    for directory in _directories([*loader, *places]):
        iso.add_directory(directory)
    for path, data in (*loader.items(), *((path, b"") for path in places)):
        iso.add_fp(io.BytesIO(data), len(data), _file_name(path))
    if boot:
        iso.add_eltorito(_file_name(boot), CATALOGUE, boot_load_size=4, boot_info_table=True)
    if EFI_IMAGE in places:
        _add_efi(iso, first=boot is None)
    head = _written(iso)
    iso9660.set_time(head, mtime)
    return head


def direct(head: bytearray, extents: Mapping[str, Extent], size: int) -> None:
    """Point records at ``extents``: offsets in what follows ``head``, ``size`` bytes long.

    The boot catalogue's EFI entry goes where ``EFI_IMAGE`` goes.
    """
    begin = len(head) // BLOCK
    for path, extent in extents.items():
        iso9660.point(head, iso9660.find(head, path), begin + extent.offset // BLOCK, extent.size)
    for entry in iso9660.boot_entries(head):
        if entry.platform == iso9660.EFI:
            image = iso9660.find(head, EFI_IMAGE)
            iso9660.point_boot(head, entry, image.block, image.size)
    iso9660.set_blocks(head, begin + size // BLOCK)


def iso_path(path: str) -> str:
    """Give the ISO 9660 path of a file of the EFI system partition."""
    return "/" + path.upper()


def _add_efi(iso: Any, *, first: bool) -> None:
    """Add the boot entry; in the catalogue's first entry the platform stands elsewhere than in a section."""
    if first:
        iso.add_eltorito(_file_name(EFI_IMAGE), CATALOGUE, platform_id=iso9660.EFI)
    else:
        iso.add_eltorito(_file_name(EFI_IMAGE), efi=True)


def _directories(paths: Iterable[str]) -> Iterator[str]:
    """Give each directory that ``paths`` lie in once, outer ones first."""
    seen: dict[str, None] = {}
    for path in paths:
        parts = path.split("/")
        seen.update({"/".join(parts[:depth]): None for depth in range(2, len(parts))})
    return iter(seen)


def _file_name(path: str) -> str:
    """Give the path with the separator that a name without extension has too, and a version (7.5.1)."""
    return f"{path};1" if "." in path.rpartition("/")[2] else f"{path}.;1"


def _written(iso: Any) -> bytearray:
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    head = bytearray(out.getvalue())
    return head + bytes(-len(head) % BLOCK)
