"""Which versions of packages are installed."""

from __future__ import annotations

import contextlib
import os
import re
import sys


def version(name: str) -> str:
    """Give the version of the installed distribution ``name``, or raise PackageNotFoundError.

    The name of its metadata's folder tells (PyPA specifications, "Recording installed projects"); to ask
    ``importlib.metadata`` costs the import of 70 modules.
    """
    folder_name = re.compile(rf"{re.escape(name)}-([^-]+)\.dist-info")
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for found in map(folder_name.fullmatch, os.listdir(folder or ".")):  # noqa: PTH208 - names alone
                if found:
                    return found[1]
    from importlib import metadata

    return metadata.version(name)
