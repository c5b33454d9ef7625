"""What all commands that work on YAMLs take: the files, and the settings that decide what they mean."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from linuxkit_rules.errors import UsageError

if TYPE_CHECKING:
    from linuxkit_rules.scons.command import Request

STDIN = "-"
STDIN_LIMIT = 16 << 20
"""More bytes than any YAML may have are not read."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def add_files(parser: argparse.ArgumentParser, count: str = "+") -> None:
    """Declare the YAMLs."""
    parser.add_argument(
        "files", nargs=count, metavar="FILE", help="a YAML, or - for standard input; several are merged"
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare options for where images come from."""
    parser.add_argument(
        "--image-layout", action="append", default=[], metavar="DIR", help="OCI image layout, searched first"
    )


def add_fetching(parser: argparse.ArgumentParser) -> None:
    """Declare options for how registries are asked."""
    parser.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="[REGISTRY=]URL",
        help="asked before the registry (docker.io); repeatable",
    )
    parser.add_argument(
        "--ca-file", action="append", default=[], metavar="FILE", help="further authorities of certificates"
    )


def add_lock(parser: argparse.ArgumentParser) -> None:
    """Declare options for the lock of images."""
    parser.add_argument("--lock", metavar="FILE", help="lock of images (NAME.lock beside the last NAME.yml)")
    parser.add_argument(
        "--locked",
        action=argparse.BooleanOptionalAction,
        help="refuse images of registries that are not in the lock (where CI=true)",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare options for who must have signed images."""
    parser.add_argument(
        "--trust-policy", metavar="FILE", help="who must have signed which images, besides what trust: says"
    )
    parser.add_argument("--ignore-trust", action="store_true", help="go on though trust: names no keys")


def request_of(options: argparse.Namespace) -> Request:
    """Give what the options ask for; raise UsageError for those that cannot be."""
    from linuxkit_rules.scons.command import Request, state_folder

    check_files(options.files)
    given = vars(options)
    name, folder = given.get("name") or stem(options.files[-1]), given.get("dir", ".")
    formats = given.get("format")
    return Request(
        files=tuple(options.files),
        folder=folder,
        name=name,
        formats=tuple(formats.split(",")) if formats is not None else (),
        variables=_variables(given),
        state=state_folder(os.environ.get("LINUXKIT_STORE", ""), folder, name),
    )


def _variables(given: dict[str, Any]) -> dict[str, Any]:
    """Give the construction variables that options set."""
    found: dict[str, Any] = {}
    for name in ("arch", "compression"):
        if given.get(name):
            found[f"LINUXKIT_{name.upper()}"] = given[name]
    for name in ("decompress_kernel", "ignore_trust", "layered", "offline"):
        if given.get(name):
            found[f"LINUXKIT_{name.upper()}"] = "1"
    if given.get("locked") is not None:
        found["LINUXKIT_LOCKED"] = "1" if given["locked"] else "0"
    if given["image_layout"]:
        found["LINUXKIT_IMAGE_LAYOUTS"] = [_folder("--image-layout", item) for item in given["image_layout"]]
    found |= _fetching(given)
    if given.get("vendor"):
        found["LINUXKIT_VENDOR"] = _folder("--vendor", given["vendor"])
    if given.get("trust_policy") is not None:
        found["LINUXKIT_TRUST_POLICY"] = _policy(given["trust_policy"])
    if given.get("lock"):
        found["LINUXKIT_IMAGE_LOCK"] = str(Path(given["lock"]).absolute())
    return found


def _fetching(given: dict[str, Any]) -> dict[str, str]:
    """Give the variables that say how registries are asked; raise UsageError."""
    from linuxkit_rules.oci.mirrors import Mirror

    variables = {}
    if given.get("mirror"):
        for text in given["mirror"]:
            Mirror.parse(text)
        variables["LINUXKIT_MIRRORS"] = ",".join(given["mirror"])
    if given.get("ca_file"):
        for file in given["ca_file"]:
            if not Path(file).is_file():
                raise UsageError("--ca-file: there is no such file", where=file)
        files = [str(Path(file).absolute()) for file in given["ca_file"]]
        variables["LINUXKIT_CA_FILES"] = os.pathsep.join(files)
    return variables


def stdin() -> bytes:
    """Read a YAML from standard input; raise UsageError where that cannot be done."""
    if sys.stdin is None:
        raise UsageError("standard input is closed", where=STDIN)
    try:
        return sys.stdin.buffer.read(STDIN_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"standard input: {error.strerror}", where=STDIN) from error


def check_files(files: Sequence[str]) -> None:
    """Raise UsageError for a URL, and where standard input is named twice."""
    for file in files:
        if _URL.match(file):
            hint = "fetch it, and give the file, or - for standard input"
            raise UsageError("is a URL, where a file is needed", where=file, hint=hint)
        if file != STDIN and Path(file).exists() and not (Path(file).is_file() or Path(file).is_dir()):
            raise UsageError("is no regular file", where=file, hint="moby build - reads standard input")
    if files.count(STDIN) > 1:
        raise UsageError("standard input can be read once only", where=STDIN)


def check_folder(folder: Path) -> None:
    """Raise UsageError where ``folder`` cannot be a folder, as it lies at or below a file."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not there.is_dir():
        raise UsageError("--dir: there is a file where a folder should be", where=str(there))


def _folder(option: str, folder: str) -> str:
    if not Path(folder).is_dir():
        raise UsageError(f"{option}: there is no such folder", where=folder)
    return str(Path(folder).absolute())


def _policy(file: str) -> str:
    if not Path(file).is_file():
        raise UsageError("--trust-policy: there is no such file", where=file)
    return str(Path(file).absolute())


def stem(file: str) -> str:
    """Give the name of an image after its YAML; raise UsageError where there is none."""
    if file == STDIN:
        return "linuxkit"
    stem = PurePath(file).stem
    if not stem:
        raise UsageError(f"no name can be had from {file!r}", hint="give --name")
    return stem
