"""Builds without the user's own SConstruct: SCons run as a program on a packaged one.

The request travels as one JSON argument; SCons's own notes lie in the store, so that the output folder holds
outputs only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SCons.Script

from linuxkit_rules.errors import LinuxKitError, StoreError
from linuxkit_rules.host import store_root
from linuxkit_rules.scons import tool

_SCONSTRUCT = Path(__file__).with_name("SConstruct.moby")


@dataclass(frozen=True, slots=True)
class Request:
    """What ``moby build`` asks for: YAMLs (merged in order), an output folder, a name, formats, variables."""

    files: tuple[str, ...]
    folder: str
    name: str
    formats: tuple[str, ...]
    variables: Mapping[str, Any]
    state: str


def state_folder(store: str, folder: str, name: str) -> str:
    """Give the folder in the store for SCons's notes on the image ``name`` in ``folder``."""
    place = hashlib.sha256(f"{Path(folder).absolute()}\0{name}".encode()).hexdigest()[:16]
    return str(store_root(store).absolute() / "builds" / place)


def build(request: Request, jobs: int) -> int:
    """Run SCons; give its exit status.  Raises StoreError where its notes cannot be kept."""
    try:
        Path(request.state).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the store: {error.strerror}"
        raise StoreError(message, where=request.state, hint="set LINUXKIT_STORE") from error
    argument = json.dumps(dataclasses.asdict(request))
    command = [sys.executable, "-m", "SCons", "-Q", "-f", str(_SCONSTRUCT), "--no-site-dir", f"-j{jobs}"]
    return subprocess.run([*command, f"request={argument}"], env=_environment()).returncode


def _environment() -> dict[str, str]:
    """Give the environment without SCons's own variable, which would change what the command line means."""
    return {name: value for name, value in os.environ.items() if name != "SCONSFLAGS"}


def declare(argument: str) -> None:
    """Declare what the request asks for; called by the packaged SConstruct."""
    request = Request(**json.loads(argument))
    SCons.Script.SConsignFile(str(Path(request.state) / "sconsign"))
    env = SCons.Script.Environment(tools=[tool.generate], LINUXKIT_STATE=request.state, **request.variables)
    try:
        target = f"{request.folder}/{request.name}"
        SCons.Script.Default(tool.declare(env, target, request.files, request.formats))
    except LinuxKitError as error:
        sys.exit(f"moby: {error}")
