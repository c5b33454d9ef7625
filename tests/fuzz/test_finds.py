"""What fuzzing has found, kept from coming back."""

import io

import pytest

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats import cpio


def newc(name: bytes, mode: int, content: bytes = b"") -> bytes:
    numbers = (1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


@pytest.mark.parametrize(
    "member",
    [newc(b"a\0b", 0o100644), newc(b"l", 0o120777, b"a\0b"), newc(b"d", 0o040755, b"contents")],
    ids=["a NUL in a name", "a NUL in a link", "contents of a directory"],
)
def test_cpio_members_that_the_kernel_reads_otherwise_are_refused(member: bytes) -> None:
    assert list(cpio.read(io.BytesIO(newc(b"ok", 0o100644, b"1") + newc(b"TRAILER!!!", 0))))
    with pytest.raises(FormatError, match="a NUL in a name, or contents of no file"):
        list(cpio.read(io.BytesIO(member + newc(b"TRAILER!!!", 0))))
