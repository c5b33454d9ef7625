"""Pulling with the project's own client, in a store of the test's own."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.oci.image import load
from linuxkit_rules.oci.manifest import LAYER, MANIFEST, Manifest, parse
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.progress import Silent
from linuxkit_rules.oci.retry import Pauses
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.image import PullImage
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.images import Blobs, tar
from tests.servers.fixed import Fixed

Image = tuple[Blobs, Descriptor, Digest]

LOWER, UPPER = tar(a=b"1" * 100_000, b=b"2"), tar(b=b"3")


@dataclass
class Slept:
    """Pauses that take no time, and are kept."""

    seconds: list[float] = field(default_factory=list)

    def pauses(self) -> Pauses:
        return Pauses(self.seconds.append, lambda: 1.0)


class Warnings(Silent):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        self.texts.append(text)


def engine_in(folder: Path, slept: Slept | None = None, **access: Any) -> Engine:
    """An engine with an empty store, whose pauses take no time.

    What is a field of Network goes there, the rest to Access.
    """
    names = {item.name for item in dataclasses.fields(Network)}
    network = {name: access.pop(name) for name in names & set(access)}
    made = Network(**{"pauses": (slept or Slept()).pauses(), **network})
    return Engine(Store(folder / "store"), access=Access(network=made, **access))


def pull(engine: Engine, reference: str, arch: str = "amd64") -> list[bytes]:
    """The image's layers, as plain tar."""
    image = load(engine.store, engine.run(PullImage(reference, arch), {}).output)
    assert image.manifest.media_type == MANIFEST
    assert {layer.media_type for layer in image.layers} <= {LAYER}
    return [engine.store.read(layer.digest) for layer in image.layers]


def layers_of(blobs: Blobs, top: Descriptor) -> list[Descriptor]:
    """The layers of an image, as they are kept."""
    manifest = parse(blobs.data[top.digest], top.media_type, "test")
    assert isinstance(manifest, Manifest)
    return list(manifest.layers)


def served(fixed: Fixed) -> Image:
    """An image of one layer that the server has: blobs, manifest, the layer's digest."""
    blobs = Blobs()
    found = blobs.image([LOWER])
    fixed.serve(blobs, found)
    return blobs, found, layers_of(blobs, found)[0].digest
