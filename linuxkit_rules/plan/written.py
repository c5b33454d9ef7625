"""Files for the user, written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.store.locks import lock, remove_free


@contextmanager
def replacing(target: Path, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """Give a file that takes the place of ``target`` when the block ends well; OSError where it cannot.

    With ``sync`` it is on the disk by then.  What a killed process has left of such a file is removed.
    """
    for path in target.parent.iterdir():
        if is_left(path, target.name):
            remove_free(path)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=_prefix(target.name), delete=False) as file:
        temporary = Path(file.name)
        try:
            lock(file.fileno(), fcntl.LOCK_EX)
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def is_left(path: Path, name: str) -> bool:
    """Whether ``path`` is what a process that writes a file ``name``, or was killed, has of it."""
    return path.name.startswith(_prefix(name))


def _prefix(name: str) -> str:
    return f".{name}.moby-"


def replace_file(path: Path, data: bytes, error: Callable[[str], LinuxKitError]) -> None:
    """Have the file ``path`` hold ``data``; one that does stays untouched.

    What ``error`` makes of the reason is raised where that fails.
    """
    try:
        if path.is_file() and path.read_bytes() == data:
            return
        with replacing(path) as file:
            file.write(data)
    except OSError as fault:
        raise error(fault.strerror or str(fault)) from None
