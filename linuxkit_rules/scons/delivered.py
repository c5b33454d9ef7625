"""Files that were delivered out of the store: the notes on them, and what SCons signs them by.

A note is the digest of what is delivered, synced before that begins; once the file is there, a second line
has its size and time: its stamp.  While the file has those, or the bytes, its content signature is made of
the digest: SCons would read all of it after each delivery, and again in each run with a target that uses it.

To sync the file itself would take longer than to write it, so that is not waited for.  A third line names the
boot of the machine instead, until a later run finds the file on the disk.  If the machine has been started
anew before that, be it by a power cut, the file is read, and delivered again where it has other bytes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from SCons.Node.FS import File
from SCons.Util import hash_signature

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.formats.buffers import sha256_of
from linuxkit_rules.store.pieces import is_written

Node = Any

_WRITTEN_BACK = 60
"""Seconds after which the kernel has begun to write a file to the disk (vm.dirty_expire_centisecs: 30)."""


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
        known, path = read_note(self.attributes.linuxkit_note), Path(self.get_abspath())
        if known and known.stamp and known.stamp == stamp_of(path):
            return known.digest
        return known.digest if known and _has_bytes(self, known) else ""


class Note(NamedTuple):
    """What was delivered last: the ``digest``, and the file's ``stamp``, nothing until it is there.

    ``boot`` is the boot of the machine in which that was, nothing for a file that is on the disk.
    """

    digest: str
    stamp: str = ""
    boot: str = ""

    def write(self, note: Node, *, sync: bool = False) -> None:
        """Write the note to the file of the node ``note``; raise OSError where that cannot be done."""
        with Path(note.get_abspath()).open("wb") as file:
            file.write("\n".join(self).encode())
            if sync:
                file.flush()
                os.fsync(file.fileno())


def read_note(note: Node) -> Note | None:
    """Read the note in the file of the node ``note``; None where there is none."""
    try:
        text = Path(note.get_abspath()).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return Note(*text.split("\n")[:3])


def has_settled(node: Node, keep: bool) -> bool:
    """Whether the file is there as it was delivered, though a run was killed or the machine lost power.

    With ``keep`` a better note is written where there is one.  What somebody has changed is left to SCons.
    """
    known, path = read_note(node.attributes.linuxkit_note), Path(node.get_abspath())
    if known is None or (known.stamp and not known.boot):
        return True
    since = ""
    if known.stamp and known.boot == boot():
        if known.stamp != stamp_of(path) or not _is_on_disk(path):
            return True
    elif not _has_bytes(node, known):
        return False
    elif known.boot in ("", boot()):  # a run that was killed
        since = boot()
    if keep:
        with contextlib.suppress(OSError):
            Note(known.digest, stamp_of(path), since).write(node.attributes.linuxkit_note)
    return True


def _has_bytes(node: Delivered, known: Note) -> bool:
    """Whether the file has the bytes of what the note, and the store, say."""
    blob = node.attributes.linuxkit_blob
    if blob is None or known.digest != str(blob.digest):
        return False
    try:
        return is_written(node.attributes.linuxkit_site.store, blob, Path(node.get_abspath()))
    except (LinuxKitError, OSError):
        return False


def _is_on_disk(path: Path) -> bool:
    """Whether the system has had the time to write the file; then no sync of it has to wait."""
    if time.time() - path.stat().st_mtime < _WRITTEN_BACK:
        return False
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
    return True


@functools.cache
def boot() -> str:
    """Give what names the time since the machine was started (random(4)), nothing where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def is_delivered(target: Node, note: Node) -> bool:
    """Whether the file ``target`` is what an earlier run of SCons built, and not one of the user's own.

    SCons's notes tell; after a run that was killed, the digest that was noted.
    """
    if is_recorded(target):
        return True
    known, path = read_note(note), Path(target.get_abspath())
    if not known or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return f"sha256:{sha256_of(file)}" == known.digest


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


def stamp_of(path: Path) -> str:
    """Give a file's size in bytes and time in nanoseconds; nothing where it is not there."""
    try:
        found = path.lstat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
