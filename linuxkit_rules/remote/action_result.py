"""Results as messages ``ActionResult`` of Bazel's remote execution API, version 2.

https://github.com/bazelbuild/remote-apis/blob/v2.12.0/build/bazel/remote/execution/v2/remote_execution.proto
The output is the file ``output``, what it refers to are ``refers/0`` and so on; the media type of each is a
node property.  Servers that look into messages find all blobs there; what they add is not read.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError
from linuxkit_rules.remote.backend import checked
from linuxkit_rules.store.memory import Result

OUTPUT = "output"
REFERS = "refers/"
MEDIA_TYPE = "mediaType"
"""Name of the node property."""

_PACKAGE = "linuxkit_rules"  # of no consequence: the wire format has no names
_FIELDS: dict[str, tuple[tuple[int, str, str, bool], ...]] = {
    "Digest": ((1, "hash", "string", False), (2, "size_bytes", "int64", False)),
    "NodeProperty": ((1, "name", "string", False), (2, "value", "string", False)),
    "NodeProperties": ((1, "properties", "NodeProperty", True),),
    "OutputFile": (
        (1, "path", "string", False),
        (2, "digest", "Digest", False),
        (7, "node_properties", "NodeProperties", False),
    ),
    "ActionResult": ((2, "output_files", "OutputFile", True),),
}
"""The messages that are used, each with number, name, type of its fields, and whether there may be many."""

_DIGITS = re.compile(r"[0-9a-f]{64}")


def encode(result: Result) -> bytes:
    """Give the message, the same bytes each time."""
    message = _classes()["ActionResult"]()
    names = (OUTPUT, *(f"{REFERS}{number}" for number in range(len(result.refers))))
    for name, blob in zip(names, result.blobs, strict=True):
        file = message.output_files.add(path=name)
        file.digest.hash, file.digest.size_bytes = blob.digest.hex, blob.size
        file.node_properties.properties.add(name=MEDIA_TYPE, value=blob.media_type)
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def decode(data: bytes) -> Result:
    """Read a message; raise FormatError where it is none, or none of a result."""
    from google.protobuf.message import DecodeError

    message = _classes()["ActionResult"]()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise FormatError("is no ActionResult") from None
    files = {file.path: file for file in message.output_files}
    names = [OUTPUT, *(f"{REFERS}{number}" for number in range(len(message.output_files) - 1))]
    if sorted(names) != sorted(files):
        raise FormatError("is an ActionResult with other files than a result has")
    output, *refers = (_descriptor(files[name]) for name in names)
    return Result(output, tuple(refers))


def _descriptor(file: Any) -> Descriptor:
    found = [item.value for item in file.node_properties.properties if item.name == MEDIA_TYPE]
    if len(found) != 1 or not _DIGITS.fullmatch(file.digest.hash) or file.digest.size_bytes < 0:
        raise FormatError("is an ActionResult whose files lack media type, digest or size")
    return checked(Descriptor(found[0], Digest(file.digest.hash), file.digest.size_bytes))


@functools.cache
def _classes() -> dict[str, Any]:
    """Give the messages' classes by name.

    Their pool is one of our own: another program in this process may bring the whole API.
    """
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="action_result.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, label, kind, repeated in fields:
            field = message.field.add(name=label, number=number)
            field.label = (
                FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            )
            if kind in _FIELDS:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _FIELDS}
