"""Image configuration: how an image says it wants to be run.

OCI image specification, config.md, "Properties":
https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Self

from linuxkit_rules.errors import ImageError
from linuxkit_rules.values import dataclass

LABEL = "org.mobyproject.config"
"""The label that holds LinuxKit's image configuration as JSON text."""


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """The part ``config`` of an image configuration; absent values are empty."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> Self:
        """Read a whole image configuration; raise ImageError, at ``where``, for values of a wrong type."""
        config = value.get("config") or {}
        if not isinstance(config, dict):
            raise ImageError("config must be an object", where=where)
        return cls(
            entrypoint=_strings(config, "Entrypoint", where),
            cmd=_strings(config, "Cmd", where),
            env=_strings(config, "Env", where),
            working_dir=_string(config, "WorkingDir", where),
            user=_string(config, "User", where),
            stop_signal=_string(config, "StopSignal", where),
            labels=_labels(config, where),
        )

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments that the image starts with."""
        return self.entrypoint + self.cmd

    @property
    def label(self) -> str:
        """The text of LinuxKit's label, empty where there is none."""
        return self.labels.get(LABEL, "")


def _string(config: dict[str, Any], key: str, where: str) -> str:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise ImageError(f"config.{key} must be a string", where=where)
    return value or ""


def _strings(config: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = config.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImageError(f"config.{key} must be a list of strings", where=where)
    return tuple(value)


def _labels(config: dict[str, Any], where: str) -> dict[str, str]:
    value = config.get("Labels") or {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ImageError("config.Labels must be an object of strings", where=where)
    return value
