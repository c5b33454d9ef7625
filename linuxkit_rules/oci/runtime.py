"""A container's config.json (for runc and its like) and runtime.json (for init), as LinuxKit makes them.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md; LinuxKit's defaults and precedence:
src/cmd/linuxkit/moby/config.go (ConfigToOCI), build/image.go (ImageBundle).  Both are JSON values here, in
the order in which LinuxKit writes them; ``document`` gives their text.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from linuxkit_rules.errors import SpecError
from linuxkit_rules.oci.config import ImageSettings
from linuxkit_rules.oci.resources import Json, devices_json, given, mappings_json, resources_json
from linuxkit_rules.spec.checks import CAPABILITIES
from linuxkit_rules.spec.image import ImageConfig
from linuxkit_rules.spec.resources import Resources
from linuxkit_rules.spec.runtime import Mount, Namespaces, Runtime, complete
from linuxkit_rules.values import dataclass

OCI_VERSION = "1.2.1"
_UNLIMITED = (1 << 64) - 1
_HOST = ("host", "root")
NAMESPACES = (("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("user", "userns"))
"""Kinds of namespaces, and the fields that ask for them."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A mount, and the item of the joined configuration that asks for it: ``field`` and ``index``.

    A default mount has field ``readonly`` where that decides its options, else none.
    """

    mount: Mount
    field: str = ""
    index: int = 0


def config_json(config: ImageConfig, settings: ImageSettings, ids: Mapping[str, int], where: str) -> Json:
    """Give config.json.

    ``config`` is the joined configuration (``overlay``), ``settings`` the image's own, ``ids`` the numbers
    for which names stand.  Raises SpecError, at ``where``, for a name that stands for none.
    """
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(config, settings, ids, where),
        "root": {"path": "rootfs"} | ({"readonly": True} if config.readonly else {}),
        **given({"hostname": config.hostname}),
        "mounts": [mount_json(item.mount) for item in mounts(config, where)],
        **given({"annotations": _sorted(config.annotations)}),
        "linux": _linux(config),
    }


def runtime_json(runtime: Runtime, rootfs: Sequence[Mount]) -> Json:
    """Give runtime.json; ``rootfs`` are the mounts that make the root file system, done first."""
    return {
        "cgroups": list(runtime.cgroups or ()),
        "mounts": [mount_json(mount) for mount in (*rootfs, *(runtime.mounts or ()))],
        "mkdir": list(runtime.mkdir or ()),
        "interfaces": [
            given({"name": item.name, "add": item.add, "peer": item.peer})
            | {"createInRoot": item.createInRoot}
            for item in runtime.interfaces or ()
        ],
        "bindNS": _bind(runtime.bindNS),
        "namespace": runtime.namespace or "",
    }


def rootfs_mounts(directory: str, roots: Sequence[str], readonly: bool) -> tuple[Mount, ...]:
    """Give the mounts that turn ``roots``, the topmost first, into ``<directory>/rootfs``.

    That is an overlay of them with a layer in memory, or a bind of the only one where it is ``readonly``.
    An overlay of several has such a layer even then: the container's runtime makes the mount points that the
    image has not, and only afterwards the root read-only, as config.json says.  All paths are relative to
    the root of the system.
    """
    base = f"/{directory}"
    target = f"{base}/rootfs"
    lower = f"lowerdir={':'.join(f'/{root}' for root in roots)}"
    if readonly and len(roots) == 1:
        return (Mount(target, source=f"/{roots[0]}", options=("bind",)),)
    memory = posixpath.join(base, "tmp")
    layers = (lower, f"upperdir={memory}/upper", f"workdir={memory}/work")
    return (
        Mount(memory, "tmpfs", "tmpfs"),
        Mount(memory, options=("remount", "private")),
        Mount(target, "overlay", "overlay", layers),
    )


def document(value: Any) -> bytes:
    """Give JSON text as Go's encoding/json indents and escapes it: keys keep their order."""
    text = json.dumps(value, indent=4, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace")


def mount_json(mount: Mount) -> Json:
    """Give a mount as config.json and runtime.json have it."""
    return {"destination": mount.destination} | given(
        {
            "type": mount.type,
            "source": mount.source,
            "options": list(mount.options),
            "uidMappings": mappings_json(mount.uidmappings),
            "gidMappings": mappings_json(mount.gidmappings),
        }
    )


def _process(config: ImageConfig, settings: ImageSettings, ids: Mapping[str, int], where: str) -> Json:
    groups = [_identity(item, ids, where) for item in config.additionalGids or ()]
    user = {"uid": _identity(config.uid, ids, where), "gid": _identity(config.gid, ids, where)}
    command = settings.command if config.command is None else config.command
    env = settings.env if config.env is None else config.env
    return {
        "user": user | given({"additionalGids": groups}),
        **given({"args": list(command), "env": list(env)}),
        "cwd": config.cwd or settings.working_dir or "/",
        "capabilities": _capabilities(config),
        **given({"rlimits": [_rlimit(item) for item in config.rlimits or ()]}),
        **({"noNewPrivileges": True} if config.noNewPrivileges else {}),
        **given({"oomScoreAdj": config.oomScoreAdj}),
    }


def _identity(value: int | str | None, ids: Mapping[str, int], where: str) -> int:
    if isinstance(value, int):
        return value
    if value in (None, "", "root"):
        return 0
    if value not in ids:
        hint = "a name stands for a container of this image; write a number otherwise"
        raise SpecError(f"no container is named {value!r}, for uid or gid", where=where, hint=hint)
    return ids[str(value)]


def _capabilities(config: ImageConfig) -> Json:
    effective = [name for name, _ in expanded(config.capabilities)]
    ambient = [name for name, _ in expanded(config.ambient)]
    bounding = sorted({*effective, *ambient})
    return given(
        {
            "bounding": bounding,
            "effective": effective,
            "inheritable": bounding,
            "permitted": bounding,
            "ambient": ambient,
        }
    )


def expanded(names: Iterable[str] | None) -> tuple[tuple[str, int], ...]:
    """Give capabilities with the index of the name that stands for each: ``all`` for every one."""
    names = tuple(names or ())
    folded = [name.lower() for name in names]
    if "all" in folded:
        return tuple((name, folded.index("all")) for name in CAPABILITIES)
    return tuple((name, index) for index, name in enumerate(names) if folded[index] != "none")


def _rlimit(text: str) -> Json:
    name, soft, hard = (part.strip() for part in text.split(",", 2))
    kind = "RLIMIT_" + name.upper().removeprefix("RLIMIT_")
    return {"type": kind, "hard": _limit(hard), "soft": _limit(soft)}


def _limit(text: str) -> int:
    return _UNLIMITED if text.lower() == "unlimited" else int(text)


def mounts(config: ImageConfig, where: str) -> list[Placed]:
    """Give the mounts by destination: the defaults, then tmpfs, binds and mounts; the last one counts.

    ``config`` is the joined configuration.  Raises SpecError, at ``where``, for one that lacks a part.
    """
    found = list(_default_mounts(bool(config.readonly)))
    for index, text in enumerate(config.tmpfs or ()):
        destination, _, options = text.partition(":")
        mount = Mount(destination, "tmpfs", "tmpfs", _options(text, options))
        found.append(Placed(mount, "tmpfs", index))
    for index, text in enumerate(config.binds or ()):
        source, destination, *rest = text.split(":")
        options_ = (*rest[0].split(","), "rbind") if rest else ("rw", "rbind", "rshared")
        found.append(Placed(Mount(destination, "bind", source, options_), "binds", index))
    for index, mount in enumerate(config.mounts or ()):
        filled = complete(mount)
        if isinstance(filled, str):
            raise SpecError(filled, where=where)
        found.append(Placed(filled, "mounts", index))
    last = {item.mount.destination: item for item in found}
    return [last[destination] for destination in sorted(last, key=_bytes)]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _options(text: str, options: str) -> tuple[str, ...]:
    return tuple(options.split(",")) if ":" in text else ()


def _default_mounts(readonly: bool) -> tuple[Placed, ...]:
    ro = ("ro",) if readonly else ()
    dev = ("nosuid", "strictatime", "mode=755", "size=65536k", *ro)
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
    cgroup = ("nosuid", "noexec", "nodev", "relatime", "ro")
    return (
        Placed(Mount("/proc", "proc", "proc", ("nosuid", "nodev", "noexec", "relatime"))),
        Placed(Mount("/dev", "tmpfs", "tmpfs", dev), "readonly"),
        Placed(Mount("/dev/pts", "devpts", "devpts", pts)),
        Placed(Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", *ro)), "readonly"),
        Placed(Mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup)),
    )


def _linux(config: ImageConfig) -> Json:
    devices = config.devices or ()
    return {
        **given(
            {
                "uidMappings": mappings_json(config.uidMappings or ()),
                "gidMappings": mappings_json(config.gidMappings or ()),
                "sysctl": _sorted(config.sysctl),
            }
        ),
        "resources": resources_json(config.resources or Resources(), devices),
        **given({"cgroupsPath": config.cgroupsPath}),
        "namespaces": _namespaces(config),
        **given(
            {
                "devices": devices_json(devices),
                "rootfsPropagation": config.rootfsPropagation,
                "maskedPaths": list(config.maskedPaths or ()),
                "readonlyPaths": list(config.readonlyPaths or ()),
            }
        ),
    }


def _namespaces(config: ImageConfig) -> list[Json]:
    """Give the namespaces: the host's unless said otherwise, but a new one for pid and always for mounts."""
    namespaces = []
    for kind, name in NAMESPACES:
        asked = getattr(config, name) or ("new" if kind == "pid" else "host")
        new = asked == "new" or (kind == "network" and asked == "none")
        if asked not in _HOST:
            namespaces.append({"type": kind} | given({"path": "" if new else asked}))
    return [*namespaces, {"type": "mount"}]


def _bind(names: Namespaces) -> Json:
    return {
        "cgroup": names.cgroup or "",
        "ipc": names.ipc or "",
        "mnt": names.mnt or "",
        "net": names.net or "",
        "pid": names.pid or "",
        "user": names.user or "",
        "uts": names.uts or "",
    }


def _sorted(values: Mapping[str, str] | None) -> dict[str, str]:
    return dict(sorted((values or {}).items()))
