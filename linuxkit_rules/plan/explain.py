"""Explains a container: each value of its config.json and runtime.json, and where that comes from.

A container is named ``redis``, ``services/redis``, ``services.redis`` or ``services[0]``; ``:FIELD`` after it
narrows to a field of config.json and what lies below (``redis:process.capabilities``), or of runtime.json
(``redis:runtime.mounts``).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence

from linuxkit_rules.errors import UsageError
from linuxkit_rules.oci.config import LABEL
from linuxkit_rules.oci.explain import Line, Source, explain, grouped, shown
from linuxkit_rules.plan.graph import Step, blamed, gather, realise
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.spec.linuxkit import Container, Kind, Spec
from linuxkit_rules.stages.bundle import Bundle, Place, layer_directories, read_settings
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.values import dataclass

_SHORTEST = 20
"""Signs of a value that a narrow terminal shows all the same."""


@dataclass(frozen=True, slots=True)
class Row:
    """A field's path, its value as JSON text, and its origin in words."""

    field: str
    value: str
    origin: str


def explanation(key: str, parts: Parts, engine: Engine) -> list[Row]:
    """Explain the container (and field) ``key`` of a planned image, in the order of its documents.

    Brings the container's image into the store (all, where containers share layers), and makes nothing else.
    Raises UsageError for a key that names nothing, and what bringing an image raises.
    """
    kind, index, item, field = find(parts.spec, key)
    place = Place.of(kind, index, item)
    bundle = next(step for step in _bundles(parts.segments) if _place(step) == place)
    return _rows(item, bundle, field, engine)


def find(spec: Spec, key: str) -> tuple[Kind, int, Container, str]:
    """Give the container that ``key`` names, and the field after it; raise UsageError where it is not one."""
    places = spec.containers()
    ends = [len(key), *(match.start() for match in re.finditer(":", key))]
    for end in ends:
        named = [place for place in places if key[:end] in _names(*place)]
        if len(named) == 1:
            return *named[0], key[end + 1 :]
        if named:
            hint = f"say {' or '.join(_choices(named))}"
            raise UsageError(f"{len(named)} containers are named {key[:end]!r}", hint=hint)
    head = key.partition(":")[0]
    raise UsageError(f"no container is named {head!r}", hint=_advice(head, places))


def text(rows: Sequence[Row], width: int | None) -> str:
    """Give lines: columns with values cut to a terminal's ``width``, or everything with tabs between."""
    if width is None:
        return "".join(f"{row.field}\t{row.value}\t{row.origin}\n" for row in rows)
    first = max((len(row.field) for row in rows), default=0)
    third = max((len(row.origin) for row in rows), default=0)
    room = max(width - first - third - 4, _SHORTEST)
    cells = [(row.field, _cut(row.value, room), row.origin) for row in rows]
    second = max((len(cell) for _, cell, _ in cells), default=0)
    return "".join(f"{field:{first}}  {value:{second}}  {origin}\n" for field, value, origin in cells)


def _cut(value: str, room: int) -> str:
    return value if len(value) <= room else f"{value[: room - 1]}…"


def _names(kind: Kind, index: int, item: Container) -> tuple[str, ...]:
    return item.name, f"{kind}/{item.name}", f"{kind}.{item.name}", f"{kind}[{index}]"


def _choices(places: Sequence[tuple[Kind, int, Container]]) -> list[str]:
    """Give a name for each container that no other one has."""
    names = [f"{kind}/{item.name}" for kind, _, item in places]
    return [
        name if names.count(name) == 1 else f"{kind}[{index}]"
        for name, (kind, index, _) in zip(names, places, strict=True)
    ]


def _advice(head: str, places: Sequence[tuple[Kind, int, Container]]) -> str:
    close = difflib.get_close_matches(head, [name for place in places for name in _names(*place)], n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"containers: {', '.join(_choices(places))}" if places else "the YAML has no containers"


def _bundles(steps: Sequence[Step]) -> Iterator[Step]:
    """Give the steps that make config.json and runtime.json."""
    for step in steps:
        if isinstance(step.stage, Bundle):
            yield step
        yield from _bundles([item.source for item in step.inputs if isinstance(item.source, Step)])


def _place(step: Step) -> Place:
    assert isinstance(step.stage, Bundle)  # noqa: S101 - _bundles gives nothing else
    return step.stage.place


def _rows(item: Container, step: Step, field: str, engine: Engine) -> list[Row]:
    assert isinstance(step.stage, Bundle)  # noqa: S101 - as above
    stage = step.stage
    steps = ((given.role, given.source) for given in step.inputs if isinstance(given.source, Step))
    found = gather((role, realise(source, engine).output) for role, source in steps)
    with blamed(step):
        settings, label = read_settings(found["image"][0], engine.store, stage.image)
        layers = layer_directories(found, engine.store)
        lines = explain(stage.documents(settings, label, layers), stage.config, label, settings)
    first = (f"/{stage.first.root(label)}", stage.first.directory) if stage.first else None
    words = _Words(item, stage, first)
    return [
        Row(line.text, _json(line.value), words.origin(line)) for line in grouped(_narrowed(lines, field))
    ]


def _narrowed(lines: Sequence[Line], field: str) -> list[Line]:
    """Give the lines of ``field`` and below; raise UsageError where there are none."""
    found = [line for line in lines if not field or _is_below(line.text, field)]
    if found:
        return found
    above = dict.fromkeys(
        line.text[:end]
        for line in lines
        for end in (*(match.start() for match in re.finditer(r"[.[]", line.text)), len(line.text))
    )
    close = difflib.get_close_matches(field, above, n=1)
    top = dict.fromkeys(str(line.path[0]) for line in lines)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(top)}"
    raise UsageError(f"the container has no field {field!r}", hint=hint)


def _is_below(text: str, field: str) -> bool:
    return text == field or text.startswith((f"{field}.", f"{field}["))


def _json(value: object) -> str:
    """Give JSON on one line, that prints as it is."""
    plain = json.dumps(value, ensure_ascii=False)
    return plain if plain.isprintable() else json.dumps(value)


class _Words:
    """Says origins; ``first`` is where the files lie and whose they are, if another container's."""

    def __init__(self, item: Container, stage: Bundle, first: tuple[str, str] | None) -> None:
        self._item = item
        self._places = dict(item.places)
        self._image = shown(stage.image)
        self._first = first
        self._volumes: dict[str, str] = {}
        for name, before, after in (
            ("binds", item.config.binds, stage.config.binds),
            ("binds.add", item.config.binds_add, stage.config.binds_add),
        ):
            for index, (old, new) in enumerate(zip(before or (), after or (), strict=True)):
                if old != new:
                    self._volumes[f"{name}[{index}]"] = f"volume {old.partition(':')[0]}"

    def origin(self, line: Line) -> str:
        """Give everything that makes a value, with semicolons between."""
        parts = [self._source(source) for source in line.sources]
        notes = [
            line.note,
            *(self._volumes.get(item.path, "") for item in line.sources if item.kind == "yaml"),
        ]
        if self._first and line.path[:2] == ("runtime", "mounts") and self._first[0] in _json(line.value):
            notes.append(f"files of {self._first[1]}, the same image")
        return "; ".join([*parts, *filter(None, notes)])

    def _source(self, source: Source) -> str:
        said = {
            "yaml": f"{self._place(source.path)} ({source.path})",
            "label": f"label {LABEL} of {self._image} ({source.path})",
            "image": f"image config of {self._image} ({source.path})",
            "default": "default",
        }[source.kind]
        return f"derived from {said}" if source.derived else said

    def _place(self, path: str) -> str:
        """Give the place of ``path``, or of the nearest above it that is written there."""
        while path and path not in self._places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._places.get(path, self._item.where)
