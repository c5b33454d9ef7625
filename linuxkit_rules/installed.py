"""Which versions of packages are installed."""

from __future__ import annotations

import functools
import os
import re
import sys

_SUFFIX = ".dist-info"


@functools.cache
def version(name: str) -> str:
    """Give the version of the installed distribution ``name``, or raise PackageNotFoundError.

    The name of its metadata's folder tells (PyPA specifications, "Recording installed projects"), where that
    is the first on the path; all else ``importlib.metadata`` is asked for, which costs the import of 70
    modules.
    """
    return _recorded(name) or _asked(name)


def _recorded(name: str) -> str:
    """Give the version by the first folder on the path that has any metadata of ``name``; or nothing."""
    for folder in sys.path:
        try:
            found = [item for item in os.listdir(folder or ".") if _names(item, name)]  # noqa: PTH208 - speed
        except FileNotFoundError:
            continue
        except OSError:  # an archive, perhaps
            return ""
        if found:
            path = os.path.join(folder, found[0], "METADATA")  # noqa: PTH118
            sound = len(found) == 1 and found[0].endswith(_SUFFIX) and os.path.isfile(path)  # noqa: PTH113
            return found[0].removesuffix(_SUFFIX).partition("-")[2] if sound else ""
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
