"""Several specs to one, and what the parts of a spec say about each other.

Specs are joined as LinuxKit joins them (src/cmd/linuxkit/moby: AppendConfig in config.go, volume.go).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from linuxkit_rules.errors import ErrorList, LinuxKitError, SpecError, one_line
from linuxkit_rules.spec.image import ImageConfig
from linuxkit_rules.spec.legacy import Output
from linuxkit_rules.spec.linuxkit import Container, File, Kernel, Spec, Volume, load, normal


def merge(specs: Sequence[Spec]) -> Spec:
    """Join specs: lists are appended, the kernel's values replaced where a later spec has any.

    A format given twice in outputs stands at its first place.

    Raises SpecError or ErrorList for names given twice, and for volumes and containers that are not there.
    """
    merged = Spec()
    for spec in specs:
        lists = ("init", "init_places", "init_bases", "onboot", "onshutdown", "services", "files", "volumes")
        values = {name: getattr(merged, name) + getattr(spec, name) for name in lists}
        merged = Spec(
            kernel=_merge_kernel(merged.kernel, spec.kernel),
            trust=merged.trust.joined(spec.trust),
            outputs=_merge_outputs(merged.outputs + spec.outputs),
            **values,
        )
    faults = [
        *_twice("service", merged.services),
        *_twice("volume", merged.volumes),
        *_unknown_ids(merged),
        *_under_files(merged.files),
        *_volume_faults(merged),
    ]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise ErrorList(faults)
    return merged


def load_all(paths: Sequence[Path]) -> Spec:
    """Read and merge files; raise SpecError or ErrorList."""
    return merge([load(path) for path in paths])


def _merge_kernel(first: Kernel, second: Kernel) -> Kernel:
    """Take what ``second`` says; the place is that of the YAML which names the image."""
    values = {
        item.name: getattr(second, item.name)
        for item in dataclasses.fields(Kernel)
        if item.compare and getattr(second, item.name) != item.default
    }
    if second.image:
        values |= {"where": second.where, "base": second.base}
    return dataclasses.replace(first, **values)


def _merge_outputs(outputs: Sequence[Output]) -> tuple[Output, ...]:
    first: dict[str, Output] = {}
    for output in outputs:
        first.setdefault(output.format.strip(), output)
    return tuple(first.values())


def _twice(what: str, items: Sequence[Container | Volume]) -> list[LinuxKitError]:
    seen: dict[str, str] = {}
    faults: list[LinuxKitError] = []
    for item in items:
        if item.name in seen:
            hint = f"the first is at {seen[item.name]}"
            faults.append(SpecError(f"two {what}s are named {item.name!r}", where=item.where, hint=hint))
        seen.setdefault(item.name, item.where)
    return faults


def _unknown_ids(spec: Spec) -> list[LinuxKitError]:
    ids = {"", "root", *spec.ids()}
    hint = "a name stands for a container of this image; write a number otherwise"

    def unknown(value: object) -> bool:
        return isinstance(value, str) and value not in ids

    faults: list[LinuxKitError] = []
    for _, _, item in spec.containers():
        groups = {
            f"additionalGids[{index}]": name for index, name in enumerate(item.config.additionalGids or ())
        }
        named = {"uid": item.config.uid, "gid": item.config.gid, **groups}
        for path, value in named.items():
            if unknown(value):
                faults.append(item.fault(path, f"no container is named {value!r}", hint))
    for file in spec.files:
        for value in filter(unknown, (file.uid, file.gid)):
            message = f"{one_line(file.path)}: no container is named {value!r}"
            faults.append(SpecError(message, where=file.where, hint=hint))
    return faults


def _under_files(files: Sequence[File]) -> list[LinuxKitError]:
    leaves: dict[str, File] = {}
    faults: list[LinuxKitError] = []
    for file in files:
        path = normal(file.path)
        parts = path.split("/")
        for end in range(1, len(parts)):
            above = leaves.get("/".join(parts[:end]))
            if above is not None:
                message = f"{one_line(file.path)} cannot lie below {one_line(above.path)}, a file"
                faults.append(SpecError(message, where=file.where))
                break
        if file.directory:
            leaves.pop(path, None)
        else:
            leaves[path] = file
    return faults


def _volume_faults(spec: Spec) -> list[LinuxKitError]:
    faults: list[LinuxKitError] = []
    for _, _, item in spec.containers():
        faults += bind_volumes(item, spec.volumes)[1]
    return faults


def bind_volumes(container: Container, volumes: Sequence[Volume]) -> tuple[ImageConfig, list[LinuxKitError]]:
    """Give the container's configuration with volumes' names in its binds replaced by paths, and all faults.

    A name in ``mounts`` is checked and left as it is, as LinuxKit does.
    """
    known = {volume.name: volume for volume in volumes}
    faults: list[LinuxKitError] = []

    def replaced(name: str, binds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if binds is None:
            return None
        items = []
        for index, bind in enumerate(binds):
            source, *rest = bind.split(":")
            options = rest[1].split(",") if len(rest) > 1 else []
            check(f"{name}[{index}]", source, options)
            items.append(":".join([known[source].merged, *rest]) if source in known else bind)
        return tuple(items)

    def check(path: str, source: str, options: Sequence[str]) -> None:
        problem = _volume_problem(source, options, known)
        if problem:
            faults.append(container.fault(path, *problem))

    config = container.config
    for index, mount in enumerate(config.mounts or ()):
        if mount.type == "bind":
            check(f"mounts[{index}]", mount.source, mount.options)
    binds, more = replaced("binds", config.binds), replaced("binds.add", config.binds_add)
    return dataclasses.replace(config, binds=binds, binds_add=more), faults


def _volume_problem(
    source: str, options: Sequence[str], known: Mapping[str, Volume]
) -> tuple[str, str] | None:
    """Give message and hint where ``source`` is no path, and no volume that may be used so."""
    if source.startswith("/"):
        return None
    if source not in known:
        hint = f"volumes: {', '.join(known)}" if known else "write an absolute path, or add the volume"
        return f"{source!r} is neither a path nor a volume", hint
    if known[source].readonly and ("ro" not in options or "rw" in options):
        return f"the volume {source!r} is read-only", "add the option ro"
    return None
