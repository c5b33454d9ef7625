"""How much an image, an archive or a stream may hold before it is refused: bounds against hostile input.

Each is settable, as ``entries=2M,total=100G``.  The defaults leave room for any image that is meant to run.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Self

from linuxkit_rules.errors import FormatError, LinuxKitError, UsageError, one_line
from linuxkit_rules.values import dataclass

_VALUE = re.compile(r"([1-9][0-9]{0,14})([KMGT]?)")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, all of them inclusive; sizes are in bytes."""

    entries: int = 1_000_000
    """Members of an archive; of an image all members of its layers, and directories that none lists."""
    name: int = 4096
    """Bytes of a name, or of what a link names."""
    depth: int = 256
    """Parts of a path."""
    extension: int = 1 << 20
    """Bytes of the extension headers (pax, GNU) of one member."""
    xattrs: int = 128
    """Extended attributes of one member."""
    xattr: int = 64 << 10
    """Bytes of the value of one extended attribute (Linux: XATTR_SIZE_MAX)."""
    metadata: int = 256 << 20
    """Bytes of names, link targets and attributes of an archive's members; of an image, of all its layers.

    They are what is kept in memory, and counted as ``Entry.metadata`` says: a million members may have names
    of 256 bytes each.
    """
    total: int = 64 << 30
    """Bytes of an archive without its compression."""
    ratio: int = 500
    """Bytes that come of each compressed one.  It counts where more than ``floor`` bytes come out."""
    floor: int = 1 << 30
    """Bytes that may come of any stream, whatever the ratio: zeros are packed 1000:1 by gzip."""
    members: int = 1_000_000
    """Members (gzip), frames (zstd) or streams (xz) of a compressed stream."""
    document: int = 4 << 20
    """Bytes of a manifest, index or configuration; no more than registries must take."""
    layers: int = 500
    """Layers of an image."""
    image: int = 128 << 30
    """Bytes of all layers of an image without their compression."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``name=value,…``; K, M, G and T are powers of 1024.  UsageError for what means nothing."""
        found: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            match = _VALUE.fullmatch(value)
            if name not in _NAMES or name in found or match is None:
                raise UsageError(f"{one_line(part)!r} is no limit", hint=f"write NAME=NUMBER; {_HINT}")
            found[name] = int(match[1]) << _UNITS[match[2]]
        if found.get("document", 0) > DEFAULT_LIMITS.document:
            raise UsageError(f"document={found['document']} is more than registries take")
        return cls(**found)

    def changed(self) -> dict[str, int]:
        """Give the limits that are not the default ones, by name."""
        values = ((name, getattr(self, name), getattr(DEFAULT_LIMITS, name)) for name in _NAMES)
        return {name: value for name, value, default in values if value != default}

    def excess(
        self, name: str, what: str, kind: type[LinuxKitError] = FormatError, where: str | None = None
    ) -> LinuxKitError:
        """Give the error that says that ``what`` is more than the limit ``name`` allows."""
        message = f"{what}, more than the {getattr(self, name)} allowed"
        return kind(
            message, where=where, hint=f"if it is to be trusted, LINUXKIT_LIMITS={name}=… allows more"
        )


_NAMES = tuple(item.name for item in dataclasses.fields(Limits))
_HINT = "the limits are " + ", ".join(_NAMES)
DEFAULT_LIMITS = Limits()
