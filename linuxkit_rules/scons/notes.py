"""SCons's notes on what it built, as ``moby build`` keeps them in the store: a module as SCons wants one.

The file is that of SCons's own module: a pickled dictionary.  Unlike that one, it is synced before it is
renamed, one that is damaged in any way is an empty one, and one that cannot be written is no crash: notes are
for speed only, as a build without them gets all steps from memory.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import tempfile
from pathlib import Path

from linuxkit_rules.store.locks import READ_ONLY


class Notes(dict[str, bytes]):
    """The notes in the file ``path``, written back by ``sync``."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._changed = False
        with contextlib.suppress(Exception):  # unpickling can raise anything
            found = pickle.loads(path.read_bytes())  # noqa: S301 - SCons's own format, in the user's own store
            self.update({str(name): bytes(value) for name, value in found.items()})

    def __setitem__(self, name: str, value: bytes) -> None:
        self._changed = self._changed or self.get(name) != value
        super().__setitem__(name, value)

    def sync(self) -> None:
        """Write the file in one step; say so where that cannot be done, unless it may only be read."""
        if not self._changed:
            return
        self._changed = False
        try:
            with tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=".notes-", delete=False) as file:
                try:
                    pickle.dump(dict(self), file)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(self._path)
                finally:
                    Path(file.name).unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in READ_ONLY:
                print(f"warning: {self._path}: cannot be written: {error.strerror}", file=sys.stderr)

    close = sync


def open(name: str, flag: str = "c", mode: int = 0o666) -> Notes:  # noqa: A001 - SCons's name for it
    """Give the notes in the file ``name``, empty where it is missing or damaged."""
    return Notes(Path(name))
