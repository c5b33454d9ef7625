"""The part of a container that its YAML and its image's label ``org.mobyproject.config`` share.

Names, types and presence are those of LinuxKit (src/cmd/linuxkit/moby: schema.go, config.go; documented in
docs/yaml.md).  Where LinuxKit tells an absent value from an empty one the default is None; where it does not,
an empty string is as good as absent.
"""
# ruff: noqa: N815 - fields bear the names of LinuxKit's keys

from __future__ import annotations

from collections.abc import Mapping

from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import Decoder, NotedError, key
from linuxkit_rules.spec.resources import Resources
from linuxkit_rules.spec.runtime import IDMapping, Mount, Runtime, complete
from linuxkit_rules.spec.yamlfile import Node, parse
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """A device node; ``path: all`` stands for every device of the type."""

    path: str = key(
        "",
        check=checks.device_path,
        doc="Where the node is made in the container; all allows every device of the type.",
    )
    type: str = key("", check=checks.device_type, doc="c or u (character), b (block) or p (FIFO).")
    major: int = key(0, check=checks.signed, doc="Major number.")
    minor: int = key(0, check=checks.signed, doc="Minor number.")
    mode: str = key("", doc='Permission bits as octal text: "0660". Needed unless path is all.')


def _capabilities(decoder: Decoder, node: Node, path: str) -> tuple[str, ...]:
    values: tuple[str, ...] = decoder.read(tuple[str, ...], node, path, checks.capability)
    if len(values) > 1 and any(value.lower() in ("all", "none") for value in values):
        raise decoder.fault(node.where, path, '"all" and "none" must stand alone')
    return values


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

    capabilities: tuple[str, ...] | None = key(
        None,
        read=_capabilities,
        check=checks.capability,
        doc="Capabilities by their full names (CAP_NET_ADMIN), or all, or none. Replaces the label's list.",
    )
    capabilities_add: tuple[str, ...] | None = key(
        None,
        name="capabilities.add",
        read=_capabilities,
        check=checks.capability,
        doc="Capabilities beside those of the label. Says nothing where capabilities is given.",
    )
    ambient: tuple[str, ...] | None = key(
        None,
        read=_capabilities,
        check=checks.capability,
        doc="Capabilities that users other than root keep, ambient ones. Replaces the label's list.",
    )
    mounts: tuple[Mount, ...] | None = key(
        None,
        read=_mounts,
        doc="Mounts in the container; one replaces a default one at its place. Replaces the label's list.",
    )
    binds: tuple[str, ...] | None = key(
        None,
        check=checks.bind,
        doc="Binds: source:destination or source:destination:options. The source is an absolute path or a"
        " volume's name. Options default to rw,rbind,rshared; rbind is added to others. Replaces the label's"
        " list.",
    )
    binds_add: tuple[str, ...] | None = key(
        None,
        name="binds.add",
        check=checks.bind,
        doc="Binds beside those of the label. Says nothing where binds is given.",
    )
    devices: tuple[Device, ...] | None = key(
        None, read=_devices, doc="Device nodes that are made and allowed. Replaces the label's list."
    )
    tmpfs: tuple[str, ...] | None = key(
        None,
        check=checks.tmpfs,
        doc="File systems in memory: destination or destination:options. Replaces the label's list.",
    )
    command: tuple[str, ...] | None = key(
        None, doc="Program and arguments. Default: the label's, then the image's entrypoint and command."
    )
    env: tuple[str, ...] | None = key(
        None, doc="Environment, as NAME=value. Default: the label's, then the image's. Lists are not joined."
    )
    cwd: str = key(
        "",
        check=checks.absolute_or_empty,
        doc="Working directory, absolute. Default: the label's, then the image's, then /.",
    )
    net: str = key(
        "",
        doc="Network: host, new or none for an empty one of its own, or the path of a namespace."
        " Default: the label's, then host.",
    )
    pid: str = key(
        "",
        doc="Process ids: new for its own, host, or the path of a namespace. Default: the label's, then new.",
    )
    ipc: str = key(
        "",
        doc="Shared memory and queues: new for its own, host, or the path of a namespace."
        " Default: the label's, then host.",
    )
    uts: str = key(
        "",
        doc="Host name: new for its own, host, or the path of a namespace. Default: the label's, then host.",
    )
    userns: str = key(
        "",
        doc="Users: new for its own, host, or the path of a namespace. Default: the label's, then host.",
    )
    hostname: str = key("", doc="Host name inside the container; needs uts: new. Default: the label's.")
    readonly: bool | None = key(
        None, doc="Whether the root file system is read-only. Default: the label's, then false."
    )
    maskedPaths: tuple[str, ...] | None = key(
        None, doc="Paths that the container cannot read. Replaces the label's list."
    )
    readonlyPaths: tuple[str, ...] | None = key(
        None, doc="Paths that the container cannot write. Replaces the label's list."
    )
    uid: int | str | None = key(
        None,
        check=checks.identity,
        doc="User: a number, or the name of a container, which stands for its number."
        " Default: the label's number, then 0. The image's own user does not count.",
    )
    gid: int | str | None = key(
        None,
        check=checks.identity,
        doc="Group: a number, or the name of a container, which stands for its number."
        " Default: the label's number, then 0.",
    )
    additionalGids: tuple[int | str, ...] | None = key(
        None,
        check=checks.identity,
        doc="Further groups, as numbers or names of containers. Replaces the label's list of numbers.",
    )
    noNewPrivileges: bool | None = key(
        None, doc="Whether set-user-id programs gain nothing. Default: the label's, then false."
    )
    oomScoreAdj: int | None = key(
        None,
        check=checks.signed,
        doc="How readily it is killed when memory runs out: -1000 (never) to 1000. Default: the label's.",
    )
    rootfsPropagation: str | None = key(
        None, doc="Propagation of mounts: private, slave, shared or unbindable. Default: the label's."
    )
    cgroupsPath: str | None = key(None, doc="The container's cgroup. Default: the label's.")
    resources: Resources | None = key(None, doc="Limits by cgroup. Replaces all of the label's.")
    sysctl: Mapping[str, str] | None = key(
        None, doc="Kernel parameters of the container's namespaces; values are strings. Replaces the label's."
    )
    rlimits: tuple[str, ...] | None = key(
        None,
        check=checks.rlimit,
        doc='Resource limits: "nofile,1024,unlimited" (name, soft, hard). Replaces the label\'s list.',
    )
    uidMappings: tuple[IDMapping, ...] | None = key(
        None, doc="Users of a user namespace; needs userns: new. Replaces the label's list."
    )
    gidMappings: tuple[IDMapping, ...] | None = key(
        None, doc="Groups of a user namespace; needs userns: new. Replaces the label's list."
    )
    annotations: Mapping[str, str] | None = key(
        None, doc="Annotations for the runtime; values are strings. Replaces the label's."
    )
    runtime: Runtime | None = key(
        None, doc="What init does around the container. What is not given here is the label's, key by key."
    )

    def names(self) -> set[str]:
        """Give the names of containers that stand for numbers of users and groups."""
        named = (self.uid, self.gid, *(self.additionalGids or ()))
        return {item for item in named if isinstance(item, str)}


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
