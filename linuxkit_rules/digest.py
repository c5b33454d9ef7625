"""Digests and descriptors: how content is named.

OCI image specification, descriptor.md: https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Self

from linuxkit_rules.errors import FormatError
from linuxkit_rules.values import dataclass

_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode  # json.dumps makes one each time


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The sha256 of some bytes; ``str()`` gives ``sha256:<64 hex digits>``."""

    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``sha256:<hex>``; raise FormatError for any other form or algorithm."""
        match = _SHA256.fullmatch(text)
        if match is None:
            raise FormatError(f"{text!r} is not a digest", hint="write sha256: and 64 lower-case hex digits")
        return cls(match[1])

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Digest of ``data``."""
        return cls(hashlib.sha256(data).hexdigest())

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is: media type, digest and size in bytes (descriptor.md, "Properties")."""

    media_type: str
    digest: Digest
    size: int

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read the descriptor's JSON object; raise FormatError where a property is missing or not right."""
        if not isinstance(value, dict):
            raise FormatError("a descriptor must be an object")
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if not isinstance(media_type, str) or not isinstance(digest, str):
            raise FormatError("a descriptor needs mediaType and digest as strings")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise FormatError("a descriptor needs size as a number of bytes")
        return cls(media_type, Digest.parse(digest), size)

    def to_json(self) -> dict[str, str | int]:
        """Give the JSON object, in the specification's names."""
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}


def canonical_json(value: Any) -> bytes:
    """Encode ``value`` so that equal values give equal bytes: sorted keys, no spaces, ASCII."""
    return _encode(value).encode("ascii")
