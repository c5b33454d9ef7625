"""Stage ``text``: a file of one short text, such as a kernel's command line."""

from __future__ import annotations

from typing import ClassVar

from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

TEXT = "text/plain"


@dataclass(frozen=True)
class Text(Stage):
    """Gives ``text`` in UTF-8, as it is: no newline is added.  No inputs."""

    name: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    text: str

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Store the text."""
        return Result(work.store.put(self.text.encode("utf-8", "surrogateescape"), TEXT))
