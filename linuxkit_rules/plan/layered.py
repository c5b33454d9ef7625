"""The steps of containers whose root file systems are overlays of layers that they share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from linuxkit_rules.errors import one_line
from linuxkit_rules.plan.graph import Input, Step, inputs
from linuxkit_rules.spec.linuxkit import File, normal
from linuxkit_rules.stages.bundle import Bundle
from linuxkit_rules.stages.pack import Packing
from linuxkit_rules.stages.segment import Segment
from linuxkit_rules.values import dataclass

MODULES = ("overlay",)
"""Kernel modules that such containers need, if there are any."""


_ROOTS = re.compile(r"containers/(onboot|onshutdown|services)/[^/]+/(lower|rootfs)(/|$)")


@dataclass(frozen=True, slots=True)
class Planned:
    """A container: its bundle's stage, its image, and its place in the YAML.

    ``component`` says that the image is a component's.
    """

    bundle: Bundle
    image: Step
    where: str
    component: bool = False

    @property
    def name(self) -> str:
        """What names of steps begin with: ``services/redis``."""
        return self.bundle.place.directory.removeprefix("containers/")


def hidden(files: Iterable[File]) -> Iterator[str]:
    """Give a warning for each of ``files`` that lies where the flat layout has a root file system."""
    for file in files:
        if _ROOTS.match(normal(file.path)):
            what = f"no container sees {one_line(repr(file.path))} in layered mode"
            yield f"{file.where}: files: {what}, as root file systems are overlays of containers/layers"


def layered(
    containers: Sequence[Planned], packing: Packing, support: tuple[Input, ...] = ()
) -> Iterator[Step]:
    """Give the segments: one step for all layers, each of them packed once, then each container's bundle.

    ``support`` is the input that says what the kernel unpacks, where there is one.
    """
    if not containers:
        return
    from linuxkit_rules.stages.layering import Layering
    from linuxkit_rules.stages.layers import SharedLayers

    images = [item for item in containers if item.bundle.first is None]
    stage = Layering(tuple(item.component for item in images), tuple(item.bundle.image for item in images))
    layering = Step("containers/layering", stage, inputs(*(("image", item.image) for item in images)))
    packed = [_packed(item, layering, packing, support) for item in images]
    yield Step("containers/layers", SharedLayers(), inputs(*(("layers", step) for step in packed)))
    for item in containers:
        given = inputs(("image", item.image), ("layering", layering))
        bundle = Step(f"{item.name}/bundle.layered", replace(item.bundle, first=None), given, item.where)
        files = (*inputs(("bundle", bundle)), *support)
        yield Step(f"{item.name}/segment.layered", Segment(**packing), files, item.where, group=item.name)


def _packed(item: Planned, layering: Step, packing: Packing, support: tuple[Input, ...]) -> Step:
    """Give the step that packs an image's layers."""
    from linuxkit_rules.stages.layers import PackLayers

    given = (*inputs(("image", item.image), ("layering", layering)), *support)
    return Step(f"{item.name}/layers", PackLayers(**packing), given, item.where, group=item.name)
