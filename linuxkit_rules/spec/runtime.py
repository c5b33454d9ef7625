"""Mounts, and what init does around a container: the YAML's ``mounts:`` and ``runtime:``.

Mounts and mappings are those of the runtime specification:
https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md; the rest is LinuxKit's (docs/yaml.md).
"""
# ruff: noqa: N815 - fields bear the names of LinuxKit's keys

from __future__ import annotations

from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import key
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class IDMapping:
    """A range of ids (runtime specification, config-linux.md, "User namespace mappings")."""

    hostID: int = key(0, check=checks.unsigned32, doc="First id outside the container.")
    containerID: int = key(0, check=checks.unsigned32, doc="First id inside the container.")
    size: int = key(0, check=checks.unsigned32, doc="Number of ids.")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount (runtime specification, config.md, "Mounts")."""

    destination: str = key(
        "", doc="Where it is mounted. proc, devpts, sysfs, cgroup and mqueue know their own place."
    )
    type: str = key(
        "", doc="Type of file system. Default: the source, where that names a type; for /dev, tmpfs."
    )
    source: str = key("", doc="What is mounted: a path, a device, or for bind a volume. Default: the type.")
    options: tuple[str, ...] = key((), doc="Options, as mount(8) has them.")
    uidmappings: tuple[IDMapping, ...] = key((), doc="Mappings of users, for mounts with mapped ids.")
    gidmappings: tuple[IDMapping, ...] = key((), doc="Mappings of groups, for mounts with mapped ids.")


TYPE_OF_SOURCE = ("mqueue", "devpts", "proc", "sysfs", "cgroup")
"""Sources that name their mount's type where it has none."""

MOUNTPOINTS = {
    "proc": "/proc",
    "devpts": "/dev/pts",
    "sysfs": "/sys",
    "cgroup": "/sys/fs/cgroup",
    "mqueue": "/dev/mqueue",
}
"""Where a mount of a type goes if it does not say."""


def complete(mount: Mount) -> Mount | str:
    """Fill in a mount's type, source and destination as LinuxKit does; or give what is missing."""
    kind = mount.type or (mount.source if mount.source in TYPE_OF_SOURCE else "")
    if not kind and mount.destination == "/dev":
        kind = "tmpfs"
    if not kind:
        return "the mount needs a type"
    destination = mount.destination or MOUNTPOINTS.get(kind, "")
    if not destination:
        return f"a mount of type {kind} needs a destination"
    return Mount(destination, kind, mount.source or kind, mount.options)


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface that is made or moved when the container starts."""

    name: str = key("", doc="The interface's name in the container.")
    add: str = key(
        "", doc="Type of the interface that is made: veth, wireguard. Default: one that is there is moved."
    )
    peer: str = key("", doc="For veth, the name of the other end, which stays outside.")
    createInRoot: bool = key(False, doc="Whether it is made outside and then moved into the container.")


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Paths to which the container's namespaces are bound."""

    cgroup: str | None = key(None, doc="Path to which the cgroup namespace is bound. Default: the label's.")
    ipc: str | None = key(None, doc="Path to which the IPC namespace is bound. Default: the label's.")
    mnt: str | None = key(None, doc="Path to which the mount namespace is bound. Default: the label's.")
    net: str | None = key(None, doc="Path to which the network namespace is bound. Default: the label's.")
    pid: str | None = key(None, doc="Path to which the PID namespace is bound. Default: the label's.")
    user: str | None = key(None, doc="Path to which the user namespace is bound. Default: the label's.")
    uts: str | None = key(None, doc="Path to which the UTS namespace is bound. Default: the label's.")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What init does around the container."""

    cgroups: tuple[str, ...] | None = key(
        None, doc="Cgroups that are made before the container starts. Default: the label's."
    )
    mounts: tuple[Mount, ...] | None = key(
        None, doc="Mounts made outside before the container starts. Default: the label's."
    )
    mkdir: tuple[str, ...] | None = key(
        None, doc="Directories made outside before the container starts. Default: the label's."
    )
    interfaces: tuple[Interface, ...] | None = key(
        None, doc="Network interfaces made for, or moved into, the container. Default: the label's."
    )
    bindNS: Namespaces = key(
        Namespaces(),
        doc="Files to which the container's namespaces are bound, so that others can join them."
        " Each one not given is the label's.",
    )
    namespace: str | None = key(
        None, doc="Namespace of containerd in which a service runs. Default: the label's."
    )
