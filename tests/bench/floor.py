"""What no build of a tree can do without: files read and hashed, all packed by zstd 1, hashed and written.

``python -m tests.bench.floor FOLDER OUT``: one thread, buffers used again, no archive's headers, no plan.
"""

import hashlib
import sys
from pathlib import Path

from linuxkit_rules.formats.buffers import page_buffer
from linuxkit_rules.formats.compression import Compression, compressed
from linuxkit_rules.oci.origin import HashWriter

MODULE = "tests.bench.floor"
_PIECE = 1 << 19


def pack(folder: str, out: Path) -> None:
    """Do it."""
    buffer = page_buffer(_PIECE)
    with out.open("wb") as file, compressed(HashWriter(file), Compression.ZSTD, 1) as packed:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            found = hashlib.sha256()
            with path.open("rb", buffering=0) as source:
                while size := source.readinto(buffer):
                    found.update(buffer[:size])
                    packed.write(buffer[:size])


if __name__ == "__main__":
    pack(sys.argv[1], Path(sys.argv[2]))
