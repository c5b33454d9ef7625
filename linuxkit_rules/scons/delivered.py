"""Files that were delivered out of the store: the notes on them, and what SCons signs them by.

A note is the digest of what is delivered, synced before that begins; once the file is there, a second line
has its size and time.  While the file has those, or the bytes, its content signature is made of the digest:
SCons would read all of it after each delivery, and again in each run with a target that uses it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from SCons.Node.FS import File
from SCons.Util import hash_signature

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.formats.buffers import sha256_of
from linuxkit_rules.store.pieces import is_written

Node = Any


class Delivered(File):  # type: ignore[misc]
    """The node of such a file.

    Of its attributes, ``linuxkit_note`` is the node of its note, ``linuxkit_blob`` the descriptor of what was
    delivered, None where that is not known, and ``linuxkit_site`` has the store.
    """

    __slots__ = ()

    def get_csig(self) -> str:
        """Give the content signature: by the note if it speaks of this very file, else by its bytes."""
        known = self.get_ninfo()
        if not hasattr(known, "csig") and (digest := self._digest()):
            known.csig = hash_signature(digest)
        signature: str = super().get_csig()
        return signature

    def _digest(self) -> str:
        """Give the digest of what was delivered, or nothing where the file is something else by now."""
        digest, _, stamp = (_read(self.attributes.linuxkit_note) or "").partition("\n")
        path, blob = Path(self.get_abspath()), self.attributes.linuxkit_blob
        if stamp and stamp == stamp_of(path):
            return digest
        if blob is None or digest != str(blob.digest):
            return ""
        try:
            return digest if is_written(self.attributes.linuxkit_site.store, blob, path) else ""
        except (LinuxKitError, OSError):
            return ""


def noted(note: Node) -> str | None:
    """Give the digest that was delivered last, or None where there is no note."""
    text = _read(note)
    return None if text is None else text.partition("\n")[0]


def is_delivered(target: Node, note: Node) -> bool:
    """Whether the file ``target`` is what an earlier run of SCons built, and not one of the user's own.

    SCons's notes tell; after a run that was killed, the digest that was noted.
    """
    if is_recorded(target):
        return True
    digest, path = noted(note), Path(target.get_abspath())
    if not digest or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return f"sha256:{sha256_of(file)}" == digest


def is_recorded(target: Node) -> bool:
    """Whether the file ``target`` is there as SCons's notes say that it was built."""
    info = stored(target)
    try:
        found = Path(target.get_abspath()).lstat()
    except OSError:
        return False
    built = bool(getattr(info.binfo, "bsources", None))
    return built and (info.ninfo.timestamp, info.ninfo.size) == (int(found.st_mtime), found.st_size)


def stored(node: Node) -> Any:
    """Give SCons's notes on a file.  It opens them by a path from its top folder, wherever it is reading."""
    with contextlib.chdir(node.fs.Top.get_abspath()):
        return node.get_stored_info()


def _read(note: Node) -> str | None:
    try:
        return Path(note.get_abspath()).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def stamp_of(path: Path) -> str:
    """Give a file's size in bytes and time in nanoseconds; nothing where it is not there."""
    try:
        found = path.lstat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
