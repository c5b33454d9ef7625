"""A kernel's configuration: its text, and where a kernel carries it.

Text: https://docs.kernel.org/kbuild/kconfig.html (``.config``).  In a kernel with CONFIG_IKCONFIG
(``kernel/configs.c`` of Linux) it stands, packed by gzip, between the marks ``IKCFG_ST`` and ``IKCFG_ED``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

from linuxkit_rules.errors import FormatError
from linuxkit_rules.formats.compression import first_member

_BEGIN = b"IKCFG_ST\x1f\x8b"
_MARK = len(b"IKCFG_ST")
_END = b"IKCFG_ED"
_LONGEST = 1 << 20
"""More bytes than any configuration takes, packed."""
_MOST = 16 << 20


def is_set(config: bytes, option: str) -> bool:
    """Whether ``config`` has the option (``RD_ZSTD``) built in."""
    return f"CONFIG_{option}=y".encode() in config.splitlines()


def embedded(kernel: Iterable[bytes | memoryview]) -> bytes | None:
    """Give the configuration in the pieces of a plain kernel, or None where it carries none.

    Raises FormatError where what it carries is damaged.
    """
    window = b""
    for piece in kernel:
        window += piece
        begin = window.find(_BEGIN)
        if begin < 0:
            window = window[1 - len(_BEGIN) :]
            continue
        window = window[begin:]
        end = window.find(_END)
        if end >= 0:
            return _unpacked(window[_MARK:end])
        if len(window) > _LONGEST:
            return None
    return None


def _unpacked(data: bytes) -> bytes:
    found = b""
    for piece in first_member(io.BytesIO(data)):
        found += piece
        if len(found) > _MOST:
            raise FormatError(f"a kernel's configuration of more than {_MOST} bytes")
    return found
