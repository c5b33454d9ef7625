"""Where the blobs of an image come from, and how they are taken without trusting the place."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError
from linuxkit_rules.formats.account import note
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.manifest import SIZE_LIMIT

T = TypeVar("T")


class WrongContentError(ImageError):
    """A blob has another size or digest than its descriptor says."""


class Origin(Protocol):
    """A place that holds the blobs of images: a registry's repository, a layout, an archive."""

    @property
    def name(self) -> str:
        """What messages call the place."""

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write the blob to ``out``, as it comes; raise ImageError where the place does not have it."""


@runtime_checkable
class SecondChance(Protocol):
    """An origin that may have a blob in more places than one, or has it twice from a place that errs."""

    def doubt(self, descriptor: Descriptor) -> bool:
        """Hear that what came has the wrong content; say whether to fetch it again."""


@contextlib.contextmanager
def naming(image: str, origin: Origin) -> Iterator[None]:
    """Have the block's ImageErrors name ``image``, as the user knows it, before the place in ``origin``."""
    try:
        yield
    except ImageError as error:
        place = error.where or origin.name
        if not place.startswith(image):
            inside = image.startswith(origin.name) and place.startswith(origin.name)
            error.where = image + place.removeprefix(origin.name) if inside else f"{image}: {place}"
        raise


class HashWriter:
    """A file that keeps digest and size of what is written, and passes it on where ``out`` is given."""

    def __init__(self, out: SupportsWrite | None = None) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        """Digest of the bytes so far."""
        return Digest(self._hash.hexdigest())

    def write(self, data: bytes | memoryview) -> None:
        """Take ``data``."""
        self.size += len(data)
        self._hash.update(data)
        if self._out is not None:
            self._out.write(data)


class _Check(HashWriter):
    """One that stops at the first byte too many."""

    def __init__(self, descriptor: Descriptor, out: SupportsWrite, where: str) -> None:
        super().__init__(out)
        self._expected = descriptor
        self._where = where

    def write(self, data: bytes | memoryview) -> None:
        if self.size + len(data) > self._expected.size:
            raise WrongContentError(
                f"is longer than the {self._expected.size} bytes it should have", where=self._where
            )
        super().write(data)

    def finish(self) -> None:
        if self.size != self._expected.size:
            message = f"ends after {self.size} bytes where {self._expected.size} were expected"
            raise WrongContentError(message, where=self._where)
        if self.digest != self._expected.digest:
            raise WrongContentError(f"has the wrong content: {self.digest}", where=self._where)
        note(hashed=self.size)


def copy_verified(origin: Origin, descriptor: Descriptor, out: SupportsWrite) -> None:
    """Write the blob to ``out``; raise ImageError where size or digest are not the descriptor's.

    ``out`` may have got bytes by then: use it only after this has returned.
    """
    check = _Check(descriptor, out, f"{origin.name}: {descriptor.digest}")
    origin.copy(descriptor, check)
    check.finish()


def require_short(origin: Origin, descriptor: Descriptor, most: int) -> None:
    """Raise ImageError where the blob is no document, for it is said to have more than ``most`` bytes."""
    if descriptor.size > most:
        message = f"a document of {descriptor.size} bytes is longer than the {most} that are read"
        raise ImageError(message, where=f"{origin.name}: {descriptor.digest}")


def read_verified(origin: Origin, descriptor: Descriptor, most: int = SIZE_LIMIT) -> bytes:
    """Give a small blob (manifest, index, configuration); raise ImageError where it is wrong or too long.

    ``most`` is how many bytes it may have.
    """
    require_short(origin, descriptor, most)

    def fetch() -> bytes:
        out = io.BytesIO()
        copy_verified(origin, descriptor, out)
        return out.getvalue()

    return with_second_chance(origin, descriptor, fetch)


def with_second_chance(origin: Origin, descriptor: Descriptor, fetch: Callable[[], T]) -> T:
    """Run ``fetch``, which copies the blob to a fresh place, again where the origin says that it is of use.

    Raises what ``fetch`` raises at last.
    """
    while True:
        try:
            return fetch()
        except WrongContentError:
            if not (isinstance(origin, SecondChance) and origin.doubt(descriptor)):
                raise
