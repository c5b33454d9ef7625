"""From YAMLs to the steps of an image: which stage runs on what, and in which order segments lie.

Kernel modules come first, then init, onboot, onshutdown, services and files, as LinuxKit has them: of two
records of one path the later wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from linuxkit_rules.errors import ErrorList, LinuxKitError, SpecError
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.plan.graph import Input, LocalFile, Step, inputs
from linuxkit_rules.plan.memo import Evidence
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.sources import Sources
from linuxkit_rules.spec.linuxkit import File, Spec, load
from linuxkit_rules.spec.merge import merge
from linuxkit_rules.stages.bundle import Bundle, bundles
from linuxkit_rules.stages.files import Files, items
from linuxkit_rules.stages.join import Join
from linuxkit_rules.stages.kernel import Kernel
from linuxkit_rules.stages.modules import Modules
from linuxkit_rules.stages.rootfs import Rootfs
from linuxkit_rules.stages.segment import ContainerRootfs, Segment


@dataclass(frozen=True, slots=True)
class Parts:
    """What the output formats are made of.

    ``kernel`` gives the kernel's bytes (None where the YAML names no kernel), ``initrd`` all ``segments``
    joined; ``tool`` gives the image of a tool of the library (a boot loader), for the image's architecture.
    """

    name: str
    arch: str
    cmdline: str
    kernel: Step | None
    segments: tuple[Step, ...]
    initrd: Step
    tool: Callable[[str], Step]


def plan(
    files: Mapping[str, Path],
    name: str,
    settings: Settings,
    exists: Callable[[Path], bool] = Path.exists,
    evidence: Evidence | None = None,
) -> Parts:
    """Plan the image ``name`` of YAMLs, merged in order; raise LinuxKitError with all faults to be seen.

    ``files`` maps the name that messages show to where each YAML lies; ``exists`` tells whether a local file
    is there, or will be.  Reads the YAMLs, components' build.yml, the package lock, and indexes of image
    layouts; no network.  What it reads is noted in ``evidence``.
    """
    noted = Evidence() if evidence is None else evidence
    spec = merge([load(noted.file(path), shown) for shown, path in files.items()])
    bases = {shown: path.parent for shown, path in files.items()}
    return _Planner(spec, bases, settings, exists, noted).parts(name)


class Packing(TypedDict):
    """How a stage packs its segment."""

    compression: Compression
    level: int


class _Planner:
    """Plans one image; faults are gathered and raised together."""

    def __init__(
        self,
        spec: Spec,
        bases: Mapping[str, Path],
        settings: Settings,
        exists: Callable[[Path], bool],
        evidence: Evidence,
    ) -> None:
        self._spec = spec
        self._bases = bases
        self._settings = settings
        self._exists = exists
        self._evidence = evidence
        self._packing = Packing(compression=settings.compression, level=settings.level)
        self._sources = Sources(settings, evidence)
        self._faults: list[LinuxKitError] = []

    def parts(self, name: str) -> Parts:
        """Give the plan; raise what faults there are."""
        init = list(self._init())
        containers = list(self._containers())
        kernel = self._kernel()
        segments = (*self._modules(), *init, *containers, *self._files())
        self._refuse_what_is_not_built()
        if self._faults:
            raise self._faults[0] if len(self._faults) == 1 else ErrorList(self._faults)
        return Parts(
            name=name,
            arch=self._settings.arch,
            cmdline=self._spec.kernel.cmdline,
            kernel=kernel,
            segments=segments,
            initrd=Step("initrd", Join(), tuple(Input("segment", item) for item in segments)),
            tool=self._sources.tool,
        )

    def _refuse_what_is_not_built(self) -> None:
        """Note what the YAML may say but no stage makes yet: better no image than one that lacks it."""
        for volume in self._spec.volumes:
            self._faults.append(
                SpecError(f"the volume {volume.name!r} cannot be made yet", where=volume.where)
            )
        if self._spec.kernel.ucode:
            self._faults.append(SpecError("ucode cannot be joined yet", where=self._spec.kernel.where))

    def _image(self, text: str, where: str) -> Step | None:
        """Give the step of an image, or note why there is none."""
        try:
            return self._sources.image(text, self._base(where), where)
        except ErrorList as error:
            self._faults += error.errors
        except LinuxKitError as error:
            self._faults.append(error)
        return None

    def _base(self, where: str) -> Path:
        """Give the folder of the YAML that ``where`` (file:line:column) lies in."""
        return self._bases[where.rsplit(":", 2)[0]]

    def _init(self) -> Iterator[Step]:
        for index, (text, where) in enumerate(zip(self._spec.init, self._spec.init_places, strict=True)):
            image = self._image(text, where)
            if image:
                stage = Rootfs(resolv_link=True, **self._packing)
                yield Step(f"init/{index:03}/rootfs", stage, inputs(("image", image)))

    def _kernel(self) -> Step | None:
        kernel = self._spec.kernel
        image = self._image(kernel.image, kernel.where) if kernel.image else None
        return image and Step("kernel/kernel", Kernel(kernel.binary or "kernel"), inputs(("image", image)))

    def _modules(self) -> Iterator[Step]:
        """Give the modules: those that components need of a component's kernel, all of any other's."""
        kernel = self._spec.kernel
        image = self._image(kernel.image, kernel.where) if kernel.image else None
        if image and kernel.tar not in ("", "none"):
            roots = self._sources.modules() if self._sources.is_component(kernel.image) else None
            stage = Modules(roots=roots, member=kernel.tar or "kernel.tar", **self._packing)
            places = zip(self._spec.init, self._spec.init_places, strict=True)
            init = [("init", step) for text, where in places if (step := self._image(text, where))]
            yield Step("kernel/modules", stage, inputs(("image", image), *init))

    def _containers(self) -> Iterator[Step]:
        images: dict[int, Step] = {}
        for _, _, item in self._spec.containers():
            image = self._image(item.image, item.place("image"))
            if image:
                images[id(item)] = image
        if not self._faults:
            # Two names of one image are one image; two images of one name (a component's) are two.
            numbers = {step.identity(): str(number) for number, step in enumerate(images.values())}
            for item, bundle in bundles(self._spec, lambda item: numbers[images[id(item)].identity()]):
                yield from self._container(bundle, images[id(item)])

    def _container(self, stage: Bundle, image: Step) -> Iterator[Step]:
        """Give a container's segments: its image's files, unless an earlier one has them, and its bundle."""
        name = stage.place.directory.removeprefix("containers/")
        if stage.first is None:
            files = ContainerRootfs(place=stage.place, image=stage.image, **self._packing)
            yield Step(f"{name}/rootfs", files, inputs(("image", image)))
        bundle = Step(f"{name}/bundle", stage, inputs(("image", image)))
        yield Step(f"{name}/segment", Segment(**self._packing), inputs(("bundle", bundle)))

    def _files(self) -> Iterator[Step]:
        entries, sources = items(self._spec, self._source)
        if entries:
            files = inputs(*((role, LocalFile(path)) for role, path in sources.items()))
            yield Step("files/segment", Files(items=entries, **self._packing), files)

    def _source(self, file: File) -> Path | None:
        """Give the local file of a ``source:``, or None where it is missing: noted unless optional."""
        text = file.source
        home = self._settings.home
        path = home / text[2:] if home and text.startswith("~/") else self._base(file.where) / text
        if self._evidence.existence(path, self._exists(path)):
            return path
        if not file.optional:
            hint = "if another target makes it, declare that one first"
            self._faults.append(SpecError(f"there is no file {text!r}", where=file.where, hint=hint))
        return None
