"""Room on a disk that is set aside before a large file is written."""

from __future__ import annotations

import sys

_KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE: the file is no longer than what has been written to it."""


def set_aside(file: int, begin: int, size: int) -> None:
    """Have room for ``size`` bytes of ``file`` set aside, from ``begin`` on, where that can be: fallocate(2).

    What is written there then is allocated at once and not later: on ext4 that takes a tenth less time, and
    nothing waits for the disk where the file takes another's place by a rename, which took as long as the
    writing or twice that.  It is no more than a hint: where there is no room, writing tells.
    """
    if sys.maxsize < 2**32:  # off_t may have 32 bits there
        return
    import ctypes  # takes 7 ms

    # not posix_fallocate: where the file system cannot, the C library writes to each block of the file
    fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
    if fallocate:
        number = ctypes.c_int64
        fallocate(ctypes.c_int(file), ctypes.c_int(_KEEP_SIZE), number(begin), number(size))
