"""What writers of formats ask of the files that they write to, and of where contents come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from linuxkit_rules.formats.entry import Slice


class SupportsWrite(Protocol):
    """Anything with a file's ``write``; it does not keep what it gets, which may be a buffer used again."""

    def write(self, data: bytes | memoryview, /) -> Any:
        """Append ``data``."""


Copy = Callable[[bytes | Slice, SupportsWrite], None]
"""Writes the bytes of a content to a file; ``Store.copy`` is one."""
