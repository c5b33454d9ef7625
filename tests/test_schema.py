"""The JSON schema that editors are told of, held against the parser."""

import dataclasses
import json
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.spec.checks import SHAPES, Check
from linuxkit_rules.spec.linuxkit import Spec, loads
from linuxkit_rules.spec.schema import properties, schema, text
from linuxkit_rules.spec.yamlfile import parse
from tests.documents import ROOT, SUITE, as_yaml, valid

COMMITTED = ROOT / "linuxkit_rules" / "linuxkit.schema.json"
INVALID = sorted(path.parent.name for path in SUITE.glob("invalid/*/linuxkit.yml"))
VALIDATOR = Draft7Validator(schema())
NO_SUITE = pytest.mark.skipif(not INVALID, reason=f"the conformance suite is not at {SUITE}")

BEYOND = {
    "cap-all-plus": "all beside others",
    "device-bad-mode": "a device's mode counts only where its path is not all",
    "device-no-mode": "the same",
    "file-contents-and-source": "keys that exclude each other",
    "file-dir-contents": "keys that exclude each other",
    "file-dir-symlink": "keys that exclude each other",
    "file-dotdot": "a path with ..",
    "file-inner-dotdot": "a path with ..",
    "file-nothing": "one of several keys is needed",
    "file-root": "a path that names no file",
    "file-source-and-metadata": "keys that exclude each other",
    "file-symlink-contents": "keys that exclude each other",
    "file-trailing-slash": "a path that names a directory",
    "mount-no-destination": "needed by some types only",
    "mount-no-type": "needed without some sources only",
}
"""Invalid cases that the parser refuses for what values say about each other."""

SAMPLES: dict[str, dict[str, Any]] = {
    "Container": {"name": "a", "image": "b:1"},
    "Device": {"path": "/dev/a", "type": "c", "mode": "0600"},
    "File": {"path": "a", "contents": ""},
    "Mount": {"type": "tmpfs", "destination": "/a"},
    "Output": {"format": "iso"},
    "Policy": {"images": ["a.b/c"]},
    "Volume": {"name": "a"},
}
"""What each part needs to be sound."""

VALUES: list[Any] = [
    None,
    True,
    7,
    -1,
    1.5,
    1 << 70,
    "",
    "x",
    "/x",
    "root",
    [],
    ["x"],
    [7],
    [[]],
    {},
    {"x": "y"},
]
VALUES += [{"x": 7}, [{}], [{"x": "y"}], [None]]


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of the model: ``document`` gives a YAML that has a value there."""

    path: str
    doc: str
    check: Check | None
    document: Callable[[Any], Any]


def keys(cls: Any, path: str, document: Callable[[Any], Any], seen: set[type]) -> Iterator[Key]:
    """Give the keys of a dataclass and, once, of the dataclasses below it."""
    if cls in seen:
        return
    seen.add(cls)
    sample = SAMPLES.get(cls.__name__, {})
    for name, (item, kind) in properties(cls).items():

        def inside(value: Any, name: str = name) -> Any:
            return document({**sample, name: value})

        below = f"{path}.{name}" if path else name
        yield Key(below, item.metadata.get("doc", ""), item.metadata.get("check"), inside)
        for part in (kind, *typing.get_args(kind)):
            for inner in (part, *typing.get_args(part)):
                if dataclasses.is_dataclass(inner):
                    many = inner not in (kind, part) or typing.get_origin(kind) is tuple
                    wrap = (lambda value, put=inside: put([value])) if many else inside
                    yield from keys(inner, below + "[]" * many, wrap, seen)


KEYS = list(keys(Spec, "", lambda value: value, set()))


def refused(document: Any) -> bool:
    """Whether the schema refuses a document."""
    return not VALIDATOR.is_valid(document)


def fault(document: Any) -> str:
    """What the parser says against a document."""
    try:
        loads(as_yaml(document), "f.yml")
    except LinuxKitError as error:
        return str(error)
    return ""


def test_the_committed_schema_is_the_model_s() -> None:
    assert COMMITTED.read_text() == text(), "run: moby schema > linuxkit_rules/linuxkit.schema.json"


def test_the_command_prints_it() -> None:
    line = [sys.executable, "-m", "linuxkit_rules", "schema"]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == text()


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(schema())
    lone = [part for part in parts(schema()) if "$ref" in part and len(part) > 1]
    assert lone == [], "draft 7 reads nothing beside a $ref"


def parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from parts(item)
    elif isinstance(value, list):
        for item in value:
            yield from parts(item)


def test_every_key_says_what_it_does() -> None:
    assert len(KEYS) > 120
    poor = [key.path for key in KEYS if not key.doc.endswith(".") or len(key.doc) < 10 or "\n" in key.doc]
    assert poor == []


def test_every_check_says_its_shape() -> None:
    assert [key.path for key in KEYS if key.check and key.check not in SHAPES] == []


@pytest.mark.parametrize("name", valid())
def test_what_builds_is_valid(name: str) -> None:
    document = parse(valid()[name], name).plain()
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@NO_SUITE
@pytest.mark.parametrize("name", INVALID)
def test_what_is_refused_for_its_shape_is_invalid(name: str) -> None:
    data = (SUITE / "invalid" / name / "linuxkit.yml").read_bytes()
    try:
        document = parse(data, "f.yml").plain()
    except LinuxKitError:
        return  # it has no shape: an editor's YAML reader refuses it
    found = fault(document)
    if name in BEYOND:
        assert found
        assert not refused(document)
    else:
        assert refused(document) == bool(found), found or "the parser takes it"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_schema_and_parser_agree_on_types(key: Key) -> None:
    for value in VALUES:
        document = key.document(value)
        found = fault(document)
        if any(words in found for words in ("needs", "only one of them", "names no file", "must be octal")):
            continue
        assert refused(document) == bool(found), (value, found)


@given(st.sampled_from(KEYS), st.data())
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_the_schema_refuses_nothing_that_the_parser_takes(key: Key, data: st.DataObject) -> None:
    scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    scalar |= st.text(max_size=6)
    names = st.sampled_from([key.path.rpartition(".")[2] for key in KEYS])
    deeper = st.lists(scalar, max_size=3) | st.dictionaries(names, scalar, max_size=3)
    document = key.document(data.draw(scalar | deeper | st.lists(deeper, max_size=2)))
    if refused(document):
        assert fault(document)


@pytest.mark.parametrize("check", SHAPES, ids=lambda check: check.__name__)
@given(data=st.data())
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_a_check_and_its_shape_agree(check: Check, data: st.DataObject) -> None:
    shape = SHAPES[check]
    if "minimum" in shape:
        edges = [bound + step for bound in (shape["minimum"], shape["maximum"]) for step in (-1, 0, 1)]
        value: Any = data.draw(st.integers() | st.sampled_from(edges))
    else:
        value = data.draw(texts(shape))
    found = check(value)
    sound = Draft7Validator(shape).is_valid(value)
    if value != str(value).removesuffix("\n") and isinstance(value, str):
        assert (
            sound or found
        )  # a $ of Python stands before a last line break too; that of ECMAScript does not
    elif "unlimited" not in (found or ""):  # numbers of 64 bits are beyond a pattern
        assert sound == (found is None), found


def texts(shape: dict[str, Any]) -> st.SearchStrategy[str]:
    """Texts that fit, nearly fit, and any."""
    fitting = st.sampled_from(
        [word for part in shape.get("anyOf", [shape]) for word in part.get("enum", ["x"])]
    )
    if "pattern" in shape:
        fitting = st.from_regex(shape["pattern"], fullmatch=True)
    colons = st.lists(st.sampled_from(["/a", "b", "", ":", ",", "nofile", "7", "ALL"]), max_size=6)
    return fitting | fitting.map(str.swapcase) | colons.map("".join) | st.text(max_size=8)


def test_it_is_json_without_escapes() -> None:
    assert json.loads(text()) == schema()
    assert text().endswith("}\n")
