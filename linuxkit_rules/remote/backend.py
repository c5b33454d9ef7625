"""What a remote cache is to its users, whatever it speaks.

Blobs are named by digest, results by the key of their recipe, the same as in the store.  A result is put
after its blobs; a cache may drop a blob and keep the result that names it.  Nothing is tried twice here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, Protocol

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import FormatError, ImageError, NetworkError
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.origin import WrongContentError
from linuxkit_rules.oci.retry import PassingError, SilentError
from linuxkit_rules.oci.transport import Transport
from linuxkit_rules.store.memory import Result

if TYPE_CHECKING:
    import requests

ENTRY_LIMIT = 4 << 20
"""How many bytes of a result are read."""

_MEDIA_TYPE = re.compile(r"[!-~]{1,255}")


class MissingError(ImageError):
    """The cache does not have the blob."""


class RefusedError(NetworkError):
    """The cache answers, and does not take what is put."""


class Backend(Protocol):
    """A place that keeps blobs and results.  Threads call it at the same time.

    Methods raise NetworkError or ImageError where the place does not answer as it should, and SilentError,
    one of the former, where it does not answer in time.
    """

    @property
    def name(self) -> str:
        """What messages call the place, without any account."""

    def result(self, key: str) -> Result | None:
        """Give what the recipe ``key`` gave, None where that is not known; FormatError for what is none."""

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob to ``out``, unverified; raise MissingError, WrongContentError where it breaks off."""

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob is there."""

    def put(self, blob: Descriptor, file: BinaryIO) -> None:
        """Send a blob, which ``file`` holds from its beginning; raise RefusedError."""

    def put_result(self, key: str, result: Result) -> None:
        """Send a result whose blobs are all there; raise RefusedError."""


def take(transport: Transport, answer: requests.Response, out: SupportsWrite) -> None:
    """Write an answer's body to ``out``; raise WrongContentError where it breaks off, SilentError."""
    try:
        for block in transport.blocks(answer):
            out.write(block)
    except SilentError:
        raise
    except PassingError as error:
        raise WrongContentError(error.message) from None


def checked(blob: Descriptor) -> Descriptor:
    """Give ``blob``; raise FormatError where its media type cannot be one."""
    if not _MEDIA_TYPE.fullmatch(blob.media_type):
        raise FormatError("names a blob whose media type is none")
    return blob
