"""Steps as actions of the remote execution API, version 2, and what comes of them.

https://github.com/bazelbuild/remote-apis/blob/v2.12.0/build/bazel/remote/execution/v2/remote_execution.proto
An action is a command and an input root, each named by digest; equal steps are equal actions, byte for byte,
so that the server's action cache knows them.  The command is ``moby stage``, with the input root as its
working directory and of variables PATH alone.  Blobs keep the names that they have in the store: what the
server has of them, whoever sent it, is not sent again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError, LinuxKitError, NetworkError
from linuxkit_rules.formats.limits import DEFAULT_LIMITS, Limits
from linuxkit_rules.remote.backend import checked
from linuxkit_rules.store.blobs import OCTET_STREAM
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

COMMAND = ("moby", "stage")
PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where a worker is told to look for the command: what POSIX systems have, and where pip puts it."""
ACTION_SECONDS = 3600
"""How long a worker may take."""
RECIPE = "recipe.json"
BLOBS = "blobs/sha256"
RESULT = "out/result.json"
OUT_BLOBS = "out/blobs/sha256"

Properties = tuple[tuple[str, str], ...]
"""Names and values that a worker must have (``Platform``)."""


@dataclass(frozen=True, slots=True)
class Order:
    """A step to be done elsewhere: its ``key``, its ``recipe`` as a document, and the ``blobs`` it needs.

    ``limits`` bound what it gives.
    """

    key: str
    recipe: bytes
    blobs: tuple[Descriptor, ...]
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class Action:
    """An order as an action: its ``digest``, and the ``messages`` that the server must have for it."""

    digest: Descriptor
    messages: Mapping[Descriptor, bytes]


class FailedError(NetworkError):
    """An action was not done, or not well; ``status`` is its exit status, None where it did not end."""

    def __init__(self, message: str, *, where: str | None = None, status: int | None = None) -> None:
        super().__init__(message, where=where)
        self.status = status


class LacksError(FailedError):
    """An action was not begun: the server lacks what it needs, or does not know its properties."""


class StoppedError(LinuxKitError):
    """The user has interrupted the build while a step was run elsewhere."""


class _Messages:
    """Messages, by the descriptors that name them."""

    def __init__(self) -> None:
        self.data: dict[Descriptor, bytes] = {}

    def put(self, data: bytes) -> Descriptor:
        blob = Descriptor(OCTET_STREAM, Digest.of(data), len(data))
        self.data[blob] = data
        return blob

    def add(self, message: Any) -> Descriptor:
        return self.put(message.SerializeToString(deterministic=True))


def action_of(order: Order, properties: Properties = ()) -> Action:
    """Give the action of ``order``, the same for every client."""
    from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
    from google.protobuf.duration_pb2 import Duration

    messages = _Messages()
    pairs = [api.Platform.Property(name=name, value=value) for name, value in sorted(properties)]
    platform = api.Platform(properties=pairs)
    command = api.Command(
        arguments=COMMAND,
        environment_variables=[api.Command.EnvironmentVariable(name="PATH", value=PATH)],
        output_paths=[OUT_BLOBS, RESULT],
        platform=platform,
    )
    action = api.Action(
        command_digest=digest_message(messages.add(command)),
        input_root_digest=digest_message(_input_root(order, messages)),
        timeout=Duration(seconds=ACTION_SECONDS),
        platform=platform,
    )
    return Action(messages.add(action), messages.data)


def _input_root(order: Order, messages: _Messages) -> Descriptor:
    """Give the folder that a worker gets: the recipe, and below BLOBS the blobs."""
    from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api

    def file(name: str, blob: Descriptor) -> Any:
        return api.FileNode(name=name, digest=digest_message(blob))

    def folder(name: str, below: Descriptor) -> Any:
        return api.DirectoryNode(name=name, digest=digest_message(below))

    outer, _, inner = BLOBS.partition("/")
    named = sorted({blob.digest.hex: blob for blob in order.blobs}.items())
    blobs = messages.add(api.Directory(files=[file(name, blob) for name, blob in named]))
    above = messages.add(api.Directory(directories=[folder(inner, blobs)]))
    recipe = file(RECIPE, messages.put(order.recipe))
    return messages.add(api.Directory(files=[recipe], directories=[folder(outer, above)]))


def digest_message(blob: Descriptor) -> Any:
    """Give the message ``Digest`` of a blob."""
    from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api

    return api.Digest(hash=blob.digest.hex, size_bytes=blob.size)


def encode_result(key: str, result: Result) -> bytes:
    """Give the document that a worker leaves beside the blobs."""
    output, *refers = (blob.to_json() for blob in result.blobs)
    return canonical_json({"key": key, "output": output, "refers": refers})


def decode_result(data: bytes, key: str) -> Result:
    """Read such a document; raise FormatError where it is none, or one of another recipe than ``key``."""
    try:
        value = json.loads(data)
        if value["key"] != key:
            raise FormatError("gives the result of another recipe")
        output, *refers = (
            checked(Descriptor.from_json(item)) for item in (value["output"], *value["refers"])
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError("gives no result of a step") from error
    return Result(output, tuple(refers))
