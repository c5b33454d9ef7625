"""A component's ``build.yml``: Debian packages and settings in the place of a Dockerfile.

The file has the shape of LinuxKit's package file (docs/packages.md); ``packages`` and what follows is ours.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import Decoder, NotedError, hidden, key
from linuxkit_rules.spec.image import ImageConfig
from linuxkit_rules.spec.yamlfile import Node, parse
from linuxkit_rules.values import dataclass

Arch = Literal["amd64", "arm64"]
_PACKAGE = re.compile(r"(?:[a-z0-9+.*?\[\]-]|\$\{arch\})+")
_IGNORED = frozenset(
    ("network", "org", "tag", "gitrepo", "disable-cache", "depends", "extra-sources", "arches", "buildArgs")
)


def _relative(value: str) -> str | None:
    parts = value.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return f"{value!r} must be a path without leading slash, empty parts, . or .."
    return None


def _package_name(value: str) -> str | None:
    return None if _PACKAGE.fullmatch(value) else f"{value!r} cannot be a Debian package's name"


def _user_name(value: str) -> str | None:
    ok = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?", value)
    return None if ok else f"{value!r} cannot be a user's or group's name"


def _passwd_field(value: str) -> str | None:
    return f"{value!r} must not hold a colon or a line break" if re.search(r"[:\n\r]", value) else None


def _mode(decoder: Decoder, node: Node, path: str) -> int:
    return int(decoder.read(str, node, path, checks.octal), 8)


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """A Debian package, and the globs that name what is taken from it; no globs (None) for all of it."""

    name: str
    files: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A line of passwd(5); ``gid`` defaults to the uid."""

    name: str = key(check=_user_name)
    uid: int = key(check=checks.unsigned32)
    gid: int | None = key(None, check=checks.unsigned32)
    home: str = key("/", check=_passwd_field)
    shell: str = key("/usr/sbin/nologin", check=_passwd_field)
    gecos: str = key("", check=_passwd_field)


@dataclass(frozen=True, slots=True)
class Group:
    """A line of group(5)."""

    name: str = key(check=_user_name)
    gid: int = key(check=checks.unsigned32)
    members: tuple[str, ...] = key((), check=_user_name)


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that must exist; ``user`` and ``group`` are numbers, or names from users and groups."""

    path: str = key(check=_relative)
    mode: int = key(0o755, read=_mode)
    user: int | str = key(0, check=checks.identity)
    group: int | str = key(0, check=checks.identity)


@dataclass(frozen=True, slots=True)
class KernelPackage:
    """The kernel's package (a name or a glob) and the modules that the image must hold."""

    package: str = key(check=_package_name)
    modules: tuple[str, ...] = ()


def _packages(decoder: Decoder, node: Node, path: str) -> tuple[PackageFiles, ...]:
    return tuple(decoder.each(node, path, lambda item, below: _package(decoder, item, below)))


def _package(decoder: Decoder, node: Node, path: str) -> PackageFiles:
    if isinstance(node.value, str):
        return PackageFiles(decoder.read(str, node, path, _package_name))
    if not isinstance(node.value, Mapping) or len(node.value) != 1:
        hint = "write - name, or - name: [globs]"
        raise decoder.fault(node.where, path, "must be a package's name, or one name with its globs", hint)
    ((name, globs),) = node.value.items()
    problem = _package_name(name)
    if problem:
        raise decoder.fault(node.keys[name], path, problem)
    return PackageFiles(name, decoder.read(tuple[str, ...], globs, f"{path}.{name}", _relative))


def _links(decoder: Decoder, node: Node, path: str) -> Mapping[str, str]:
    links: Mapping[str, str] = decoder.read(Mapping[str, str], node, path)
    if isinstance(node.value, Mapping):
        for name in links:
            problem = _relative(name)
            if problem:
                decoder.fault(node.keys[name], path, problem)
    return links


@dataclass(frozen=True, slots=True)
class Component:
    """What a ``build.yml`` says.

    ``config`` is LinuxKit's image configuration as read, ``label`` the same as canonical JSON text for the
    image's label org.mobyproject.config (empty where the file says nothing).  ``users`` is None where no
    passwd files are wanted.  ``dockerfile`` is kept so that whoever builds can refuse it.
    """

    image: str
    arch: tuple[Arch, ...] = ("amd64", "arm64")
    packages: tuple[PackageFiles, ...] = key((), read=_packages)
    exclude: tuple[str, ...] = key((), check=_relative)
    closure: bool = True
    users: tuple[User, ...] | None = None
    groups: tuple[Group, ...] = ()
    directories: tuple[Directory, ...] = ()
    links: Mapping[str, str] = key(factory=dict, read=_links)
    generate: tuple[Literal["ca-bundle"], ...] = ()
    modules: tuple[str, ...] = ()
    kernel: KernelPackage | None = None
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = key("", check=checks.absolute_or_empty)
    user: str = ""
    config: ImageConfig = key(factory=ImageConfig)
    dockerfile: str = ""
    label: str = hidden("")
    where: str = hidden("")


def load_component(path: Path, name: str | None = None) -> Component:
    """Read ``path``, shown as ``name`` in messages; raise SpecError or ErrorList."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=name or str(path)) from None
    return parse_component(data, name or str(path))


def parse_component(text: bytes | str, name: str) -> Component:
    """Read a ``build.yml``; ``name`` stands for the file in messages.  Raise SpecError or ErrorList."""
    node, decoder = parse(text, name), Decoder()
    label = ""
    if isinstance(node.value, Mapping):
        config = node.value.get("config")
        if config is not None:
            label = json.dumps(config.plain(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        value = {key: item for key, item in node.value.items() if key not in _IGNORED}
        node = dataclasses.replace(node, value=value)
    try:
        component = decoder.record(Component, node, "", label=label, where=node.where)
        _names(decoder, component)
    except NotedError:
        component = None
    decoder.finish()
    if component is None:
        raise SpecError("cannot be read", where=name)
    return component


def _names(decoder: Decoder, component: Component) -> None:
    """Note names that are used but not declared."""
    users = {"root"} | {user.name for user in component.users or ()}
    groups = {"root"} | {group.name for group in component.groups} | users
    for index, item in enumerate(component.directories):
        for what, value, known in (("user", item.user, users), ("group", item.group, groups)):
            if isinstance(value, str) and value not in known:
                path = f"directories[{index}].{what}"
                decoder.fault(decoder.places[path], path, f"{value!r} is not declared")
