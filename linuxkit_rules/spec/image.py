"""The part of a container that its YAML and its image's label ``org.mobyproject.config`` share.

Names, types and presence are those of LinuxKit (src/cmd/linuxkit/moby: schema.go, config.go; documented in
docs/yaml.md).  Where LinuxKit tells an absent value from an empty one the default is None; where it does not,
an empty string is as good as absent.
"""
# ruff: noqa: N815 - fields bear the names of LinuxKit's keys

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import Decoder, NotedError, key
from linuxkit_rules.spec.yamlfile import Node, parse


@dataclass(frozen=True, slots=True)
class IDMapping:
    """A range of ids (runtime specification, config-linux.md, "User namespace mappings")."""

    hostID: int = key(0, check=checks.unsigned32)
    containerID: int = key(0, check=checks.unsigned32)
    size: int = key(0, check=checks.unsigned32)


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount (runtime specification, config.md, "Mounts")."""

    destination: str = ""
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uidmappings: tuple[IDMapping, ...] = ()
    gidmappings: tuple[IDMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device node; ``path: all`` stands for every device of the type."""

    path: str = ""
    type: str = key("", check=checks.device_type)
    major: int = key(0, check=checks.signed)
    minor: int = key(0, check=checks.signed)
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface that is made or moved when the container starts."""

    name: str = ""
    add: str = ""
    peer: str = ""
    createInRoot: bool = False


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Paths to which the container's namespaces are bound."""

    cgroup: str | None = None
    ipc: str | None = None
    mnt: str | None = None
    net: str | None = None
    pid: str | None = None
    user: str | None = None
    uts: str | None = None


@dataclass(frozen=True, slots=True)
class Runtime:
    """What init does around the container."""

    cgroups: tuple[str, ...] | None = None
    mounts: tuple[Mount, ...] | None = None
    mkdir: tuple[str, ...] | None = None
    interfaces: tuple[Interface, ...] | None = None
    bindNS: Namespaces = Namespaces()
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceCgroup:
    """A rule of the device controller (config-linux.md, "Allowed Device list")."""

    allow: bool = False
    type: str = ""
    major: int | None = key(None, check=checks.signed)
    minor: int | None = key(None, check=checks.signed)
    access: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Limits of memory in bytes (config-linux.md, "Memory")."""

    limit: int | None = key(None, check=checks.signed)
    reservation: int | None = key(None, check=checks.signed)
    swap: int | None = key(None, check=checks.signed)
    kernel: int | None = key(None, check=checks.signed)
    kernelTCP: int | None = key(None, check=checks.signed)
    swappiness: int | None = key(None, check=checks.unsigned)
    disableOOMKiller: bool | None = None


@dataclass(frozen=True, slots=True)
class CPU:
    """Shares and limits of processors (config-linux.md, "CPU")."""

    shares: int | None = key(None, check=checks.unsigned)
    quota: int | None = key(None, check=checks.signed)
    period: int | None = key(None, check=checks.unsigned)
    realtimeRuntime: int | None = key(None, check=checks.signed)
    realtimePeriod: int | None = key(None, check=checks.unsigned)
    cpus: str = ""
    mems: str = ""


@dataclass(frozen=True, slots=True)
class Pids:
    """Limit of processes (config-linux.md, "PIDs")."""

    limit: int | None = key(None, check=checks.signed)


@dataclass(frozen=True, slots=True)
class WeightDevice:
    """Weight of one block device (config-linux.md, "Block IO")."""

    major: int = key(0, check=checks.signed)
    minor: int = key(0, check=checks.signed)
    weight: int | None = key(None, check=checks.unsigned16)
    leafWeight: int | None = key(None, check=checks.unsigned16)


@dataclass(frozen=True, slots=True)
class ThrottleDevice:
    """Rate limit of one block device (config-linux.md, "Block IO")."""

    major: int = key(0, check=checks.signed)
    minor: int = key(0, check=checks.signed)
    rate: int = key(0, check=checks.unsigned)


@dataclass(frozen=True, slots=True)
class BlockIO:
    """Weights and limits of block devices (config-linux.md, "Block IO")."""

    weight: int | None = key(None, check=checks.unsigned16)
    leafWeight: int | None = key(None, check=checks.unsigned16)
    weightDevice: tuple[WeightDevice, ...] = ()
    throttleReadBpsDevice: tuple[ThrottleDevice, ...] = ()
    throttleWriteBpsDevice: tuple[ThrottleDevice, ...] = ()
    throttleReadIOPSDevice: tuple[ThrottleDevice, ...] = ()
    throttleWriteIOPSDevice: tuple[ThrottleDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class HugepageLimit:
    """Limit of huge pages of one size (config-linux.md, "Huge page limits")."""

    pageSize: int | str = ""
    limit: int = key(0, check=checks.unsigned)


@dataclass(frozen=True, slots=True)
class InterfacePriority:
    """Priority of one interface's traffic (config-linux.md, "Network")."""

    name: int | str = ""
    priority: int = key(0, check=checks.unsigned32)


@dataclass(frozen=True, slots=True)
class Network:
    """Class and priorities of network traffic (config-linux.md, "Network")."""

    classID: int | None = key(None, check=checks.unsigned32)
    priorities: tuple[InterfacePriority, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits by cgroup (config-linux.md, "Control groups")."""

    devices: tuple[DeviceCgroup, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    blockio: BlockIO | None = None
    hugepageLimits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None


def _capabilities(decoder: Decoder, node: Node, path: str) -> tuple[str, ...]:
    values: tuple[str, ...] = decoder.read(tuple[str, ...], node, path, checks.capability)
    if len(values) > 1 and any(value.lower() in ("all", "none") for value in values):
        raise decoder.fault(node.where, path, '"all" and "none" must stand alone')
    return values


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


def _mounts(decoder: Decoder, node: Node, path: str) -> tuple[Mount, ...]:
    def read(item: Node, below: str) -> Mount:
        mount = decoder.record(Mount, item, below)
        filled = complete(mount)
        if isinstance(filled, str):
            raise decoder.fault(item.where, below, filled)
        return mount

    return tuple(decoder.each(node, path, read))


def _devices(decoder: Decoder, node: Node, path: str) -> tuple[Device, ...]:
    def read(item: Node, below: str) -> Device:
        device = decoder.record(Device, item, below)
        problem = None if device.path == "all" else checks.octal(device.mode) or checks.absolute(device.path)
        if problem:
            raise decoder.fault(item.where, below, problem)
        return device

    return tuple(decoder.each(node, path, read))


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How a container runs: LinuxKit's image configuration.

    ``uid``, ``gid`` and ``additionalGids`` are numbers, or names of containers of the same YAML.
    """

    capabilities: tuple[str, ...] | None = key(None, read=_capabilities)
    capabilities_add: tuple[str, ...] | None = key(None, name="capabilities.add", read=_capabilities)
    ambient: tuple[str, ...] | None = key(None, read=_capabilities)
    mounts: tuple[Mount, ...] | None = key(None, read=_mounts)
    binds: tuple[str, ...] | None = key(None, check=checks.bind)
    binds_add: tuple[str, ...] | None = key(None, name="binds.add", check=checks.bind)
    devices: tuple[Device, ...] | None = key(None, read=_devices)
    tmpfs: tuple[str, ...] | None = key(None, check=checks.tmpfs)
    command: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    cwd: str = key("", check=checks.absolute_or_empty)
    net: str = ""
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    userns: str = ""
    hostname: str = ""
    readonly: bool | None = None
    maskedPaths: tuple[str, ...] | None = None
    readonlyPaths: tuple[str, ...] | None = None
    uid: int | str | None = key(None, check=checks.identity)
    gid: int | str | None = key(None, check=checks.identity)
    additionalGids: tuple[int | str, ...] | None = key(None, check=checks.identity)
    noNewPrivileges: bool | None = None
    oomScoreAdj: int | None = key(None, check=checks.signed)
    rootfsPropagation: str | None = None
    cgroupsPath: str | None = None
    resources: Resources | None = None
    sysctl: Mapping[str, str] | None = None
    rlimits: tuple[str, ...] | None = key(None, check=checks.rlimit)
    uidMappings: tuple[IDMapping, ...] | None = None
    gidMappings: tuple[IDMapping, ...] | None = None
    annotations: Mapping[str, str] | None = None
    runtime: Runtime | None = None


def read_label(text: str, name: str) -> ImageConfig:
    """Read the label ``org.mobyproject.config`` (JSON, or YAML); raise SpecError or ErrorList.

    ``name`` stands for the label's place in messages.  An empty label says nothing.
    """
    if not text:
        return ImageConfig()
    decoder, node = Decoder(), parse(text, name)
    try:
        value = decoder.record(ImageConfig, node, "")
    except NotedError:
        value = None
    decoder.finish()
    if value is None:
        raise SpecError("the label cannot be read", where=name)
    return value
