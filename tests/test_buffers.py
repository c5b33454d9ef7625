"""Buffers that begin at a page, and files hashed by them."""

import ctypes
import hashlib
import mmap
from pathlib import Path

import pytest

from linuxkit_rules.formats import buffers
from linuxkit_rules.formats.buffers import page_buffer, sha256_of


@pytest.mark.parametrize("size", [1 << 16, 1 << 18])
def test_a_buffer_begins_at_a_page(size: int) -> None:
    buffer = page_buffer(size)
    assert len(buffer) == size
    assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % mmap.PAGESIZE == 0


@pytest.mark.parametrize(
    "size", [0, 1, buffers.BLOCK - 1, buffers.BLOCK, buffers.BLOCK + 1, 3 * buffers.BLOCK]
)
def test_a_file_is_hashed_from_where_it_stands(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 2)
    (tmp_path / "file").write_bytes(data[: size + 7])
    with (tmp_path / "file").open("rb") as file:
        assert file.read(7) == data[:7]
        assert sha256_of(file) == hashlib.sha256(data[7 : size + 7]).hexdigest()
        assert sha256_of(file) == hashlib.sha256().hexdigest()
