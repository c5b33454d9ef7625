"""Which versions of packages are installed."""

from __future__ import annotations

import functools
import os
import re
import sys
from pathlib import Path

_SUFFIX = ".dist-info"


@functools.cache
def version(name: str) -> str:
    """Give the version of the installed distribution ``name``, or raise PackageNotFoundError.

    The name of its metadata's folder tells (PyPA specifications, "Recording installed projects"), where that
    is the first on the path; for all else ``importlib.metadata`` is asked, which imports 70 modules.
    """
    return _recorded(name) or _asked(name)


def _recorded(name: str) -> str:
    """Give the version by the first folder on the path that has any metadata of ``name``; or nothing."""
    for folder in map(Path, sys.path):
        try:
            found = [item for item in os.listdir(folder) if _names(item, name)]  # noqa: PTH208 - their names alone
        except FileNotFoundError:
            continue
        except OSError:  # an archive, perhaps
            return ""
        if found:
            sound = (
                len(found) == 1 and found[0].endswith(_SUFFIX) and (folder / found[0] / "METADATA").is_file()
            )
            return found[0].removesuffix(_SUFFIX).partition("-")[2] if sound else ""
        if folder.suffix == ".egg":
            return ""
    return ""


def _names(item: str, name: str) -> bool:
    """Whether a folder's item is metadata of ``name``, in any form."""
    stem, _, form = item.rpartition(".")
    return form in ("dist-info", "egg-info") and _normal(stem.partition("-")[0]) == _normal(name)


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _asked(name: str) -> str:
    from importlib import metadata

    return metadata.version(name)
