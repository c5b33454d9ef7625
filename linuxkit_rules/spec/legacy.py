"""A key that LinuxKit's YAML had in 2017: the formats to make (``outputs``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from linuxkit_rules.spec.decode import Decoder, NotedError, hidden, key
from linuxkit_rules.spec.yamlfile import Node
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """A format that is made where the command names none.

    What else an item had in 2017 (``project``, ``bucket`` …) told where to upload an image.  It is refused:
    nothing is uploaded.
    """

    format: str = key(doc="A format that `moby build` makes where no --format is given.")
    where: str = hidden("")


def read_outputs(decoder: Decoder, node: Node, path: str) -> tuple[Output, ...]:
    """Read ``outputs``; ``where`` is each format's place."""
    return tuple(decoder.each(node, path, lambda item, below: _output(decoder, item, below)))


def _output(decoder: Decoder, node: Node, path: str) -> Output:
    before = len(decoder.faults)
    for name in node.value if isinstance(node.value, Mapping) else ():
        if name != "format":
            hint = "images are not uploaded: leave it out"
            decoder.fault(node.keys[name], path, f"{name!r} has no meaning here", hint)
    if len(decoder.faults) > before:
        raise NotedError
    output = decoder.record(Output, node, path)
    return dataclasses.replace(output, where=decoder.places[f"{path}.format"])
