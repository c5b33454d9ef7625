"""From a volume of a YAML to the step that makes its segment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Unpack

from linuxkit_rules.errors import ErrorList, LinuxKitError, SpecError
from linuxkit_rules.oci.manifest import Platform
from linuxkit_rules.oci.reference import LayoutSource, parse_source
from linuxkit_rules.plan.graph import Step, inputs
from linuxkit_rules.plan.sources import Sources
from linuxkit_rules.spec.linuxkit import Volume
from linuxkit_rules.stages.component import ComponentImage
from linuxkit_rules.stages.image import ArchiveImage, ImageStage, LayoutImage, PullImage
from linuxkit_rules.stages.pack import Packing
from linuxkit_rules.stages.stage import Stage
from linuxkit_rules.stages.volume import FilesVolume, LayoutVolume
from linuxkit_rules.stages.whole import WholeImage

_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9_]+)(?:/([a-z0-9.]+))?")


def volume_step(volume: Volume, sources: Sources, base: Path, **packing: Unpack[Packing]) -> Step:
    """Give the step that packs the segment of ``volume``, out of the YAML in the folder ``base``.

    ``platforms`` say what a volume of the format oci holds; another has its image for the machine that is
    built.  Raises LinuxKitError, or ErrorList, with the faults that show before an image is fetched.
    """
    faults: list[LinuxKitError] = []
    platforms = _platforms(volume, faults)
    if volume.format == "oci" and not volume.image:
        hint = "add image, or leave format out for an empty volume"
        faults.append(_fault(volume, "format oci needs an image", hint))
    image = _image(volume, sources, base, faults)
    if faults:
        raise faults[0] if len(faults) == 1 else ErrorList(faults)
    name = f"volumes/{volume.name}"
    if volume.format == "oci" and image is not None:
        laid_out = LayoutVolume(volume.name, _reference(image.stage), **packing)
        whole = _whole(f"{name}/image", volume, image, platforms)
        return Step(f"{name}/segment", laid_out, inputs(("image", whole)), volume.where)
    files = FilesVolume(volume.name, volume.image, **packing)
    given = inputs(("image", image)) if image else ()
    return Step(f"{name}/segment", files, given, volume.where)


def _fault(volume: Volume, message: str, hint: str | None = None) -> SpecError:
    return SpecError(f"volume {volume.name!r}: {message}", where=volume.where, hint=hint)


def _image(volume: Volume, sources: Sources, base: Path, faults: list[LinuxKitError]) -> Step | None:
    """Give the image's own step, or None where there is none; a fault is noted in ``faults``."""
    try:
        return sources.image(volume.image, base, volume.where) if volume.image else None
    except ErrorList as error:
        faults += error.errors
    except LinuxKitError as error:
        faults.append(error)
    return None


def _platforms(volume: Volume, faults: list[LinuxKitError]) -> tuple[Platform, ...]:
    """Read the platforms, sorted, each once; those that are none are noted in ``faults``."""

    def read() -> Iterator[Platform]:
        for text in volume.platforms:
            match = _PLATFORM.fullmatch(text)
            if match:
                yield Platform(match[1], match[2], match[3] or "")
            else:
                hint = "write os/architecture or os/architecture/variant, as linux/arm64"
                faults.append(_fault(volume, f"{text!r} is not a platform", hint))

    return tuple(sorted(set(read()), key=str))


def _whole(name: str, volume: Volume, image: Step, platforms: tuple[Platform, ...]) -> Step:
    """Give the step that brings all that ``image`` brings a part of; a component's image is all there is."""
    shown = f"volume {volume.name}: {volume.image}"
    if isinstance(image.stage, ImageStage):
        return Step(name, WholeImage(image.stage, platforms, shown), image.inputs, volume.where)
    return Step(name, WholeImage(None, platforms, shown), inputs(("image", image)), volume.where)


def _reference(stage: Stage) -> str:
    """Give the name by which the image is known where it comes from, or ``""``; never a path from here."""
    if isinstance(stage, PullImage):
        return stage.reference
    if isinstance(stage, LayoutImage):
        source = parse_source(stage.reference)
        return source.ref if isinstance(source, LayoutSource) else stage.reference
    if isinstance(stage, ArchiveImage):
        return stage.ref
    return stage.component.image if isinstance(stage, ComponentImage) else ""
