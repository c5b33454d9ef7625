"""Small container images made for tests: real tars, real compressors, real digests."""

import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

import zstandard

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.oci.manifest import (
    CONFIG,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    LAYER,
    MANIFEST,
    Index,
    Manifest,
    Member,
    Platform,
)

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64", "v8")


def tar(**files: bytes) -> bytes:
    """An archive of plain files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def pack(data: bytes, how: str) -> bytes:
    """Compress with ``gzip``, ``zstd`` or nothing."""
    if how == "gzip":
        return gzip.compress(data, mtime=0)
    return zstandard.compress(data) if how == "zstd" else data


@dataclass
class Blobs:
    """Blobs by digest, and what puts images together from them."""

    data: dict[Digest, bytes] = field(default_factory=dict)

    def add(self, data: bytes, media_type: str) -> Descriptor:
        digest = Digest.of(data)
        self.data[digest] = data
        return Descriptor(media_type, digest, len(data))

    def config(self, layers: list[bytes], platform: Platform = AMD64, **changes: Any) -> bytes:
        value = {
            "os": platform.os,
            "architecture": platform.architecture,
            "config": {"Cmd": ["/a"]},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer)) for layer in layers]},
            **changes,
        }
        if platform.variant:
            value["variant"] = platform.variant
        return json.dumps(value).encode()

    def image(
        self,
        layers: list[bytes],
        how: str = "gzip",
        *,
        platform: Platform = AMD64,
        docker: bool = False,
        config: bytes | None = None,
    ) -> Descriptor:
        """An image of the given plain tars, each compressed as ``how`` says."""
        suffix = f"{'.' if docker else '+'}{how}" if how else ""
        kind = f"{DOCKER_LAYER if docker else LAYER}{suffix}"
        described = tuple(self.add(pack(layer, how), kind) for layer in layers)
        text = self.config(layers, platform) if config is None else config
        kept = self.add(text, DOCKER_CONFIG if docker else CONFIG)
        manifest = Manifest(kept, described, DOCKER_MANIFEST if docker else MANIFEST)
        return self.add(manifest.to_bytes(), manifest.media_type)

    def index(self, *members: Member) -> Descriptor:
        index = Index(members)
        return self.add(index.to_bytes(), index.media_type)

    def files(self, *named: tuple[Descriptor, dict[str, str]]) -> dict[str, bytes]:
        """The files of an OCI image layout with these images, each with its annotations."""
        index = Index(tuple(Member(item, None, annotations) for item, annotations in named))
        return {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": index.to_bytes(),
            **{f"blobs/sha256/{digest.hex}": data for digest, data in self.data.items()},
        }
