"""Files from a mirror over HTTP, checked while they arrive."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import TypeVar

from linuxkit_rules.debian.index import File
from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import NetworkError, PackageError, StoreError
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.retry import PASSING
from linuxkit_rules.store.blobs import OCTET_STREAM, Store

T = TypeVar("T")

_BLOCK = 1 << 18
_TIMEOUT = (15, 60)
_PAUSES = (0.5, 2.0, 5.0)
_MOST = 64 << 20
_HINT = "is the machine online? LINUXKIT_DEBIAN_MIRROR chooses another mirror"


class _TryAgainError(Exception):
    """A fault that may pass."""


def fetch(store: Store, url: str, file: File, sleep: Callable[[float], None] = time.sleep) -> Descriptor:
    """Store the file at ``url``, which must have the size and digest of ``file``.

    While one thread or process fetches it, others that want it wait.  Faults of the network are tried again a
    few times.  Raises NetworkError where the file cannot be had and
    PackageError where it is not the one that was asked for.
    """
    wanted = Descriptor(OCTET_STREAM, file.digest, file.size)
    if not store.has(wanted):
        with store.exclusive(f"blob-{wanted.digest.hex}"):
            if not store.has(wanted):
                _patiently(lambda: _stream(store, url, wanted), url, sleep)
    return wanted


def read(url: str, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Give the small file at ``url``; raise NetworkError where it cannot be had."""
    return _patiently(lambda: _body(url), url, sleep)


def _patiently(action: Callable[[], T], url: str, sleep: Callable[[float], None]) -> T:
    """Run ``action``; after a fault that may pass, run it again a little later."""
    for pause in _PAUSES:
        try:
            return action()
        except _TryAgainError:
            sleep(pause)
    try:
        return action()
    except _TryAgainError as error:
        raise NetworkError(f"cannot fetch {url}: {error}", hint=_HINT) from None


def _stream(store: Store, url: str, wanted: Descriptor) -> None:
    with store.writer() as writer:
        _receive(url, writer, wanted.size)
        if writer.size != wanted.size:
            raise _TryAgainError(f"only {writer.size} of {wanted.size} bytes came")
        try:
            writer.commit(expect=wanted.digest)
        except StoreError as error:
            raise PackageError(
                f"the mirror gives another file than the lock names: {error.message}", where=url
            ) from None


def _body(url: str) -> bytes:
    data = io.BytesIO()
    _receive(url, data, _MOST)
    return data.getvalue()


def _receive(url: str, out: SupportsWrite, most: int) -> None:
    """Write at most ``most`` bytes of ``url`` to ``out``; a longer body is an error."""
    import requests

    try:
        with requests.get(url, stream=True, timeout=_TIMEOUT) as response:
            _check_status(response.status_code, url)
            got = 0
            for block in response.iter_content(_BLOCK):
                got += len(block)
                if got > most:
                    raise PackageError(f"the mirror sends more than the {most} bytes expected", where=url)
                out.write(block)
    except requests.exceptions.InvalidURL as error:
        raise NetworkError(f"cannot fetch {url}: {error}", hint=_HINT) from None
    except requests.RequestException as error:
        raise _TryAgainError(_reason(error)) from None


def _check_status(status: int, url: str) -> None:
    if status in PASSING:
        raise _TryAgainError(f"the server answers {status}")
    if status == 404:
        dropped = "mirrors keep current versions only: `moby lock` pins those"
        hint = dropped if "/pool/" in url else "is the suite's name right?"
        raise NetworkError(f"cannot fetch {url}: the server does not have it (404)", hint=hint)
    if status != 200:
        raise NetworkError(f"cannot fetch {url}: the server answers {status}", hint=_HINT)


def _reason(error: Exception) -> str:
    """Give what went wrong in a few words, without the layers of classes around it."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    text = getattr(cause, "strerror", None) or str(cause)
    return text or type(error).__name__
