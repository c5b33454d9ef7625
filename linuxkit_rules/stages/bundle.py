"""Stage ``bundle``: a container's configuration and its image's to what LinuxKit lays beside the image.

The output is a small JSON document, ``application/vnd.linuxkit-rules.bundle.v1+json``: ``root`` is where the
image's files go (null where another container's are used), ``entries`` are directories, config.json and
runtime.json, in LinuxKit's order (src/cmd/linuxkit/moby/build/image.go, ImageBundle).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, fields
from typing import ClassVar

from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import ErrorList, SpecError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.config import LABEL, ImageSettings
from linuxkit_rules.oci.image import load
from linuxkit_rules.oci.overlay import overlay
from linuxkit_rules.oci.resources import Json
from linuxkit_rules.oci.runtime import config_json, document, rootfs_mounts, runtime_json
from linuxkit_rules.spec import linuxkit as spec
from linuxkit_rules.spec.image import ImageConfig, read_label
from linuxkit_rules.spec.merge import bind_volumes
from linuxkit_rules.spec.metadata import expanded
from linuxkit_rules.spec.runtime import Runtime
from linuxkit_rules.stages.pack import FIXED_TIME, parents
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

MEDIA_TYPE = "application/vnd.linuxkit-rules.bundle.v1+json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container lies: ``kind`` is its section, ``index`` its place there from 0, for services 0."""

    kind: spec.Kind
    index: int
    name: str
    readonly: bool | None = None
    """What the YAML says about the root file system; None leaves it to the image's label."""

    @classmethod
    def of(cls, kind: spec.Kind, index: int, item: spec.Container) -> Place:
        """Give the place of a container; how many services stand before a service must not decide its key."""
        return cls(kind, 0 if kind == "services" else index, item.name, item.config.readonly)

    @property
    def directory(self) -> str:
        """The container's directory, relative to the root: only services are not numbered."""
        number = "" if self.kind == "services" else f"{self.index:03d}-"
        return f"containers/{self.kind}/{number}{self.name}"

    def root(self, label: ImageConfig) -> str:
        """Where the image's files lie: ``rootfs`` if read-only, else ``lower``, below an overlay."""
        readonly = label.readonly if self.readonly is None else self.readonly
        return f"{self.directory}/{'rootfs' if readonly else 'lower'}"


@dataclass(frozen=True)
class Bundle(Stage):
    """Bundle of one container; input ``image`` is its image's manifest.

    With an input ``layering`` the root file system is an overlay of the image's layers there.  ``config`` has
    paths in place of volumes' names.  ``first`` is the first container of the same image, if that is another
    one: its files are used.  ``ids`` pairs those names of containers that ``config`` has for uid and gid with
    the numbers they stand for: what it does not name must not decide its key.
    """

    name: ClassVar[str] = "bundle"
    version: ClassVar[int] = 2
    place: Place
    config: ImageConfig = field(default_factory=ImageConfig)
    first: Place | None = None
    ids: tuple[tuple[str, int], ...] = ()
    image: str = field(default="", compare=False)
    where: str = field(default="", compare=False)

    def label(self) -> str:
        """The container's directory."""
        return self.place.directory

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Make the document; raise SpecError, ErrorList or ImageError."""
        (image,) = inputs["image"]
        settings, label = read_settings(image, work.store, self.image)
        _check_numbers(label, self.config, self.image or str(image.digest))
        layers = layer_directories(inputs, work.store)
        documents = self.documents(settings, label, layers)
        directory = self.place.directory
        own = not self.first and not layers
        points = [] if own else ["rootfs"]
        if len(layers) > 1 or not overlay(label, self.config).readonly:
            points = ["tmp", "rootfs"]
        value = {
            "directories": [
                *(entry.path for entry in parents(directory)),
                *(f"{directory}/{name}" for name in points),
            ],
            "files": {f"{directory}/{name}": document(item).decode() for name, item in documents.items()},
            "root": self.place.root(label) if own else None,
        }
        return Result(work.store.put(canonical_json(value), MEDIA_TYPE))

    def documents(
        self, settings: ImageSettings, label: ImageConfig, layers: Sequence[str] = ()
    ) -> dict[str, Json]:
        """Give config.json and runtime.json, by their names; raise SpecError.

        ``layers`` are the directories that the root file system is an overlay of, the topmost first.
        """
        config = overlay(label, self.config)
        roots = layers or ((self.first or self.place).root(label),)
        mounts = rootfs_mounts(self.place.directory, roots, bool(config.readonly))
        return {
            "config.json": config_json(config, settings, dict(self.ids), self.where),
            "runtime.json": runtime_json(config.runtime or Runtime(), mounts),
        }


def _check_numbers(label: ImageConfig, own: ImageConfig, where: str) -> None:
    """Raise SpecError where the label decides uid or gid by a name: those of containers are the YAML's."""
    counts = {item.name: getattr(label, item.name) for item in fields(own) if getattr(own, item.name) is None}
    if names := ImageConfig(**counts).names() - {"", "root"}:
        hint = "name containers as uid, gid and additionalGids in the YAML"
        raise SpecError(
            f"{min(names)!r} is no number of a user or group", where=f"{where}: label {LABEL}", hint=hint
        )


def layer_directories(inputs: Inputs, store: Store) -> tuple[str, ...]:
    """Give where the layers of the input ``image`` lie, the topmost first; nothing without ``layering``."""
    if "layering" not in inputs:
        return ()
    from linuxkit_rules.stages.layering import layers_of

    (image,) = inputs["image"]
    known = (layers_of(image, layering, store) for layering in inputs["layering"])
    return tuple(layer.directory for layers in known for layer in layers[::-1])


def read_settings(image: Descriptor, store: Store, name: str) -> tuple[ImageSettings, ImageConfig]:
    """Give an image's own settings and its label; ``name`` stands for the image in messages."""
    where = name or str(image.digest)
    settings = ImageSettings.from_json(load(store, image).config, where)
    return settings, read_label(settings.label, f"{where}: label {LABEL}")


def entries(bundle: Descriptor, store: Store) -> Iterator[Entry]:
    """Give the entries of a bundle's document: its directories, then its files."""
    value = json.loads(store.read(bundle.digest))
    for path in value["directories"]:
        yield Entry(path, Kind.DIRECTORY, 0o755, mtime=FIXED_TIME)
    for path, text in value["files"].items():
        yield Entry(path, Kind.FILE, 0o644, mtime=FIXED_TIME, content=text.encode())


def written(container: spec.Container) -> str:
    """Give the image as LinuxKit compares it: the full text, but without ``:latest`` where no tag is."""
    return expanded(container.image)


def bundles(
    whole: spec.Spec, same: Callable[[spec.Container], str] = written
) -> list[tuple[spec.Container, Bundle]]:
    """Give the stage of each container of ``whole``, in the order of the layout.

    Of containers for which ``same`` gives the same text, the first has the image's files (its stage's
    ``first`` is None) and the others use them.  Raises ErrorList for volumes that are not there.
    """
    first: dict[str, Place] = {}
    stages = []
    ids = whole.ids()
    for kind, index, item in whole.containers():
        place = Place.of(kind, index, item)
        config, faults = bind_volumes(item, whole.volumes)
        if faults:
            raise ErrorList(faults)
        user = first.setdefault(same(item), place)
        own = tuple((name, ids[name]) for name in sorted(config.names() & ids.keys()))
        stage = Bundle(
            place, config, None if user is place else user, own, image=item.image, where=item.where
        )
        stages.append((item, stage))
    return stages
