"""The whole configuration as text, for ``metadata:`` files: what LinuxKit writes for ``json`` and ``yaml``.

Which values appear although they are empty follows LinuxKit's Go structures (src/cmd/linuxkit/moby/config.go
and runtime-spec's specs-go/config.go), and differs between the two.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from linuxkit_rules.spec.decode import keys_of
from linuxkit_rules.spec.image import Device
from linuxkit_rules.spec.linuxkit import Container, File, Kernel, Spec, Volume
from linuxkit_rules.spec.resources import (
    CPU,
    BlockIO,
    DeviceCgroup,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Pids,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from linuxkit_rules.spec.runtime import IDMapping, Interface, Mount, Namespaces, Runtime

Form = Literal["json", "yaml"]

_ALWAYS: dict[type, tuple[str, ...]] = {
    Kernel: ("image",),
    Container: ("name", "image"),
    File: ("path", "directory", "optional"),
    Volume: ("name",),
    Device: ("path", "type", "major", "minor"),
    Interface: ("createInRoot",),
}
"""Keys that are written although their value is empty, in both forms."""

_ALWAYS_JSON: dict[type, tuple[str, ...]] = {
    Mount: ("destination",),
    Runtime: ("bindNS",),
    IDMapping: ("containerID", "hostID", "size"),
    DeviceCgroup: ("allow",),
    Pids: ("limit",),
    WeightDevice: ("major", "minor"),
    ThrottleDevice: ("major", "minor", "rate"),
    HugepageLimit: ("pageSize", "limit"),
    InterfacePriority: ("name", "priority"),
}
_GO_STRUCTURES = (
    Mount,
    IDMapping,
    Resources,
    DeviceCgroup,
    Memory,
    CPU,
    Pids,
    BlockIO,
    WeightDevice,
    ThrottleDevice,
    HugepageLimit,
    Network,
    InterfacePriority,
)
"""Types of runtime-spec: they have no names for YAML, so all their fields appear, in lower case."""

_GO_MORE: dict[type, dict[str, Any]] = {
    Memory: {"usehierarchy": None, "checkbeforeupdate": None},
    CPU: {"burst": None, "idle": None},
    Resources: {"rdma": {}, "unified": {}},
}
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./+-]*")
_RESERVED = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])


def metadata(spec: Spec, form: Form) -> str:
    """Give the configuration's text; references have their domain and ``library/``."""
    sections = {item.name: getattr(spec, item.name) for item in dataclasses.fields(Spec) if item.compare}
    order = ("kernel", "init", "onboot", "onshutdown", "services", "files", "volumes")
    value: dict[str, Any] = {}
    for name in order:
        section = sections[name]
        if name == "kernel":
            value[name] = _record(dataclasses.replace(section, image=expanded(section.image)), form)
        elif name == "init":
            value[name] = [expanded(image) for image in section]
        else:
            value[name] = [_record(_expanded(item), form) for item in section]
        if not value[name] and form == "json" and name != "kernel":
            value[name] = None
    if form == "json":
        return json.dumps(value, indent=4, ensure_ascii=False)
    return "".join(line + "\n" for line in _block(value, ""))


def expanded(image: str) -> str:
    """Give a reference with its domain, and ``library/`` where it has one part; other sources as they are."""
    parts = image.split("/")
    if not image or image.startswith(("@", "oci:", "docker-archive:", "oci-archive:")):
        return image
    if len(parts) == 1:
        return f"docker.io/library/{image}"
    if len(parts) == 2 and "." not in parts[0] and ":" not in parts[0] and parts[0] != "localhost":
        return f"docker.io/{image}"
    return image


def _expanded(item: Any) -> Any:
    return dataclasses.replace(item, image=expanded(item.image)) if isinstance(item, Container) else item


def _record(value: Any, form: Form) -> dict[str, Any]:
    kind = type(value)
    whole = form == "yaml" and kind in _GO_STRUCTURES
    always = _ALWAYS.get(kind, ()) + (_ALWAYS_JSON.get(kind, ()) if form == "json" else ())
    written: dict[str, Any] = {}
    for name, (item, _) in keys_of(kind).items():
        inner = getattr(value, item.name)
        key = _key(kind, name, form)
        if whole:
            written[key] = _go(item, inner, form)
        elif name in always or not _omitted(item, inner):
            written[key] = _value(inner, form)
    if whole:
        written |= _GO_MORE.get(kind, {})
    if isinstance(value, Container):
        written |= _record(value.config, form)
    return written


def _key(kind: type, name: str, form: Form) -> str:
    if kind in _GO_STRUCTURES and form == "yaml":
        return name.lower()
    return {"uidmappings": "uidMappings", "gidmappings": "gidMappings", "blockio": "blockIO"}.get(name, name)


def _omitted(item: dataclasses.Field[Any], value: Any) -> bool:
    """Whether omitempty leaves the value out: None where there is a pointer in Go, else anything empty."""
    if item.default is None:
        return value is None
    return value in ("", 0, (), None) or value == Namespaces()


def _go(item: dataclasses.Field[Any], value: Any, form: Form) -> Any:
    return str(value) if item.name in ("pageSize", "name") else _value(value, form)


def _value(value: Any, form: Form) -> Any:
    if dataclasses.is_dataclass(value):
        return _record(value, form)
    if isinstance(value, Mapping):
        return dict(sorted(value.items()))
    if isinstance(value, tuple):
        return [_value(item, form) for item in value]
    return value


def _block(value: Any, indent: str) -> Iterator[str]:
    """Give the lines of a non-empty mapping or list in YAML's block style."""
    pairs = (
        ((f"{_scalar(key)}:", item) for key, item in value.items())
        if isinstance(value, dict)
        else (("-", item) for item in value)
    )
    for lead, item in pairs:
        if isinstance(item, dict) and item and lead == "-":
            first, *rest = _block(item, indent + "  ")
            yield f"{indent}- {first.lstrip(' ')}"
            yield from rest
        elif isinstance(item, (dict, list)) and item:
            yield indent + lead
            yield from _block(item, indent + ("  " if isinstance(item, dict) else ""))
        else:
            yield f"{indent}{lead} {_scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value)
