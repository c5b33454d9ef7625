"""Compressed kernels of each kind give the kernel in them."""

import gzip
import lzma
import struct
from pathlib import Path

import lz4.block
import pytest
import zstandard

from linuxkit_rules.debian.lock import LIBRARY_LOCK, load_lock
from linuxkit_rules.errors import FormatError, ImageError
from linuxkit_rules.formats.vmlinuz import decompressed
from linuxkit_rules.spec.component import load_component
from linuxkit_rules.stages.component import ComponentImage
from linuxkit_rules.stages.kernel import Kernel
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store

KERNEL = b"\x7fELF" + bytes(range(256)) * 40
LEGACY = b"\x02\x21\x4c\x18"


def lz4_block(data: bytes) -> bytes:
    packed = lz4.block.compress(data, store_size=False)
    return struct.pack("<I", len(packed)) + packed


PACKERS = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lzma.compress,
    "lz4": lambda data: b"".join([LEGACY, *map(lz4_block, (data[:100], data[100:]))]),
    "zstd": zstandard.ZstdCompressor().compress,
}


def bzimage(payload: bytes, version: int = 0x20F) -> bytes:
    """A boot sector and one sector of set-up, as the boot protocol has them, 64 bytes, then the payload.

    Linux appends the kernel's size to what a compressor gave, and counts it as payload.
    """
    payload += struct.pack("<I", len(KERNEL))
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    struct.pack_into("<II", head, 0x248, 64, len(payload))
    return bytes(head) + bytes(64) + payload + b"more"


def zboot(payload: bytes) -> bytes:
    return b"MZ\0\0zimg" + struct.pack("<II", 256, len(payload)) + bytes(240) + payload + b"more"


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("wrap", [lambda payload: payload, bzimage, zboot])
def test_the_payload_is_found_and_unpacked(packer, wrap):
    assert b"".join(decompressed(wrap(PACKERS[packer](KERNEL)))) == KERNEL


def test_gzip_is_found_anywhere():
    assert b"".join(decompressed(b"loader" * 99 + gzip.compress(KERNEL, mtime=0) + b"more")) == KERNEL
    old = bzimage(gzip.compress(KERNEL, mtime=0), version=0x207)
    assert b"".join(decompressed(old)) == KERNEL


@pytest.mark.parametrize("kernel", [b"", KERNEL, bzimage(b"nothing"), zboot(b""), b"MZ\0\0zimg"])
def test_a_kernel_that_is_not_compressed_is_refused(kernel):
    with pytest.raises(FormatError, match="no kernel compressed by gzip, zstd, xz or lz4"):
        decompressed(kernel)


def test_a_torn_payload_is_refused():
    with pytest.raises(FormatError, match="lz4 stream is damaged"):
        b"".join(decompressed(PACKERS["lz4"](KERNEL)[:-20]))
    with pytest.raises(FormatError, match="ends too early"):
        b"".join(decompressed(gzip.compress(KERNEL, mtime=0)[:-20]))


@pytest.mark.network
def test_debians_kernel_holds_an_elf_file(tmp_path: Path) -> None:
    engine = Engine(Store(tmp_path))
    component = load_component(LIBRARY_LOCK.parent / "pkg/kernel/build.yml")
    stage = ComponentImage(component, load_lock(LIBRARY_LOCK).pins(component, "amd64"), "amd64")
    image = engine.run(stage, {}).output
    plain = engine.run(Kernel(decompress=True), {"image": [image]}).output
    assert engine.store.read(plain.digest).startswith(b"\x7fELF")
    with pytest.raises(ImageError, match="linuxkit: /kernel.tar: .*leave --decompress-kernel out"):
        engine.run(Kernel("kernel.tar", decompress=True, image="linuxkit"), {"image": [image]})
