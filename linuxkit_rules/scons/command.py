"""Builds without the user's own SConstruct: SCons run as a program on a packaged one.

The request travels as one JSON argument; SCons's own notes lie in the store, so that the output folder holds
outputs only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import signal
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
    """Run SCons; give its exit status.  Raises StoreError where its notes cannot be kept.

    A second build of the same image in the same folder waits for the first.
    """
    try:
        Path(request.state).mkdir(parents=True, exist_ok=True)
        lock = (Path(request.state) / "lock").open("a")
    except OSError as error:
        message = f"cannot make the store: {error.strerror}"
        raise StoreError(message, where=request.state, hint="set LINUXKIT_STORE") from error
    argument = json.dumps(dataclasses.asdict(request))
    command = [sys.executable, "-m", "SCons", "-Q", "-f", str(_SCONSTRUCT), "--no-site-dir", f"-j{jobs}"]
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen([*command, f"request={argument}"], env=_environment()) as process:
            return _wait(process)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for SCons, which cleans up after an interrupt; a request to end is passed on as one."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(signal.SIGINT))
    try:
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # the terminal has sent it to SCons too
                return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _environment() -> dict[str, str]:
    """Give the environment without SCons's own variable, which would change what the command line means."""
    return {name: value for name, value in os.environ.items() if name != "SCONSFLAGS"}


def declare(argument: str) -> None:
    """Declare what the request asks for; called by the packaged SConstruct."""
    request = Request(**json.loads(argument))
    SCons.Script.SConsignFile(str(Path(request.state) / "sconsign"))
    env = SCons.Script.Environment(tools=[tool.generate], LINUXKIT_STATE=request.state, **request.variables)
    try:
        target = _literal(f"{request.folder}/{request.name}")
        files = [_literal(file) for file in request.files]
        SCons.Script.Default(tool.declare(env, target, files, request.formats))
    except LinuxKitError as error:
        sys.exit(f"moby: {error}")


def _literal(text: str) -> str:
    """Keep SCons from expanding dollars in a name."""
    return text.replace("$", "$$")
