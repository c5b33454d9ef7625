"""Results as Bazel's messages, read and written by the definition that the API's authors publish."""

from collections.abc import Callable

import pytest
from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from hypothesis import given
from hypothesis import strategies as st

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError
from linuxkit_rules.remote import artefacts
from linuxkit_rules.remote.action_result import _FIELDS, decode, encode
from linuxkit_rules.store.memory import Result

BLOBS = tuple(Descriptor(f"text/{name}", Digest.of(name.encode()), len(name)) for name in ("a", "bc", "def"))
RESULT = Result(BLOBS[0], BLOBS[1:])

descriptors = st.builds(
    Descriptor,
    st.from_regex(r"[a-z]+/[a-z0-9.+-]{1,40}", fullmatch=True),
    st.builds(Digest.of, st.binary()),
    st.integers(0, 2**63 - 1),
)
results = st.builds(Result, descriptors, st.lists(descriptors, max_size=12).map(tuple))


def theirs(data: bytes) -> api.ActionResult:
    message = api.ActionResult()
    message.ParseFromString(data)
    return message


def unknown(message: api.ActionResult) -> bytes:
    """What a message holds that its definition does not know."""
    known = theirs(message.SerializeToString())
    known.DiscardUnknownFields()
    return b"" if known.SerializeToString() == message.SerializeToString() else b"something"


def test_numbers_names_and_types_are_those_of_the_api() -> None:
    for name, fields in _FIELDS.items():
        described = getattr(api, name).DESCRIPTOR.fields_by_number
        for number, label, kind, many in fields:
            field = described[number]
            assert field.name == label
            assert field.is_repeated == many
            scalar = {field.TYPE_STRING: "string", field.TYPE_INT64: "int64"}
            assert (field.message_type.name if field.message_type else scalar[field.type]) == kind


@given(results)
def test_what_we_write_is_read_by_the_api_whole(result: Result) -> None:
    message = theirs(encode(result))
    assert unknown(message) == b""
    assert [(item.digest.hash, item.digest.size_bytes) for item in message.output_files] == [
        (blob.digest.hex, blob.size) for blob in result.blobs
    ]
    assert all(item.path and not item.path.startswith("/") for item in message.output_files)
    assert message.exit_code == 0
    assert decode(encode(result)) == result
    assert encode(result) == encode(decode(encode(result)))


@given(results)
def test_what_the_api_writes_is_read(result: Result) -> None:
    """In another order, and with what servers add."""
    message = theirs(encode(result))
    files = list(message.output_files)[::-1]
    del message.output_files[:]
    message.output_files.extend(files)
    message.execution_metadata.worker = "10.0.0.1"
    message.stdout_raw = b"hello"
    for file in message.output_files:
        file.is_executable = True
        file.node_properties.unix_mode.value = 0o644
    assert decode(message.SerializeToString()) == result


def no_property(message: api.ActionResult) -> None:
    message.output_files[0].ClearField("node_properties")


def no_digest(message: api.ActionResult) -> None:
    message.output_files[1].ClearField("digest")


def upper_case(message: api.ActionResult) -> None:
    message.output_files[0].digest.hash = message.output_files[0].digest.hash.upper()


def another_digest(message: api.ActionResult) -> None:
    message.output_files[0].digest.hash = "0" * 40


def negative(message: api.ActionResult) -> None:
    message.output_files[0].digest.size_bytes = -1


def twice(message: api.ActionResult) -> None:
    message.output_files.append(message.output_files[0])


def gap(message: api.ActionResult) -> None:
    del message.output_files[1]


def other_names(message: api.ActionResult) -> None:
    message.output_files[0].path = "a.out"


def none(message: api.ActionResult) -> None:
    message.Clear()


def bad_type(message: api.ActionResult) -> None:
    message.output_files[0].node_properties.properties[0].value = "a\nb"


@pytest.mark.parametrize(
    "change",
    [
        no_property,
        no_digest,
        upper_case,
        another_digest,
        negative,
        twice,
        gap,
        other_names,
        none,
        bad_type,
    ],
)
def test_results_of_other_programs_are_refused(change: Callable[[api.ActionResult], None]) -> None:
    message = theirs(encode(RESULT))
    change(message)
    with pytest.raises(FormatError):
        decode(message.SerializeToString())


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (decode, artefacts.decode):
        try:
            read(data)
        except FormatError:
            continue
        raise AssertionError("these bytes are no result")


@given(results)
def test_artefacts(result: Result) -> None:
    assert artefacts.decode(artefacts.encode(result)) == result
