"""Remembers plans, so that a build with nothing to do reads no YAML and imports none of the stages.

A memo is a file ``plans/<sha256 of a question>`` in the store.  It holds an answer, the fingerprint of the
code that gave it, and the evidence: what was read to find it.  It counts only while all of that is as it was,
by content and not by time.  A memo that is missing, damaged or of other code is a miss, never an error.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of this package."""

_NO_CODE = frozenset(("__pycache__", "pkg", "run", "tools"))
_LIBRARIES = ("isal", "yaml", "zstandard")
"""Libraries whose version decides what a YAML means or what a stage's recipe says."""


class Evidence:
    """What was read for an answer.  Note each thing before it is read: then a change meanwhile is seen."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._places: dict[str, str] = {}
        self.there: dict[str, bool] = {}

    def file(self, path: Path) -> Path:
        """Note the contents of a file, or that there is none; give ``path``."""
        self._files.setdefault(str(path), _file(str(path)))
        return path

    def folder(self, path: Path) -> Path:
        """Note what lies below a folder: names, kinds, modes, targets of links; give ``path``.

        Contents are not noted: those files are inputs of steps.
        """
        self._folders.setdefault(str(path), _folder(str(path)))
        return path

    def place(self, path: Path) -> Path:
        """Give ``path`` without symbolic links, and note that it leads there."""
        found = os.path.realpath(path)
        self._places.setdefault(str(path), found)
        return Path(found)

    def existence(self, path: Path, there: bool) -> bool:
        """Note whether a local file was there, or was to be built; give ``there``."""
        return self.there.setdefault(str(path), there)

    def files(self) -> list[Path]:
        """Give the files that were read, sorted; not those that were not there."""
        return [Path(path) for path in sorted(self._files) if Path(path).is_file()]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Give a JSON object."""
        return {
            "files": self._files,
            "folders": self._folders,
            "places": self._places,
            "there": self.there,
        }


class Memo:
    """Answers kept below the folder ``root`` of a store; ``keep=False`` writes nothing.

    ``used`` hears which file is used, and when that was so before, in seconds since 1970.
    """

    def __init__(
        self, root: Path, keep: bool = True, used: Callable[[Path, float], object] = lambda path, time: None
    ) -> None:
        self._folder = root / "plans"
        self._keep = keep
        self._used = used

    def recall(self, question: str, exists: Callable[[Path], bool] = Path.exists) -> Memory | None:
        """Give what was kept under ``question``, or None where it is not known or no longer sure."""
        try:
            found, _, text = self._path(question).read_bytes().partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != found:
                return None
            value = json.loads(text)
        except (OSError, ValueError):
            return None
        if value["code"] != fingerprint() or value["question"] != question:
            return None
        if not _holds(value["evidence"], exists):
            return None
        with contextlib.suppress(FileNotFoundError):
            self._used(self._path(question), self._path(question).stat().st_mtime)
        return Memory(value["answer"], value["evidence"]["there"])

    def keep(self, question: str, answer: Any, evidence: Evidence) -> None:
        """Keep ``answer``, a JSON value; where that cannot be done, nothing is kept."""
        if not self._keep:
            return
        value = {
            "question": question,
            "code": fingerprint(),
            "evidence": evidence.to_json(),
            "answer": answer,
        }
        text = json.dumps(value, sort_keys=True).encode()
        path = self._path(question)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
            part.replace(path)
        except OSError:
            self.forget(question)

    def forget(self, question: str) -> None:
        """Drop what is kept under ``question``."""
        try:
            self._path(question).unlink(missing_ok=True)
        except OSError:
            return

    def _path(self, question: str) -> Path:
        return self._folder / hashlib.sha256(question.encode()).hexdigest()


class Memory:
    """A remembered answer, and which local files were there for it."""

    def __init__(self, answer: Any, there: dict[str, bool]) -> None:
        self.answer = answer
        self.there = there


def _holds(evidence: dict[str, dict[str, Any]], exists: Callable[[Path], bool]) -> bool:
    """Whether all that was read is as it was."""
    return (
        all(_file(path) == mark for path, mark in evidence["files"].items())
        and all(_folder(path) == mark for path, mark in evidence["folders"].items())
        and all(os.path.realpath(path) == place for path, place in evidence["places"].items())
        and all(exists(Path(path)) == there for path, there in evidence["there"].items())
    )


@functools.cache
def fingerprint() -> str:
    """Give a text that changes with the code that plans: Python, this package's modules, the libraries."""
    modules = sorted(_module(entry) for entry in _modules(str(PACKAGE)))
    return hashlib.sha256(json.dumps([sys.version, str(PACKAGE), modules, _libraries()]).encode()).hexdigest()


def _libraries() -> list[tuple[str, int, int, int]]:
    specs = (importlib.util.find_spec(name) for name in _LIBRARIES)
    origins = (Path(spec.origin) for spec in specs if spec and spec.origin)
    return [_module(path) for path in origins]


def _modules(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry
            elif entry.is_dir() and entry.name not in _NO_CODE:
                yield from _modules(entry.path)


def _module(entry: os.DirEntry[str] | Path) -> tuple[str, int, int, int]:
    state = entry.stat()
    return os.fspath(entry), state.st_size, state.st_mtime_ns, state.st_ino


def _file(path: str) -> str:
    """Give a mark of a file's contents: "" where it cannot be read."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for the writer of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _folder(path: str) -> str:
    """Give a mark of what lies below a folder: "" where it cannot be read."""
    try:
        rows = sorted(_below(path))
    except OSError:
        return ""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _below(folder: str) -> Iterator[tuple[str, int, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            link = os.readlink(entry.path) if stat.S_ISLNK(mode) else ""  # noqa: PTH115 - as fast as can be
            yield entry.path, stat.S_IFMT(mode) | mode & stat.S_IXUSR, link
            if stat.S_ISDIR(mode):
                yield from _below(entry.path)
