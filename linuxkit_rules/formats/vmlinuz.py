"""Compressed kernels: where the payload of a boot image lies.

bzImage of x86: https://www.kernel.org/doc/html/latest/arch/x86/boot.html, "The Real-Mode Kernel Header".
EFI zboot of other architectures: include/linux/pe.h and drivers/firmware/efi/libstub/zboot-header.S of Linux.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.compression import Compression, first_member, sniff

_SETUP_SECTS = 0x1F1
_HEADER = 0x202
_VERSION = 0x206
_PAYLOAD_OFFSET = 0x248
_LZ4 = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20
_GZIP = b"\x1f\x8b\x08\x00"
"""Head of a gzip member without name and time, as kernels' builds make it (RFC 1952, 2.3.1)."""


def decompressed(kernel: bytes | memoryview) -> Iterator[bytes]:
    """Give the pieces of the kernel inside ``kernel``; raise FormatError where none is found in it.

    Knows gzip, zstd, xz and lz4: as the whole file, as the payload of a bzImage or of an EFI zboot image, and
    gzip anywhere in the file, as LinuxKit does.
    """
    view = memoryview(kernel)
    for payload in (view, _bzimage(view), _zboot(view), _anywhere(view)):
        head = bytes(payload[:6])
        if head.startswith(_LZ4):
            return _lz4(payload)
        if sniff(head) is not Compression.NONE:
            return first_member(io.BytesIO(payload))
    raise FormatError("holds no kernel compressed by gzip, zstd, xz or lz4")


def _bzimage(view: memoryview) -> memoryview:
    """Give the payload, if the boot protocol is 2.08 or later, without the size that ends it."""
    if len(view) < _PAYLOAD_OFFSET + 8 or bytes(view[_HEADER : _HEADER + 4]) != b"HdrS":
        return view[:0]
    (version,) = struct.unpack_from("<H", view, _VERSION)
    offset, size = struct.unpack_from("<II", view, _PAYLOAD_OFFSET)
    start = (view[_SETUP_SECTS] + 1) * 512 + offset
    return view[start : start + size] if version >= 0x208 else view[:0]


def _zboot(view: memoryview) -> memoryview:
    if len(view) < 16 or bytes(view[:2]) != b"MZ" or bytes(view[4:8]) != b"zimg":
        return view[:0]
    start, size = struct.unpack_from("<II", view, 8)
    return view[start : start + size]


def _anywhere(view: memoryview) -> memoryview:
    found = bytes(view).find(_GZIP)
    return view[:0] if found < 0 else view[found:]


def _lz4(payload: memoryview) -> Iterator[bytes]:
    """Read a legacy frame (lz4_Frame_format.md, "Legacy frame"); the kernel's size may stand behind it."""
    import lz4.block

    position = len(_LZ4)
    while position + 4 < len(payload):
        (size,) = struct.unpack_from("<I", payload, position)
        position += 4 + size
        try:
            yield lz4.block.decompress(payload[position - size : position], uncompressed_size=_LZ4_BLOCK)
        except (lz4.block.LZ4BlockError, ValueError) as error:
            raise FormatError(f"the lz4 stream is damaged: {error}") from None
