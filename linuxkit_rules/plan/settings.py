"""What decides an image besides its YAML."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from linuxkit_rules.debian.lock import LIBRARY_LOCK
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.stages.pack import Packing
from linuxkit_rules.values import dataclass

ARCHES = ("amd64", "arm64")
"""The architectures that are built for, in Debian's and OCI's words."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one build.

    ``arch`` is amd64 or arm64; segments are packed by ``compression`` at ``level``, or in the way for a
    ``release``, as ``stages.pack.PackingStage`` has these; Debian packages are pinned by the file
    ``package_lock``; ``layouts`` are OCI image layouts searched, by full reference, before any registry;
    ``home`` is what ``~`` in the ``source:`` of a file stands for; ``decompress_kernel`` takes the kernel out
    of its compressed image; ``trust_policy`` is the site's policy, which counts beside what YAMLs say;
    ``ignore_trust`` makes a warning of a YAML's ``trust:`` that names no keys; ``image_lock`` is
    the lock of images (None for the one beside the last YAML, if there is one); ``locked`` refuses a
    registry's image that the lock does not name; ``layered`` makes containers' root file systems, in what is
    no archive of the whole system, overlays of layers that they share.
    """

    arch: str = "amd64"
    compression: Compression | None = None
    level: int = 0
    release: bool = False
    package_lock: Path = LIBRARY_LOCK
    layouts: tuple[Path, ...] = field(default=())
    home: Path | None = None
    decompress_kernel: bool = False
    ignore_trust: bool = False
    trust_policy: Path | None = None
    image_lock: Path | None = None
    locked: bool = False
    layered: bool = False

    @property
    def packing(self) -> Packing:
        """How stages pack segments."""
        return Packing(compression=self.compression, level=self.level, release=self.release)
