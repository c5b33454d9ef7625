"""Devices and limits of a container, as the runtime specification writes them.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config-linux.md
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from linuxkit_rules.spec.image import Device
from linuxkit_rules.spec.resources import (
    CPU,
    BlockIO,
    DeviceCgroup,
    Memory,
    Network,
    Resources,
    ThrottleDevice,
)
from linuxkit_rules.spec.runtime import IDMapping

Json = dict[str, Any]
_ALL_ACCESS = "rwm"


def given(value: Json) -> Json:
    """Leave out what is None or empty; numbers and booleans stay."""
    return {key: item for key, item in value.items() if item not in (None, "", [], {}, ())}


def resources_json(resources: Resources, devices: Iterable[Device]) -> Json:
    """Give linux.resources, with a rule for each device node beside those asked for.

    A section that is there and says nothing stays, as an empty object.
    """
    rules = [_rule(rule) for rule in resources.devices] + [_device_rule(device) for device in devices]
    sections: dict[str, Json | None] = {
        "memory": _memory(resources.memory) if resources.memory else None,
        "cpu": _cpu(resources.cpu) if resources.cpu else None,
        "pids": {"limit": resources.pids.limit or 0} if resources.pids else None,
        "blockIO": _block(resources.blockio) if resources.blockio else None,
    }
    pages = [{"pageSize": str(item.pageSize), "limit": item.limit} for item in resources.hugepageLimits]
    return {
        **given({"devices": rules}),
        **{name: section for name, section in sections.items() if section is not None},
        **given({"hugepageLimits": pages}),
        **({"network": _network(resources.network)} if resources.network else {}),
    }


def devices_json(devices: Iterable[Device]) -> list[Json]:
    """Give linux.devices: the nodes that are made; ``path: all`` only allows access."""
    return [
        {
            "path": device.path,
            "type": device.type,
            "major": device.major,
            "minor": device.minor,
            "fileMode": int(device.mode, 8),
        }
        for device in devices
        if device.path != "all"
    ]


def mappings_json(mappings: Iterable[IDMapping]) -> list[Json]:
    """Give uidMappings or gidMappings."""
    return [{"containerID": item.containerID, "hostID": item.hostID, "size": item.size} for item in mappings]


def _rule(rule: DeviceCgroup) -> Json:
    return {"allow": rule.allow} | given(
        {"type": rule.type, "major": rule.major, "minor": rule.minor, "access": rule.access}
    )


def _device_rule(device: Device) -> Json:
    if device.path == "all":
        return {"allow": True} | given({"type": device.type, "access": _ALL_ACCESS})
    rule = DeviceCgroup(True, device.type, device.major, device.minor, _ALL_ACCESS)
    return _rule(rule)


def _memory(memory: Memory) -> Json:
    return given(
        {
            "limit": memory.limit,
            "reservation": memory.reservation,
            "swap": memory.swap,
            "kernel": memory.kernel,
            "kernelTCP": memory.kernelTCP,
            "swappiness": memory.swappiness,
            "disableOOMKiller": memory.disableOOMKiller,
        }
    )


def _cpu(cpu: CPU) -> Json:
    return given(
        {
            "shares": cpu.shares,
            "quota": cpu.quota,
            "period": cpu.period,
            "realtimeRuntime": cpu.realtimeRuntime,
            "realtimePeriod": cpu.realtimePeriod,
            "cpus": cpu.cpus,
            "mems": cpu.mems,
        }
    )


def _block(block: BlockIO) -> Json:
    return given(
        {
            "weight": block.weight,
            "leafWeight": block.leafWeight,
            "weightDevice": [
                {"major": item.major, "minor": item.minor}
                | given({"weight": item.weight, "leafWeight": item.leafWeight})
                for item in block.weightDevice
            ],
            "throttleReadBpsDevice": _rates(block.throttleReadBpsDevice),
            "throttleWriteBpsDevice": _rates(block.throttleWriteBpsDevice),
            "throttleReadIOPSDevice": _rates(block.throttleReadIOPSDevice),
            "throttleWriteIOPSDevice": _rates(block.throttleWriteIOPSDevice),
        }
    )


def _rates(devices: Iterable[ThrottleDevice]) -> list[Json]:
    return [{"major": item.major, "minor": item.minor, "rate": item.rate} for item in devices]


def _network(network: Network) -> Json:
    priorities = [{"name": str(item.name), "priority": item.priority} for item in network.priorities]
    return given({"classID": network.classID, "priorities": priorities})
