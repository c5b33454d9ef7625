"""Files that were delivered out of the store: the notes on them, and what SCons signs them by.

A note is the digest of what is delivered, synced before that begins; once the file is there, a second line
has its size and time: its stamp.  While the file has those, or the bytes, its content signature is made of
the digest: SCons would read all of it after each delivery, and again in each run with a target that uses it.

To sync the file itself would take longer than to write it, so that is not waited for.  A third line names the
boot of the machine instead, until a later run finds the file on the disk.  If the machine has been started
anew before that, be it by a power cut, the file is read, and delivered again where it has other bytes.  A
disk that is pulled out, or a file server that fails, while this machine goes on is not noticed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
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
"""Seconds after which the kernel has begun to write a file to the disk (vm.dirty_expire_centisecs: 3000)."""


class Delivered(File):  # type: ignore[misc]
    """The node of such a file.

    Of its attributes, ``linuxkit_note`` is the node of its note, ``linuxkit_blob`` the descriptor of what was
    delivered, None where that is not known, ``linuxkit_site`` has the store, and ``linuxkit_keep`` says
    whether notes may be written.
    """

    __slots__ = ()

    def get_csig(self) -> str:
        """Give the content signature: by the note if it speaks of this very file, else by its bytes."""
        known = self.get_ninfo()
        if not hasattr(known, "csig") and (digest := self._digest()):
            known.csig = hash_signature(digest)
        signature: str = super().get_csig()
        return signature

    def is_up_to_date(self) -> bool:
        """Whether it need not be delivered: as SCons has it, and it was not lost with the power."""
        if not super().is_up_to_date():
            return False
        verdict = _verdict(self)
        if verdict.note and self.attributes.linuxkit_keep:
            with contextlib.suppress(OSError):
                verdict.note.write(self.attributes.linuxkit_note)
        return verdict.sound

    def _digest(self) -> str:
        """Give the digest of what was delivered, or nothing where the file is something else by now."""
        known, path = read_note(self.attributes.linuxkit_note), Path(self.get_abspath())
        if known is None:
            return ""
        if known.stamp and known.stamp == stamp_of(path):
            return known.digest
        blob = self.attributes.linuxkit_blob
        return known.digest if blob and known.digest == str(blob.digest) and _has_bytes(self) else ""


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


class _Verdict(NamedTuple):
    """Whether a file is what was delivered, and a note that says more than the one there is, if any."""

    sound: bool
    note: Note | None = None


def _verdict(node: Delivered) -> _Verdict:
    """Look whether a run was killed, or the machine lost power, before the file was on the disk.

    What somebody has changed since is left to SCons.
    """
    note, path = node.attributes.linuxkit_note, Path(node.get_abspath())
    known, stamp = read_note(note), stamp_of(path)
    if known and known.stamp and not known.boot:
        return _Verdict(True)
    if known and known.stamp and known.stamp != stamp:
        if known.boot == boot() or _is_newer(path, Path(note.get_abspath())):
            return _Verdict(True, known._replace(boot=""))
    elif known and known.stamp and known.boot == boot():
        return _on_disk(known, path)
    if known and known.boot != boot():
        print(f"note: {node} is read, as the machine was started anew", file=sys.stderr, flush=True)
    if not _has_bytes(node):
        return _Verdict(False)
    return _Verdict(True, Note(str(node.attributes.linuxkit_blob.digest), stamp, boot()))


def _has_bytes(node: Delivered) -> bool:
    """Whether the file has the bytes of what the store says."""
    blob = node.attributes.linuxkit_blob
    try:
        return blob is not None and is_written(
            node.attributes.linuxkit_site.store, blob, Path(node.get_abspath())
        )
    except (LinuxKitError, OSError):
        return False


def _is_newer(path: Path, note: Path) -> bool:
    """Whether the file was changed after the note on it was written."""
    try:
        return path.stat().st_mtime_ns > note.stat().st_mtime_ns
    except OSError:
        return False


def _on_disk(known: Note, path: Path) -> _Verdict:
    """Find a file on the disk once the system has had the time to write it: no sync has to wait then."""
    try:
        if time.time() - path.stat().st_mtime < _WRITTEN_BACK:
            return _Verdict(True)
        with path.open("rb") as file:
            os.fdatasync(file.fileno())
    except PermissionError:
        return _Verdict(True)
    except OSError:  # what the system could not write
        return _Verdict(False)
    return _Verdict(True, known._replace(boot=""))


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
