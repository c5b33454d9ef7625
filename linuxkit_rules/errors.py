"""The project's one tree of errors.

A message says what is wrong; ``where`` says in which place (``file:line:column``, or image, layer and
entry); ``hint`` says what to do about it.  Libraries raise; only the command line prints and exits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

SHOWN = 400
"""How much of a text from outside a message repeats, in characters."""


def one_line(text: str) -> str:
    """Give a text from outside as a message can hold it: cut to SHOWN, and what cannot be printed escaped."""
    cut = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in cut)


class LinuxKitError(Exception):
    """Anything that a user can mend; shown as one line ``where: message (hint)``."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{advice}"


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Have the errors of the block say ``place`` before the place that they say."""
    try:
        yield
    except LinuxKitError as error:
        error.where = f"{place}: {error.where}" if error.where else place
        raise


class SpecError(LinuxKitError):
    """A YAML (an image's or a component's) says something that has no meaning."""


class FormatError(LinuxKitError):
    """Bytes that are not of the format they should be: tar, cpio, ELF, ar, ISO, and so on."""


class StoreError(LinuxKitError):
    """The content store lacks a blob or cannot be written."""


class DamagedError(StoreError):
    """The blob ``digest`` (``sha256:<hex>``) has gone from the store, or has rotted and been dropped.

    Whatever made it can make it again.
    """

    def __init__(
        self, message: str, *, digest: str, where: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.digest = digest


class ImageError(LinuxKitError):
    """A container image cannot be found, or is not what its manifest says."""


class PlatformError(ImageError):
    """An image is for other platforms than the one that was asked for."""


class SignatureError(ImageError):
    """An image is not signed by those who must have signed it."""


class PackageError(LinuxKitError):
    """A Debian package cannot be found, resolved or verified, or the lock lacks it."""


class NetworkError(LinuxKitError):
    """A server cannot be reached, or answers something other than what was asked for."""


class RunError(LinuxKitError):
    """A machine cannot be started, or does not do what a boot test waits for."""


class UsageError(LinuxKitError):
    """A command or a construction variable is used in a way that cannot work."""


class ErrorList(LinuxKitError):  # noqa: N818 - a list of errors, raised as one
    """Several faults found in one pass, each shown on a line of its own."""

    def __init__(self, errors: Sequence[LinuxKitError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)
