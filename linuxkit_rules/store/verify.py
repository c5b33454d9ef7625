"""Reads a whole store and drops what has rotted, so that the next build makes it anew."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from linuxkit_rules.store.blobs import FIXED
from linuxkit_rules.store.scratch import write_fixed
from linuxkit_rules.store.survey import Thing, survey
from linuxkit_rules.store.usage import cannot_write
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class Findings:
    """What was read (``blobs``, ``size`` in bytes, ``entries``), and what was dropped or mended.

    ``rotten`` are the names of blobs that were not what they said, ``damaged`` those of entries that could
    not be read, ``mended`` files of the image layout that were written again.  ``incomplete`` counts entries
    dropped for a blob that is not there.
    """

    blobs: int
    size: int
    entries: int
    rotten: tuple[str, ...]
    damaged: tuple[str, ...]
    mended: tuple[str, ...]
    incomplete: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing had rotted.  A missing blob is no damage: its entry is a miss."""
        return not (self.rotten or self.damaged or self.mended)


def verify(root: Path, jobs: int = 1, report: Callable[[int], None] = lambda size: None) -> Findings:
    """Verify the store at ``root``; ``report`` hears of the bytes read, from several threads.

    Safe beside builds.  Raises StoreError where a file cannot be read or removed.
    """
    try:
        found = survey(root)
        with ThreadPoolExecutor(jobs) as pool:
            checked = pool.map(lambda blob: _is_dropped(blob, report), found.blobs.values())
            rotten = {
                blob.path.name for blob, gone in zip(found.blobs.values(), checked, strict=True) if gone
            }
        damaged, incomplete = [], 0
        for item in found.entries:
            if not item.file.path.exists():
                continue  # a gc has removed it meanwhile, and its blobs after it
            if item.entry is None:
                damaged.append(item.file.path.name)
            elif any(blob.digest.hex in rotten for blob in item.entry.result.blobs):
                pass  # it is dropped with its blob
            elif found.is_whole(item.entry):
                continue
            else:
                incomplete += 1
            item.file.path.unlink(missing_ok=True)
        return Findings(
            blobs=len(found.blobs),
            size=sum(blob.size for blob in found.blobs.values()),
            entries=len(found.entries),
            rotten=tuple(sorted(rotten)),
            damaged=tuple(damaged),
            mended=tuple(_mend(root)),
            incomplete=incomplete,
        )
    except OSError as error:
        raise cannot_write(root, error, "verify the store") from error


def _is_dropped(blob: Thing, report: Callable[[int], None]) -> bool:
    """Whether a blob was not what its name says, and has been removed."""
    try:
        with blob.path.open("rb") as file:
            found = hashlib.sha256()
            while data := file.read(1 << 20):
                found.update(data)
                report(len(data))
            if found.hexdigest() == blob.path.name:
                return False
            seen = os.fstat(file.fileno())
        if os.path.samestat(seen, blob.path.stat()):  # else a build has just made it anew
            blob.path.unlink()
    except FileNotFoundError:
        return False
    return True


def _mend(root: Path) -> list[str]:
    """Write the fixed files of the image layout again where they are not as they should be."""
    mended = []
    for name, content in FIXED.items():
        path = root / name
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() != content:
                write_fixed(path, content)
                mended.append(name)
    return mended
