"""Format ``docker``: the whole system as an archive that ``docker build`` takes as its context.

    NAME.docker  the archive of the format ``tar``, and a Dockerfile behind it

Use: ``docker build -t NAME - < NAME.docker``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from linuxkit_rules.formats.entry import Kind
from linuxkit_rules.outputs.base import Output
from linuxkit_rules.outputs.tar import archive
from linuxkit_rules.plan.graph import Step
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.stages.files import Files, Item

_DOCKERFILE = """
FROM scratch

COPY . ./

ENTRYPOINT ["/bin/rc.init"]
"""


class Docker(Output):
    """The whole system as a context of ``docker build``."""

    name: ClassVar[str] = "docker"
    suffixes: ClassVar[tuple[str, ...]] = (".docker",)

    def steps(self, parts: Parts) -> Mapping[str, Step]:
        """Give the step."""
        dockerfile = Files(items=(Item("Dockerfile", Kind.FILE, 0o644, text=_DOCKERFILE),)).as_members()
        return {".docker": archive(self, (*parts.members, Step("dockerfile", dockerfile)))}
