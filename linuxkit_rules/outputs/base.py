"""What an output format is: a name, file suffixes, and the step that makes each file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from linuxkit_rules.errors import SpecError
from linuxkit_rules.plan.graph import Step
from linuxkit_rules.plan.image import Parts


class Output(ABC):
    """One of LinuxKit's formats.  A module of this folder that derives from it adds a format."""

    name: ClassVar[str]
    """LinuxKit's name of the format."""

    suffixes: ClassVar[tuple[str, ...]]
    """What is put behind the image's name to name its files."""

    @abstractmethod
    def steps(self, parts: Parts) -> Mapping[str, Step]:
        """Give the step of each suffix's file, without those that this image has not.

        Raises SpecError where the image cannot be had in this format.
        """

    def files(self, name: str) -> tuple[str, ...]:
        """Give the names of the files for the image ``name``."""
        return tuple(name + suffix for suffix in self.suffixes)


def need_kernel(parts: Parts, output: Output) -> Step:
    """Give the kernel's step; raise SpecError where the image has none."""
    if parts.kernel is None:
        raise SpecError(
            f"the format {output.name} needs a kernel",
            where=parts.name,
            hint="add kernel: image: to the YAML",
        )
    return parts.kernel
