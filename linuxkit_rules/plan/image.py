"""From YAMLs to the steps of an image: which stage runs on what, and in which order segments lie.

Kernel modules come first, then init, volumes, onboot, onshutdown, services and files, as LinuxKit has them:
of two records of one path the later wins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath

from linuxkit_rules.errors import ErrorList, LinuxKitError, SpecError
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.oci.pins import ImageLock, load_pins
from linuxkit_rules.oci.reference import Reference, parse_source
from linuxkit_rules.plan.graph import Input, LocalFile, Step, inputs
from linuxkit_rules.plan.layered import MODULES, Planned, hidden, layered
from linuxkit_rules.plan.memo import Evidence
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.sources import Sources
from linuxkit_rules.plan.template import with_references
from linuxkit_rules.plan.trust import Policies, policies_of
from linuxkit_rules.plan.volume import volume_step
from linuxkit_rules.spec.linuxkit import Container, File, Spec, load
from linuxkit_rules.spec.merge import merge
from linuxkit_rules.spec.trust import Trust
from linuxkit_rules.stages.apk import ApkDatabase
from linuxkit_rules.stages.boot import Boot
from linuxkit_rules.stages.bundle import bundles, written
from linuxkit_rules.stages.files import Files, items
from linuxkit_rules.stages.join import Join
from linuxkit_rules.stages.kernel import Kernel
from linuxkit_rules.stages.modules import Modules
from linuxkit_rules.stages.pack import PackingStage
from linuxkit_rules.stages.ramdisk import RamdiskSupport
from linuxkit_rules.stages.rootfs import Rootfs
from linuxkit_rules.stages.segment import ContainerRootfs, Segment
from linuxkit_rules.stages.support import SUPPORT
from linuxkit_rules.values import dataclass

STDIN = "-"
"""What messages call standard input."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the output formats are made of.

    ``kernel`` gives the kernel's bytes (None where the YAML names no kernel), ``ucode`` an archive of
    microcode for the processor, ``segments`` the system as parts of an initramfs, ``members`` the same as tar
    members, with kernel, command line and microcode below boot; ``initrd`` is microcode and segments joined;
    ``tool`` gives the image of a tool of the library (a boot loader), for the image's architecture; ``spec``
    is what the YAMLs say, merged; ``warnings`` are for the user, at each build.
    """

    name: str
    arch: str
    cmdline: str
    kernel: Step | None
    ucode: Step | None
    segments: tuple[Step, ...]
    members: tuple[Step, ...]
    initrd: Step
    tool: Callable[[str], Step]
    spec: Spec = Spec()
    warnings: tuple[str, ...] = ()


def plan(
    files: Mapping[str, Path],
    name: str,
    settings: Settings,
    exists: Callable[[Path], bool] = Path.exists,
    evidence: Evidence | None = None,
    bases: Mapping[str, Path] | None = None,
) -> Parts:
    """Plan the image ``name`` of YAMLs, merged in order; raise LinuxKitError with all faults to be seen.

    ``files`` maps the name that messages show to where each YAML lies; ``exists`` tells whether a local file
    is there, or will be.  Reads the YAMLs, components' build.yml, the package lock, and indexes of image
    layouts; no network.  What it reads is noted in ``evidence``.  ``bases`` are the folders from which
    relative paths count in YAMLs for which that is not their own.
    """
    noted = Evidence() if evidence is None else evidence
    folders = {shown: path.parent for shown, path in files.items()} | dict(bases or {})
    spec = merge([load(noted.file(path), shown, folders[shown]) for shown, path in files.items()])
    lock = _lock(settings, list(files)[-1], folders, noted)
    return _Planner(spec, folders, settings, exists, noted, lock).parts(name)


def _lock(settings: Settings, shown: str, folders: Mapping[str, Path], evidence: Evidence) -> ImageLock:
    """Read the lock of images: the one that the settings name, which must be there, or that of ``shown``."""
    if settings.image_lock:
        return load_pins(evidence.file(settings.image_lock), str(settings.image_lock))
    name = lock_name(shown)
    path = evidence.file(folders[shown] / PurePath(name).name)
    return load_pins(path, name) if path.exists() else ImageLock(where=name)


def lock_name(shown: str) -> str:
    """Give the name of the lock of images that belongs to a YAML: NAME.lock beside NAME.yml."""
    return "linuxkit.lock" if shown == STDIN else str(PurePath(shown).with_suffix(".lock"))


def _as_members(step: Step) -> Step:
    """Give the step that packs the same entries as tar members."""
    assert isinstance(step.stage, PackingStage)  # noqa: S101 - segments are made by nothing else
    group = f"{step.group}.tar" if step.group else ""
    return replace(step, name=f"{step.name}.tar", stage=step.stage.as_members(), group=group)


class _Planner:
    """Plans one image; faults are gathered and raised together."""

    def __init__(
        self,
        spec: Spec,
        bases: Mapping[str, Path],
        settings: Settings,
        exists: Callable[[Path], bool],
        evidence: Evidence,
        lock: ImageLock,
    ) -> None:
        self._bases = bases
        self._settings = settings
        self._exists = exists
        self._evidence = evidence
        self._packing = settings.packing
        self._faults: list[LinuxKitError] = []
        self._warnings: tuple[str, ...] = ()
        self._policies = self._policies_of(spec.trust)
        self._sources = Sources(settings, evidence, lock, self._policies)
        self._spec = with_references(spec, self._reference)

    def parts(self, name: str) -> Parts:
        """Give the plan; raise what faults there are."""
        init = list(self._init())
        volumes = list(self._volumes())
        containers = list(self._containers())
        flat = [step for item in containers for step in self._container(item)]
        kernel, ucode = self._kernel(), self._ucode()
        boot = (Step("kernel/boot", Boot(**self._packing)),) if kernel else ()
        first, last = [*self._modules(), *init, *volumes], list(self._files())
        if self._faults:
            raise self._faults[0] if len(self._faults) == 1 else ErrorList(self._faults)
        support = self._support()
        own = layered(containers, self._packing, support) if self._settings.layered else flat
        packed = tuple(self._supported(step, support) for step in (*boot, *first, *own, *last))
        before = (ucode,) if ucode else ()
        return Parts(
            name=name,
            arch=self._settings.arch,
            cmdline=self._spec.kernel.cmdline if kernel else "",
            kernel=kernel,
            ucode=ucode,
            segments=packed,
            members=(*self._boot_files(kernel, ucode), *map(_as_members, (*first, *flat, *last))),
            initrd=Step("initrd", Join(), tuple(Input("segment", item) for item in before + packed)),
            tool=self._sources.tool,
            spec=self._spec,
            warnings=tuple(self._all_warnings()),
        )

    def _all_warnings(self) -> Iterator[str]:
        """Give what the user is to be told at each build."""
        yield from self._warnings
        yield from self._policies.warnings() if self._policies else ()
        yield from hidden(self._spec.files) if self._settings.layered else ()

    def _policies_of(self, trust: Trust) -> Policies | None:
        """Give what ``trust`` and the site's policy ask for, or note what is wrong there."""
        with self._noting():
            found, self._warnings = policies_of(trust, self._settings, self._evidence)
            return found
        return None

    def _support(self) -> tuple[Input, ...]:
        """Give the input that says what the kernel unpacks, where that can matter."""
        image, kernel = self._kernel_image(), self._spec.kernel
        if image is None or self._settings.packing.get("compression") is Compression.NONE:
            return ()
        stage = RamdiskSupport(kernel.binary or "kernel", kernel.image)
        return inputs((SUPPORT, Step("kernel/support", stage, inputs(("image", image)), kernel.where)))

    def _supported(self, step: Step, support: tuple[Input, ...]) -> Step:
        """Give a step that packs with that input."""
        if not support or not isinstance(step.stage, PackingStage) or support[0] in step.inputs:
            return step
        where = step.where or self._spec.kernel.where
        return replace(step, inputs=(*step.inputs, *support), where=where)

    def _image(self, text: str, where: str) -> Step | None:
        """Give the step of an image, or note why there is none."""
        with self._noting():
            return self._sources.image(text, self._base(where), where)
        return None

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Keep the faults of the block, to go on and find more."""
        try:
            yield
        except ErrorList as error:
            self._faults += error.errors
        except LinuxKitError as error:
            self._faults.append(error)

    def _reference(self, text: str, where: str) -> str:
        """Give the reference in the place of a template; one that has none is told with its image."""
        try:
            return self._sources.reference(text, self._base(where), where)
        except LinuxKitError:
            return text

    def _base(self, where: str) -> Path:
        """Give the folder of the YAML that ``where`` (file:line:column) lies in."""
        return self._bases[where.rsplit(":", 2)[0]]

    def _init(self) -> Iterator[Step]:
        images = [(index, image) for index, image in enumerate(self._init_images()) if image]
        for index, image in images:
            stage = Rootfs(resolv_link=True, image=self._spec.init[index], **self._packing)
            where = f"{self._spec.init_places[index]}: init[{index}]"
            yield Step(f"init/{index:03}/rootfs", stage, inputs(("image", image)), where)
        if len(images) > 1:
            given = inputs(*(("image", image) for _, image in images))
            names = tuple(self._spec.init[index] for index, _ in images)
            yield Step("init/apk", ApkDatabase(images=names, **self._packing), given)

    def _init_images(self) -> Iterator[Step | None]:
        for text, where in zip(self._spec.init, self._spec.init_places, strict=True):
            yield self._image(text, where)

    def _kernel_image(self) -> Step | None:
        kernel = self._spec.kernel
        return self._image(kernel.image, kernel.where) if kernel.image else None

    def _kernel(self) -> Step | None:
        image, text = self._kernel_image(), self._spec.kernel.image
        stage = Kernel(self._spec.kernel.binary or "kernel", self._settings.decompress_kernel, text)
        return image and Step("kernel/kernel", stage, inputs(("image", image)), self._spec.kernel.where)

    def _ucode(self) -> Step | None:
        """Give the archive of microcode, which lies before all else, never compressed."""
        image, ucode = self._kernel_image(), self._spec.kernel.ucode
        if not (image and ucode):
            return None
        stage = Kernel(ucode, image=self._spec.kernel.image)
        return Step("kernel/ucode", stage, inputs(("image", image)), self._spec.kernel.where)

    def _boot_files(self, kernel: Step | None, ucode: Step | None) -> Iterator[Step]:
        """Give what lies below boot in an archive of the whole system."""
        spec, image = self._spec.kernel, self._kernel_image()
        if image and kernel:
            given = [("image", image), ("kernel", kernel)] + ([("ucode", ucode)] if ucode else [])
            stage = Boot(
                cmdline=spec.cmdline, member=spec.binary or "kernel", ucode=spec.ucode or ""
            ).as_members()
            yield Step("kernel/boot.tar", stage, inputs(*given))

    def _modules(self) -> Iterator[Step]:
        """Give the modules: those that components need of a component's kernel, all of any other's."""
        kernel, image = self._spec.kernel, self._kernel_image()
        if image and kernel.tar not in ("", "none"):
            roots = self._roots() if self._sources.is_component(kernel.image) else None
            member = kernel.tar or "kernel.tar"
            stage = Modules(roots=roots, member=member, shown=kernel.image, **self._packing)
            init = [("init", step) for step in self._init_images() if step]
            yield Step("kernel/modules", stage, inputs(("image", image), *init), kernel.where)

    def _roots(self) -> tuple[str, ...]:
        """Give the kernel modules that are needed of a component's kernel."""
        overlays = self._settings.layered and self._spec.containers()
        return tuple(sorted({*self._sources.modules(), *(MODULES if overlays else ())}))

    def _volumes(self) -> Iterator[Step]:
        for volume in self._spec.volumes:
            base = self._base(volume.where)
            with self._noting():
                yield volume_step(volume, self._sources, base, **self._packing)

    def _containers(self) -> Iterator[Planned]:
        images: dict[int, Step] = {}
        for _, _, item in self._spec.containers():
            image = self._image(item.image, item.place("image"))
            if image:
                images[id(item)] = image
        if not self._faults:
            # As in LinuxKit two names of one image are two images; so are two components of one name.  How
            # the path to an image is written does not matter.
            numbers = {step.identity(): number for number, step in enumerate(images.values())}

            def same(item: Container) -> str:
                name = written(item) if isinstance(parse_source(item.image), Reference) else ""
                return f"{numbers[images[id(item)].identity()]} {name}"

            for item, bundle in bundles(self._spec, same):
                component = self._sources.is_component(item.image)
                yield Planned(bundle, images[id(item)], f"{item.where}: {item.path}", component)

    def _container(self, item: Planned) -> Iterator[Step]:
        """Give a container's segments: its image's files, unless an earlier one has them, and its bundle."""
        name, stage, image = item.name, item.bundle, inputs(("image", item.image))
        if stage.first is None:
            files = ContainerRootfs(place=stage.place, image=stage.image, **self._packing)
            yield Step(f"{name}/rootfs", files, image, item.where, group=name)
        bundle = Step(f"{name}/bundle", stage, image, item.where)
        yield Step(f"{name}/segment", Segment(**self._packing), inputs(("bundle", bundle)), group=name)

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
        there = self._evidence.existence(path, self._exists(path))
        if self._evidence.folder(path).is_dir():
            self._faults.append(SpecError(f"{text!r} is a folder, where a file is needed", where=file.where))
        elif there and path.exists() and not path.is_file():
            self._faults.append(SpecError(f"{text!r} is a pipe, socket or device", where=file.where))
        elif there and path.exists() and not os.access(path, os.R_OK):
            self._faults.append(SpecError(f"the file {text!r} may not be read", where=file.where))
        elif there:
            return path
        elif not file.optional:
            hint = "if another target makes it, declare that one first"
            self._faults.append(SpecError(f"there is no file {text!r}", where=file.where, hint=hint))
        return None
