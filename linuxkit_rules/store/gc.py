"""Makes room in a store: what is of no more use goes, and of the rest what was used least recently.

It is safe beside builds: ``usage.py`` says how it knows what they use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from linuxkit_rules.errors import StoreError
from linuxkit_rules.store.locks import Locks, held, is_at, lock, remove_free
from linuxkit_rules.store.promises import PROMISES
from linuxkit_rules.store.scratch import LEFT, Scratch
from linuxkit_rules.store.survey import BUILDS, PLACE, PLANS, Survey, Thing, survey
from linuxkit_rules.store.usage import GC_LOCK, TOOLS, cannot_write, protected_since
from linuxkit_rules.values import dataclass

NOTES_AGE = 30 * 86400.0
"""Seconds after which plans, promises, and SCons's notes on images whose folder is not known, are dropped."""

_BATCH = 64
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Policy:
    """What may stay: at most ``max_size`` bytes, and what was used in the last ``max_age`` seconds."""

    max_size: int | None = None
    max_age: float | None = None


@dataclass(frozen=True, slots=True)
class Doomed:
    """What is to go, each group in order, the entries before the blobs that they name."""

    entries: tuple[Thing, ...] = ()
    blobs: tuple[Thing, ...] = ()
    tools: tuple[Thing, ...] = ()
    notes: tuple[Thing, ...] = ()
    """Plans, SCons's notes on images, and promises of a remote cache."""


@dataclass(frozen=True, slots=True)
class Freed:
    """What went (or would go): numbers of things, ``size`` in bytes; ``left`` is what stays, in bytes."""

    entries: int
    blobs: int
    tools: int
    notes: int
    size: int
    left: int


def collect(
    root: Path, policy: Policy, clock: Callable[[], float] = time.time, *, dry_run: bool = False
) -> Freed:
    """Make room in the store at ``root``; a second call at the same time waits for the first.

    Raises StoreError where files cannot be removed or locked.
    """
    if not (root / "blobs").is_dir():
        return Freed(0, 0, 0, 0, 0, 0)
    try:
        with Locks(root / "locks").exclusive("gc"):
            with held(root / GC_LOCK) as number:
                if number is None:
                    raise StoreError("nothing can be removed safely: it has no file locks", where=str(root))
                since = protected_since(root)
            found = survey(root)
            doomed = choose(found, policy, clock(), since)
            if dry_run:
                return _freed(found.size, [doomed.entries, doomed.blobs, doomed.tools, doomed.notes])
            (root / "tmp").mkdir(exist_ok=True)
            _sweep(root, clock)
            return _freed(found.size, _remove(root, doomed))
    except OSError as error:
        raise cannot_write(root, error, "remove from the store") from error


def choose(found: Survey, policy: Policy, now: float, since: float | None = None) -> Doomed:
    """Say what goes: what is damaged or named by nothing, too old, and then the least recently used.

    What was used since ``since`` stays.
    """
    return _Choice(found, policy, now, since).doomed()


class _Choice:
    """One decision: what goes is gathered, and how often each blob is still named is counted."""

    def __init__(self, found: Survey, policy: Policy, now: float, since: float | None) -> None:
        self._found = found
        self._policy = policy
        self._since = since
        self._oldest = now - policy.max_age if policy.max_age is not None else float("-inf")
        self._notes_oldest = max(now - NOTES_AGE, self._oldest)
        self._entries: list[Thing] = []
        self._blobs: list[Thing] = []
        self._tools: list[Thing] = []
        self._plans: list[Thing] = []
        self._named: Counter[str] = Counter()
        self._left = found.size

    def doomed(self) -> Doomed:
        candidates = [
            *((tool.used, tool, self._tools, _NOTHING) for tool in self._found.tools),
            *((plan.used, plan, self._plans, _NOTHING) for plan in self._found.plans),
            *self._live(),
        ]
        for name in self._found.blobs:
            self._drop_unnamed(name)
        for used, thing, group, named in sorted(candidates, key=lambda item: (item[0], str(item[1].path))):
            oldest = self._notes_oldest if group is self._plans else self._oldest
            if not self._is_safe(used) and (used < oldest or self._is_too_much()):
                self._go(group, thing)
                self._named.subtract(named)
                for name in sorted(named):
                    self._drop_unnamed(name)
        promises = (item for item in self._found.promises if item.used < self._notes_oldest)
        stale = (item for item in promises if not self._is_safe(item.used))
        notes = (*self._plans, *stale, *(item for item in self._found.builds if self._is_orphan(item)))
        return Doomed(tuple(self._entries), tuple(self._blobs), tuple(self._tools), notes)

    def _live(self) -> Iterator[tuple[float, Thing, list[Thing], frozenset[str]]]:
        """Give the entries that are whole, with the blobs that they name; the others go at once."""
        for item in self._found.entries:
            if item.entry is None or not self._found.is_whole(item.entry):
                self._go(self._entries, item.file)
                continue
            names = frozenset(blob.digest.hex for blob in item.entry.result.blobs)
            self._named.update(names)
            yield self._found.last_use(item), item.file, self._entries, names

    def _drop_unnamed(self, name: str) -> None:
        blob = self._found.blobs.get(name)  # a promised one is not here
        if blob and not self._named[name] and not self._is_safe(blob.used):
            self._go(self._blobs, blob)

    def _go(self, group: list[Thing], thing: Thing) -> None:
        group.append(thing)
        self._left -= thing.size

    def _is_safe(self, used: float) -> bool:
        return self._since is not None and used >= self._since

    def _is_too_much(self) -> bool:
        return self._policy.max_size is not None and self._left > self._policy.max_size

    def _is_orphan(self, notes: Thing) -> bool:
        """Whether the folder of the outputs has gone; where it is not known, whether the notes are old."""
        try:
            return not Path(os.fsdecode((notes.path / PLACE).read_bytes())).is_dir()
        except OSError:
            return notes.used < self._notes_oldest


def _freed(total: int, groups: Sequence[Sequence[Thing]]) -> Freed:
    size = sum(item.size for group in groups for item in group)
    entries, blobs, tools, notes = map(len, groups)
    return Freed(entries, blobs, tools, notes, size, total - size)


def _remove(root: Path, doomed: Doomed) -> list[list[Thing]]:
    """Remove what is still as it was seen, and not used by a build that has begun since; give what went."""
    files = [
        [thing for batch in _batches(group) for thing in _removed(root, batch, use)]
        for group, use in ((doomed.entries, False), (doomed.blobs, True))
    ]
    tools = [thing for tool in doomed.tools for thing in _removed(root, [tool], True)]
    notes = [thing for thing in doomed.notes if _remove_notes(root, thing.path)]
    return [*files, tools, notes]


def _batches(things: Sequence[Thing]) -> Iterator[Sequence[Thing]]:
    return (things[begin : begin + _BATCH] for begin in range(0, len(things), _BATCH))


def _removed(root: Path, things: Sequence[Thing], use: bool) -> list[Thing]:
    """Remove ``things`` unless they have changed, or been used (``use``) since the oldest lease began.

    A folder is renamed while the lock is held, and removed after.
    """
    gone, folders = [], []
    with held(root / GC_LOCK):
        since = protected_since(root)
        for thing in things:
            with contextlib.suppress(FileNotFoundError):
                used = thing.path.stat().st_mtime
                if used != thing.used or (use and since is not None and used >= since):
                    continue
                if thing.path.is_dir():
                    folders.append(_set_aside(root, thing.path))
                else:
                    thing.path.unlink()
                gone.append(thing)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is swept
    return gone


def _set_aside(root: Path, folder: Path) -> Path:
    """Take a folder away in one step; give where it is."""
    return folder.rename(root / "tmp" / f"gone-{folder.name}-{os.urandom(8).hex()}")


def _remove_notes(root: Path, path: Path) -> bool:
    """Remove a plan, or the notes on an image unless a build holds their lock."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    number = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not lock(number, fcntl.LOCK_EX | fcntl.LOCK_NB) or not is_at(number, path / "lock"):
            return False
        shutil.rmtree(_set_aside(root, path), ignore_errors=True)
    except BlockingIOError:
        return False
    finally:
        os.close(number)
    return True


def _sweep(root: Path, clock: Callable[[], float]) -> None:
    """Remove what killed processes have left: temporary files and locks, wherever they are."""
    Scratch(root / "tmp", clock).sweep()
    for path in (root / "locks").iterdir():
        with contextlib.suppress(FileNotFoundError):
            remove_free(path)
    for pattern in (
        f"{TOOLS}/.new-*",
        f"{PLANS}/.*",
        f"{PROMISES}/*/.*",
        f"{BUILDS}/*/.notes-*",
        ".oci-layout-*",
        ".index.json-*",
    ):
        for path in root.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                if clock() - path.stat().st_mtime > LEFT:
                    remove_free(path)
