"""Limits of a container by cgroup, as the YAML's ``resources:`` says them.

Names and types are those of the runtime specification:
https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config-linux.md, "Control groups".
"""
# ruff: noqa: N815 - fields bear the names of LinuxKit's keys

from __future__ import annotations

from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import key
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class DeviceCgroup:
    """A rule of the device controller (config-linux.md, "Allowed Device list")."""

    allow: bool = key(False, doc="Whether the rule allows or denies.")
    type: str = key("", doc="a (all), c (character) or b (block). Default: all.")
    major: int | None = key(None, check=checks.signed, doc="The device's major number. Default: any.")
    minor: int | None = key(None, check=checks.signed, doc="The device's minor number. Default: any.")
    access: str = key("", doc="Any of r (read), w (write) and m (mknod).")


@dataclass(frozen=True, slots=True)
class Memory:
    """Limits of memory in bytes (config-linux.md, "Memory")."""

    limit: int | None = key(None, check=checks.signed, doc="Limit of memory, in bytes; -1 for none.")
    reservation: int | None = key(None, check=checks.signed, doc="Soft limit of memory, in bytes.")
    swap: int | None = key(None, check=checks.signed, doc="Limit of memory and swap together, in bytes.")
    kernel: int | None = key(None, check=checks.signed, doc="Limit of kernel memory, in bytes (cgroup v1).")
    kernelTCP: int | None = key(
        None, check=checks.signed, doc="Limit of kernel memory for TCP buffers, in bytes (cgroup v1)."
    )
    swappiness: int | None = key(
        None, check=checks.unsigned, doc="How readily memory is swapped out, 0 to 100 (cgroup v1)."
    )
    disableOOMKiller: bool | None = key(
        None, doc="Whether processes beyond the limit wait instead of being killed (cgroup v1)."
    )


@dataclass(frozen=True, slots=True)
class CPU:
    """Shares and limits of processors (config-linux.md, "CPU")."""

    shares: int | None = key(
        None, check=checks.unsigned, doc="Weight against other cgroups. The kernel's default is 1024."
    )
    quota: int | None = key(None, check=checks.signed, doc="Processor time per period, in microseconds.")
    period: int | None = key(None, check=checks.unsigned, doc="Length of a period, in microseconds.")
    realtimeRuntime: int | None = key(
        None, check=checks.signed, doc="Time for real-time tasks per realtimePeriod, in microseconds."
    )
    realtimePeriod: int | None = key(
        None, check=checks.unsigned, doc="Length of a real-time period, in microseconds."
    )
    cpus: str = key("", doc="Processors that may be used, as a list: 0-3,6.")
    mems: str = key("", doc="Memory nodes that may be used, as a list: 0-3,6.")


@dataclass(frozen=True, slots=True)
class Pids:
    """Limit of processes (config-linux.md, "PIDs")."""

    limit: int | None = key(None, check=checks.signed, doc="Number of processes; -1 for no limit.")


@dataclass(frozen=True, slots=True)
class WeightDevice:
    """Weight of one block device (config-linux.md, "Block IO")."""

    major: int = key(0, check=checks.signed, doc="The device's major number.")
    minor: int = key(0, check=checks.signed, doc="The device's minor number.")
    weight: int | None = key(None, check=checks.unsigned16, doc="Share of the device, 10 to 1000.")
    leafWeight: int | None = key(
        None, check=checks.unsigned16, doc="Share against the container's child cgroups, 10 to 1000."
    )


@dataclass(frozen=True, slots=True)
class ThrottleDevice:
    """Rate limit of one block device (config-linux.md, "Block IO")."""

    major: int = key(0, check=checks.signed, doc="The device's major number.")
    minor: int = key(0, check=checks.signed, doc="The device's minor number.")
    rate: int = key(0, check=checks.unsigned, doc="Bytes, or operations (IOPS), per second.")


@dataclass(frozen=True, slots=True)
class BlockIO:
    """Weights and limits of block devices (config-linux.md, "Block IO")."""

    weight: int | None = key(None, check=checks.unsigned16, doc="Share of every device, 10 to 1000.")
    leafWeight: int | None = key(
        None, check=checks.unsigned16, doc="Share against the container's child cgroups, 10 to 1000."
    )
    weightDevice: tuple[WeightDevice, ...] = key((), doc="Weights for single devices.")
    throttleReadBpsDevice: tuple[ThrottleDevice, ...] = key((), doc="Limits of bytes read per second.")
    throttleWriteBpsDevice: tuple[ThrottleDevice, ...] = key((), doc="Limits of bytes written per second.")
    throttleReadIOPSDevice: tuple[ThrottleDevice, ...] = key((), doc="Limits of reads per second.")
    throttleWriteIOPSDevice: tuple[ThrottleDevice, ...] = key((), doc="Limits of writes per second.")


@dataclass(frozen=True, slots=True)
class HugepageLimit:
    """Limit of huge pages of one size (config-linux.md, "Huge page limits")."""

    pageSize: int | str = key("", doc="Size of the pages, with a unit: 2MB, 1GB.")
    limit: int = key(0, check=checks.unsigned, doc="Limit of memory in such pages, in bytes.")


@dataclass(frozen=True, slots=True)
class InterfacePriority:
    """Priority of one interface's traffic (config-linux.md, "Network")."""

    name: int | str = key("", doc="The interface's name.")
    priority: int = key(0, check=checks.unsigned32, doc="The priority of packets sent by it.")


@dataclass(frozen=True, slots=True)
class Network:
    """Class and priorities of network traffic (config-linux.md, "Network")."""

    classID: int | None = key(
        None, check=checks.unsigned32, doc="Class with which packets are tagged for traffic control."
    )
    priorities: tuple[InterfacePriority, ...] = key((), doc="Priorities of traffic by interface.")


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits by cgroup (config-linux.md, "Control groups")."""

    devices: tuple[DeviceCgroup, ...] = key(
        (), doc="Rules of the device controller; those for the container's own devices are added to them."
    )
    memory: Memory | None = key(None, doc="Limits of memory.")
    cpu: CPU | None = key(None, doc="Shares and limits of processors.")
    pids: Pids | None = key(None, doc="Limit of processes.")
    blockio: BlockIO | None = key(None, doc="Weights and limits of block devices.")
    hugepageLimits: tuple[HugepageLimit, ...] = key((), doc="Limits of huge pages, by their size.")
    network: Network | None = key(None, doc="Class and priorities of network traffic (cgroup v1).")
