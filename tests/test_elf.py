import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import elf
from tests.debs import kernel_module, program

SAMPLE = program(
    ["liba.so.1", "libb.so"], soname="libself.so.3", interpreter="/lib64/ld.so", runpath="$ORIGIN/x:/y"
)


def test_a_program_says_what_it_needs() -> None:
    found = elf.read(SAMPLE)
    assert found == elf.Elf(
        bits=64,
        machine=elf.EM_X86_64,
        kind=elf.ET_DYN,
        interpreter="/lib64/ld.so",
        soname="libself.so.3",
        needed=("liba.so.1", "libb.so"),
        runpath=("$ORIGIN/x", "/y"),
    )


def test_a_real_program_is_read() -> None:
    found = elf.read(Path(sys.executable).resolve().read_bytes())
    assert found.interpreter
    assert found.interpreter.startswith("/lib")
    assert any(name.startswith("libc.so") for name in found.needed)


def test_a_static_program_needs_nothing() -> None:
    found = elf.read(program())
    assert (found.interpreter, found.needed, found.soname) == (None, (), None)


def test_modinfo_keeps_order_and_repetition() -> None:
    module = kernel_module("alias=pci:1", "depends=a,b", "alias=pci:2", "broken")
    assert elf.modinfo(module) == (("alias", "pci:1"), ("depends", "a,b"), ("alias", "pci:2"))


def test_a_file_without_sections_has_no_modinfo() -> None:
    assert elf.modinfo(program()) == ()


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n" * 10, SAMPLE[:80], SAMPLE[:-40]])
def test_what_is_cut_off_or_no_elf_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        elf.read(data)


def test_counts_beyond_the_file_are_refused() -> None:
    head = bytearray(SAMPLE)
    struct.pack_into("<H", head, 56, 0xFFFF)
    with pytest.raises(FormatError, match="cut off"):
        elf.read(bytes(head))


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255))
def test_a_changed_byte_gives_a_value_or_a_format_error(place: int, value: int) -> None:
    data = bytearray(SAMPLE)
    data[place] = value
    for reader in (elf.read, elf.modinfo):
        try:
            reader(bytes(data))
        except FormatError:
            continue
