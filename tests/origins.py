"""The proof of ``oci.explain``: change what a value is said to come from, and see what changes."""

import copy
import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

from linuxkit_rules.oci.config import ImageSettings
from linuxkit_rules.oci.explain import DEFAULT, Line, Source, explain
from linuxkit_rules.spec.image import ImageConfig, read_label
from linuxkit_rules.spec.linuxkit import Spec, loads
from linuxkit_rules.spec.merge import bind_volumes
from linuxkit_rules.stages.bundle import Bundle

MISSING = object()
UNUSED = ["CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND"]
UNSAID = {item.name for item in dataclasses.fields(ImageConfig) if item.default == ""}
"""Keys whose empty value is as good as none."""

WHERE_EMPTY: dict[str, Any] = {
    "capabilities": UNUSED,
    "ambient": UNUSED,
    "resources": {"pids": {"limit": 7}},
    "resources.memory": {"limit": 7},
    "resources.cpu": {"shares": 7},
    "resources.pids": {"limit": 7},
    "resources.blockio": {"weight": 7},
    "resources.network": {"classID": 7},
    "runtime.cgroups": ["x"],
    "runtime.mounts": [{"type": "proc", "destination": "/x"}],
    "runtime.mkdir": ["x"],
    "runtime.interfaces": [{"name": "x"}],
}
"""Values that say something, in the place of empty ones that a document shows."""


@dataclasses.dataclass
class World:
    """One container: what its YAML, its image's label and its image's configuration say, as JSON."""

    stage: Bundle
    spec: Spec
    yaml: dict[str, Any]
    label: dict[str, Any]
    image: dict[str, Any]

    def documents(self) -> tuple[Any, ...]:
        """The documents, and what they were made of."""
        (item,) = loads(json.dumps({"services": [self.yaml]}), "f.yml").services
        item = dataclasses.replace(item, name=self.stage.place.name)
        own, _ = bind_volumes(item, self.spec.volumes)
        place = dataclasses.replace(self.stage.place, readonly=own.readonly)
        label = read_label(json.dumps(self.label), "label")
        settings = ImageSettings.from_json({"config": self.image}, "image")
        stage = dataclasses.replace(self.stage, config=own, place=place)
        return stage.documents(settings, label), own, label, settings

    def lines(self) -> tuple[Line, ...]:
        return explain(*self.documents())

    def changed(self, *sources: Source) -> "World":
        """The same world but for the values of ``sources``."""
        other = dataclasses.replace(self, **{kind: copy.deepcopy(getattr(self, kind)) for kind in KINDS})
        for source in sources:
            change(getattr(other, source.kind), split(source.path), source.path)
        return other

    def sources(self) -> Iterator[Source]:
        """Everything that is said, whether it counts or not."""
        for kind in ("yaml", "label"):
            for key, value in getattr(self, kind).items():
                if key not in ("name", "image") and not (key in UNSAID and value == ""):
                    yield from (Source(kind, path) for path in units(key, value))
        for key in ("Entrypoint", "Cmd", "Env", "WorkingDir"):
            if self.image.get(key):
                yield from (Source("image", path) for path in units(key, self.image[key]))


KINDS = ("yaml", "label", "image")


def units(path: str, value: Any) -> Iterator[str]:
    """Paths of scalars and of items of lists: what an origin can name."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from units(f"{path}.{key}", item)
    elif isinstance(value, list):
        yield from (f"{path}[{index}]" for index, _ in enumerate(value))
    elif value is not None:
        yield path


def split(path: str) -> list[str | int]:
    """Keys and indexes of a source's path; ``binds.add`` and keys of sysctl are one key."""
    whole, _, index = path.removesuffix("]").partition("[") if path.endswith("]") else (path, "", "")
    head, _, rest = whole.partition(".")
    keys: list[str | int] = [whole]
    if head in ("sysctl", "annotations") and rest:
        keys = [head, rest]
    elif head in ("resources", "runtime"):
        keys = list(whole.split("."))
    return [*keys, int(index)] if index else keys


def change(document: dict[str, Any], keys: list[str | int], path: str) -> None:
    place: Any = document
    for key in keys[:-1]:
        place = place.setdefault(key, {}) if isinstance(key, str) else place[key]
    last = keys[-1]
    old = place.get(last, MISSING) if isinstance(place, dict) else place[last]
    place[last] = another(path, old)


def another(path: str, old: Any) -> Any:
    """A valid value of the same kind that means something else."""
    name = re.sub(r"\[\d+\]$", "", path)
    if old is MISSING or isinstance(old, list) or old == {}:
        return WHERE_EMPTY.get(name, 7)
    if isinstance(old, bool):
        return not old
    if name in ("uid", "gid", "additionalGids"):
        return 54321
    if isinstance(old, int):
        return old - 1 if old > 0 else old + 1
    if isinstance(old, dict):
        return {**old, **another_part(name, old)}
    if name in ("capabilities", "capabilities.add", "ambient"):
        return "none" if old.lower() == "all" else next(name for name in UNUSED if name != old)
    if name in ("binds", "binds.add"):
        source, destination, *options = old.split(":")
        return ":".join([source, f"{destination}/another", *options])
    if name == "tmpfs":
        return old.partition(":")[0] + ":size=77k"
    return "core,1234,5678" if name == "rlimits" else f"{old}x"


def another_part(name: str, old: dict[str, Any]) -> dict[str, Any]:
    if name.endswith("mounts"):
        return {"options": [*old.get("options", ()), "another"]}
    if name == "devices" and old["path"] == "all":
        return {"type": "b" if old["type"] == "c" else "c"}
    if name == "resources.devices":
        return {"allow": not old.get("allow", False)}
    key = next(key for key in ("minor", "size", "limit", "priority", "name") if key in old)
    return {key: old[key] + ("x" if key == "name" else 1)}


def identified(lines: tuple[Line, ...]) -> dict[Any, Line]:
    """Lines by what they are, not by where they stand in a list that grows and shrinks."""
    found: dict[Any, Line] = {}
    for line in lines:
        identity: Any = line.path
        if "mounts" in line.path and isinstance(line.value, dict):
            identity = (*line.path[:-1], line.value["destination"])
        elif line.path[:2] == ("process", "capabilities") and isinstance(line.value, str):
            identity = (*line.path[:-1], line.value)
        elif line.path[:2] == ("linux", "namespaces"):
            identity = (*line.path[:-1], line.value["type"])
        while identity in found:
            identity = (*identity, "again")
        found[identity] = line
    return found


def put_together(lines: tuple[Line, ...]) -> dict[str, Any]:
    """Make documents of lines again."""
    top: dict[str, Any] = {}
    for line in lines:
        place: Any = top
        for key, following in zip(line.path, line.path[1:], strict=False):
            if isinstance(key, str):
                place = place.setdefault(key, [] if isinstance(following, int) else {})
        if isinstance(line.path[-1], int):
            assert line.path[-1] == len(place)
            place.append(line.value)
        else:
            place[line.path[-1]] = line.value
    return top


def prove(world: World) -> int:
    """Change every source alone: what names it changes, and nothing else; give how many were changed.

    Where several sources say the same (a capability in two lists), each of them alone upholds the value.
    """
    before = identified(world.lines())
    values = {identity: line.value for identity, line in before.items()}

    def moved(*sources: Source) -> set[Any]:
        after = {
            identity: line.value for identity, line in identified(world.changed(*sources).lines()).items()
        }
        return {identity for identity, value in values.items() if after.get(identity, MISSING) != value}

    plain = {
        identity: [dataclasses.replace(item, derived=False) for item in line.sources if item not in DEFAULT]
        for identity, line in before.items()
    }
    said = {*world.sources(), *(item for sources in plain.values() for item in sources)}
    for source in said:
        named = {identity for identity, sources in plain.items() if source in sources}
        alone = {identity for identity in named if len(plain[identity]) == 1}
        assert alone <= moved(source) <= named, source
    for identity, sources in plain.items():
        assert not sources or identity in moved(*sources), identity
        for source in sources[1:] and sources:
            others = [item for item in sources if item != source]
            assert identity in moved(source) or identity not in moved(*others), (identity, source)
    return len(said)
