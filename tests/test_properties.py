"""Whatever is read, the answer is a value or a LinuxKitError of one line; in YAML it names the place."""

import builtins
import collections.abc
import dataclasses
import json
import re
import time
import types
import typing
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from linuxkit_rules.errors import ErrorList, LinuxKitError
from linuxkit_rules.oci import manifest
from linuxkit_rules.oci.config import ImageSettings
from linuxkit_rules.oci.manifest import Index, Manifest, Platform, load_object, require_image
from linuxkit_rules.oci.overlay import overlay
from linuxkit_rules.oci.reference import parse_source
from linuxkit_rules.oci.runtime import config_json, document, runtime_json
from linuxkit_rules.spec import yamlfile
from linuxkit_rules.spec.checks import Check
from linuxkit_rules.spec.component import Component, parse_component
from linuxkit_rules.spec.decode import keys_of
from linuxkit_rules.spec.image import ImageConfig, read_label
from linuxkit_rules.spec.linuxkit import File, Spec, loads
from linuxkit_rules.spec.merge import bind_volumes, merge
from linuxkit_rules.spec.metadata import metadata
from linuxkit_rules.spec.runtime import Runtime
from tests.documents import Pairs, as_yaml, components, names, pairs, valid

NAME = "f.yml"
PLACE = re.compile(rf"{re.escape(NAME)}:[1-9][0-9]*:[1-9][0-9]*")
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


def examples(number: int) -> Callable[[Any], Any]:
    """Settings of a property: always the same examples, as many as CI has time for."""
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW
    )


def refused(read: Callable[[], Any], place: re.Pattern[str] | None = PLACE) -> bool:
    """Whether ``read`` raises, which can only be sound LinuxKitErrors."""
    try:
        read()
    except LinuxKitError as error:
        for one in error.errors if isinstance(error, ErrorList) else (error,):
            assert str(one).isprintable(), str(one)
            assert len(str(one)) < 2000
            assert place is None or place.fullmatch(one.where or ""), str(one)
        return True
    return False


def build(*texts: str | bytes) -> None:
    """Read YAMLs as a build does, and make all that is made of the configuration alone."""
    spec = merge([loads(text, NAME) for text in texts])
    for _, _, item in spec.containers():
        config, faults = bind_volumes(item, spec.volumes)
        assert faults == []
        joined = overlay(ImageConfig(), config)
        json.loads(document(config_json(joined, ImageSettings(), spec.ids(), item.where)))
        json.loads(document(runtime_json(joined.runtime or Runtime(), ())))
    json.loads(metadata(spec, "json"))
    metadata(spec, "yaml").encode()
    for file in spec.files:
        (file.contents or "").encode()


def component(text: str | bytes) -> None:
    """Read a build.yml, and its label as an image's."""
    read = parse_component(text, NAME)
    assert read_label(read.label, "label") == read.config


NAMES = names(Spec)
COMPONENT = names(Component)
WORDS = ["all", "none", "CAP_KILL", "/a:/b", "/a", "v", "v:/x:ro", "nofile,1,2", "0644", "tmpfs", "proc"]
WORDS += ["yaml", "oci", "a/b", "new", "host", "root", "@pkg:x", "~", "yes", "010", "0x1F", "1_000", "1e3"]
WORDS += [".inf", ".nan", "c", "b", "/dev/x"]
WORDS += ["2001-12-14", "<<", "*", "&", "!", "|", ">", "-", "?", ":", "#", "%", "@", "`", "[", "{", '"', "'"]
WORDS += ["\0", "\n", "\x1b[2J", "\u2028", "😀", "é"]
TEXTS = st.sampled_from(WORDS) | st.text(max_size=8)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(1 << 70), 1 << 70), st.floats(), TEXTS
)
RENDER = st.sampled_from([as_yaml, yaml.safe_dump])


def values(known: list[str]) -> st.SearchStrategy[Any]:
    """Any value that YAML can say, with keys that mean something as a rule."""
    keys = st.sampled_from(known) | TEXTS
    return st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=20,
    )


@given(st.binary(max_size=60) | st.text(max_size=60))
@examples(400)
@example(b"\xff\xfea\x00")
@example(b"a: \xed\xa0\x80")
@example("a: \ud800")
@example("a\n: b\n: c")
@example('services:\n- name: a\n  image: b\n  sysctl: {"a\\nb\\e[2J": 1}')
@example('files: [{path: "a\\nb"}]')
@example("files: [{path: \"a\\nb\", contents: ''}, {path: \"a\\nb/c\", contents: ''}]")
@example("files: [{path: \"a\\nb\", contents: '', uid: x}]")
@example('init: "a\\nb"')
@example("init: [!<tag%0A> x]")
def test_any_text(text: str | bytes) -> None:
    refused(lambda: build(text))
    refused(lambda: component(text))
    refused(lambda: read_label(text if isinstance(text, str) else text.decode("latin-1"), NAME))


@given(values(NAMES), values(NAMES), RENDER)
@examples(300)
def test_any_two_documents(first: Any, second: Any, render: Callable[[Any], str]) -> None:
    refused(lambda: build(render(first), render(second)))


def fitting(kind: Any, check: Check | None = None) -> st.SearchStrategy[Any]:
    """Values that an annotation of the model takes."""
    kinds = [part for part in typing.get_args(kind) if part not in (type(None), ...)]
    match typing.get_origin(kind):
        case typing.Literal:
            return st.sampled_from(kinds)
        case builtins.tuple:
            return st.lists(fitting(kinds[0], check), max_size=3)
        case collections.abc.Mapping:
            return st.dictionaries(TEXTS, TEXTS, max_size=3)
        case types.UnionType | typing.Union:
            return st.one_of([fitting(part, check) for part in kinds])
    if dataclasses.is_dataclass(kind):
        return entries(kind)
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(0, 1000) | st.integers()
    return st.sampled_from([word for word in WORDS if not (check and check(word))])


def entries(cls: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings that are a dataclass of the model, with some of its keys."""
    optional = {name: fitting(kind, item.metadata["check"]) for name, (item, kind) in keys_of(cls).items()}
    return st.lists(st.sampled_from(sorted(optional)), max_size=4, unique=True).flatmap(
        lambda some: st.fixed_dictionaries({name: optional[name] for name in some})
    )


@given(entries(ImageConfig), entries(File), RENDER)
@examples(400)
def test_any_configuration(
    config: dict[str, Any], file: dict[str, Any], render: Callable[[Any], str]
) -> None:
    """Most are sound, so that config.json and runtime.json are written."""
    container, volume = {"name": "a", "image": "b", **config}, {"name": "v"}
    refused(lambda: build(render({"services": [container], "volumes": [volume]})))
    refused(lambda: build(render({"files": [{"path": "a", "contents": "", **file}]})))


@given(values(COMPONENT) | st.dictionaries(st.sampled_from(COMPONENT), values(COMPONENT)))
@examples(300)
def test_any_component(value: Any) -> None:
    refused(lambda: component(as_yaml({"image": "x", **value} if isinstance(value, dict) else value)))


def mutated(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any, known: list[str]) -> Any:
    """Change something somewhere in a value: drop, repeat or replace a key, an item or a scalar."""
    if not isinstance(value, list) or not value or draw(st.integers(0, 9)) == 0:
        return draw(values(known).map(pairs))
    index = draw(st.integers(0, len(value) - 1))
    item, before, after = value[index], value[:index], value[index + 1 :]
    match draw(st.sampled_from(["drop", "repeat", "key", "below", "below", "below", "below"])):
        case "drop":
            middle = []
        case "repeat":
            middle = [item, item]
        case "key" if isinstance(value, Pairs):
            middle = [(draw(st.sampled_from(known) | SCALARS), item[1])]
        case _ if isinstance(value, Pairs):
            middle = [(item[0], mutated(draw, item[1], known))]
        case _:
            middle = [mutated(draw, item, known)]
    return type(value)([*before, *middle, *after])


MARKS = ["&a ", "*a", "<<: *a\n", "!!int ", "!x ", "{", "}", "[", "]", '"', "'", "|\n", "? ", "- ", ": "]
MARKS += ["\t", "\n"]
MARKS += ["\0", "\ufeff", "%YAML 1.1\n---\n", "---\n", "...\n", "#", "\\ud800", "\r", "\x85", "\xff"]


def respelt(draw: Callable[[st.SearchStrategy[Any]], Any], data: bytes) -> bytes:
    """Change a few bytes of a text: cut, insert or copy."""
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.integers(0, len(data))) for _ in "ab")
        mark = draw(st.sampled_from(MARKS)).encode("latin-1", "replace")
        middle = draw(st.sampled_from([mark, mark + data[start:end], data[start : start + 8] * 2]))
        data = data[:start] + middle + data[end if middle is mark and end - start < 40 else start :]
    return data


@given(st.data())
@examples(350)
def test_yamls_with_a_change(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(valid())))
    value = pairs(yamlfile.parse(valid()[name], NAME).plain())
    assert not refused(lambda: loads(as_yaml(value), NAME))
    for _ in range(data.draw(st.integers(1, 3))):
        value = mutated(data.draw, value, NAMES)
    refused(lambda: build(as_yaml(value)))


@given(st.data())
@examples(350)
def test_yamls_respelt(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(valid())))
    changed = respelt(data.draw, valid()[name][:3000])
    refused(lambda: build(changed))


@given(st.data())
@examples(250)
def test_components_with_a_change(data: st.DataObject) -> None:
    source = components()[data.draw(st.sampled_from(sorted(components())))]
    value = pairs(yamlfile.parse(source, NAME).plain())
    value = mutated(data.draw, value, COMPONENT)
    refused(lambda: component(as_yaml(value)))
    changed = respelt(data.draw, source)
    refused(lambda: component(changed))


@given(st.data())
@examples(150)
def test_the_loader_of_a_pyyaml_without_libyaml(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(valid())))
    changed = respelt(data.draw, valid()[name][:1000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yamlfile, "_LOADER", yaml.SafeLoader)
        refused(lambda: build(changed))


@pytest.mark.parametrize(
    "text",
    [
        'init: ["\\ud800"]',
        'init: ["\\U99999999"]',
        f"%YAML 1.{'9' * 5000}\n---\ninit: []",
        "init: [\x01]",
        b"init: [\xff]",
    ],
)
def test_escapes_without_libyaml(text: str | bytes) -> None:
    assert refused(lambda: build(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yamlfile, "_LOADER", yaml.SafeLoader)
        assert refused(lambda: build(text))


PIECES = ["docker.io", "localhost:5000", "[::1]:80", "library", "redis", "A", "a__b", "a---b", "..", "/"]
PIECES += [":", "@", "_", "sha256:", "0" * 64, "latest", "oci:", "docker-archive:", "@pkg:", "./x", "."]
PIECES += ["-", "é", "\0", "\n", "\ud800"]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20))
@examples(600)
def test_references(text: str) -> None:
    found = None

    def read() -> None:
        nonlocal found
        found = parse_source(text)

    if not refused(read, None):
        assert parse_source(str(found)) == found


@pytest.mark.parametrize(
    "piece", ["a", "a-", "a--", "a.", "a_", "a__", "a/", "a:", "-", "A", "A-", "A.", "0", "@", "[:"]
)
def test_long_references_are_judged_at_once(piece: str) -> None:
    begun = time.process_time()
    for text in (piece * 100_000, piece * 100_000 + "!", "x/" + piece * 100_000 + "!"):
        refused(lambda text=text: parse_source(text), None)
    assert time.process_time() - begun < 2


DIGEST = "sha256:" + "0" * 64
BLOB = {"mediaType": manifest.CONFIG, "digest": DIGEST, "size": 7}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": manifest.MANIFEST,
    "config": BLOB,
    "layers": [{**BLOB, "mediaType": manifest.LAYER}],
    "annotations": {"a": "b"},
}
INDEX = {
    "schemaVersion": 2,
    "manifests": [
        {
            **BLOB,
            "mediaType": manifest.MANIFEST,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        },
        {**BLOB, "mediaType": manifest.MANIFEST, "platform": {"os": "unknown", "architecture": "unknown"}},
    ],
}
LABEL = json.dumps({"binds": ["/a:/b"], "capabilities": ["all"], "runtime": {"mkdir": ["/m"]}})
CONFIG = {
    "config": {"Env": ["A=b"], "Cmd": ["x"], "Labels": {"org.mobyproject.config": LABEL}, "WorkingDir": "/"}
}
FIELDS = ["schemaVersion", "mediaType", "config", "layers", "manifests", "platform", "os", "architecture"]
FIELDS += ["digest", "size", "annotations", "fsLayers", "Env", "Cmd", "Labels", "variant", "Entrypoint"]


def as_json(value: Any) -> str:
    """Give a value as JSON; names may be there twice."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(str(key))}:{as_json(item)}" for key, item in value) + "}"
    return "[" + ",".join(map(as_json, value)) + "]" if isinstance(value, list) else json.dumps(value)


def image(data: bytes, announced: str | None) -> None:
    """Read a manifest or an index as the registry's client does."""
    found = manifest.parse(data, announced, "image")
    assert manifest.parse(found.to_bytes(), found.media_type, "image") == found
    if isinstance(found, Manifest):
        require_image(found, "image")
    if isinstance(found, Index):
        found.select(Platform("linux", "amd64"), "image")


def configuration(data: bytes) -> None:
    """Read an image's configuration and its label as bundles do, and write config.json."""
    found = ImageSettings.from_json(load_object(data, "image"), "image")
    label = read_label(found.label, "image: label")
    json.loads(document(config_json(overlay(label, ImageConfig()), found, {}, "image")))


@given(st.data())
@examples(400)
def test_manifests_and_configurations(data: st.DataObject) -> None:
    value = mutated(data.draw, pairs(data.draw(st.sampled_from([MANIFEST, INDEX, CONFIG]))), FIELDS)
    text = as_json(value).encode()
    if data.draw(st.booleans()):
        text = respelt(data.draw, text)
    announced = data.draw(st.sampled_from([None, manifest.MANIFEST, manifest.INDEX, "x\ny"]))
    refused(lambda: image(text, announced), None)
    refused(lambda: configuration(text), None)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schemaVersion": 2' + b"0" * 100_000 + b"}",
        b'{"schemaVersion": 2, "mediaType": "a\\nb"}',
        b'{"schemaVersion": 2, "mediaType": ["\\ud800"]}',
        b'{"schemaVersion": 2, "schemaVersion": 2}',
        b"\xff",
        b"",
    ],
)
def test_hostile_json(text: bytes) -> None:
    assert refused(lambda: image(text, None), None)
    refused(lambda: configuration(text), None)


@given(st.data())
@examples(300)
def test_labels(data: st.DataObject) -> None:
    value = mutated(data.draw, pairs(json.loads(LABEL)), NAMES)
    text = data.draw(st.sampled_from([as_yaml, as_json]))(value)
    config = json.dumps({"config": {"Labels": {"org.mobyproject.config": text}}}).encode()
    refused(lambda: read_label(text, NAME))
    refused(lambda: configuration(config), None)


def bomb(levels: int, base: str, line: Callable[[int], str]) -> str:
    """Aliases of aliases: every level is ``line`` of the one before."""
    return "\n".join(
        [f"a0: &a0 {base}", *(f"a{number}: &a{number} {line(number - 1)}" for number in range(1, levels))]
    )


SERVICE = "{name: a, image: b, annotations: {k: v}}"
DEEP = 100_000
BOMBS = {
    "lists": bomb(60, "[x, x]", lambda n: f"[{', '.join([f'*a{n}'] * 9)}]"),
    "mappings": bomb(60, "{x: y}", lambda n: "{" + ", ".join(f"k{i}: *a{n}" for i in range(9)) + "}"),
    "merges": bomb(60, "{x: y}", lambda n: "{<<: [" + ", ".join([f"*a{n}"] * 9) + f"], k{n}: z}}"),
    "merges of many keys": "a: &a {"
    + ", ".join(f"k{n}: v" for n in range(5000))
    + "}\nb: ["
    + "{<<: *a}, " * 5000
    + "]",
    "services": f"onboot: [&a {SERVICE}" + ", *a" * 20_000 + "]",
    "binds": "onboot: [{name: a, image: b, binds: &b ["
    + "'/a:/b', " * 200
    + "]}"
    + ", {name: a, image: b, binds: *b}" * 200
    + "]",
    "faults": "init: [&a {" + ", ".join(f"k{n}: v" for n in range(50)) + "}" + ", *a" * 1500 + "]",
    "unknown keys": "{" + ", ".join(f"unknown{n}: v" for n in range(30_000)) + "}",
    "unknown long keys": "services: [{" + ", ".join(f"? {'k' * 10_000}{n} : v" for n in range(300)) + "}]",
    "the same key": "a: 1\n" * 30_000,
    "lists in lists": "[" * DEEP,
    "lists in lists, closed": "[" * DEEP + "]" * DEEP,
    "mappings in mappings": "{a: " * DEEP,
    "keys of keys": "? " * DEEP,
    "items of items": "- " * DEEP,
    "flow keys": "{? " * DEEP,
    "anchors": " ".join(f"&a{n} [" for n in range(1000)),
    "a list in itself": "init: &a [*a]",
    "a mapping in itself": "kernel: &a {image: *a}",
    "a merge of itself": "kernel: &a {<<: *a}",
    "a key of itself": "? &a [*a]\n: b",
    "a path of many parts": "files: [{path: '" + "a/" * DEEP + "a', contents: ''}]",
    "an integer": f"init: {'9' * 1_000_000}",
    "an octal": f"init: 0o{'7' * 1_000_000}",
    "a float": f"init: 1{'0' * 1_000_000}.{'9' * 1_000_000}",
    "an exponent": "init: 1e999999999",
    "a limit": f"onboot: [{{name: a, image: b, rlimits: ['nofile,{'9' * 100_000},1']}}]",
    "blanks in a limit": f"onboot: [{{name: a, image: b, rlimits: ['nofile{' ' * DEEP},{' ' * DEEP}x']}}]",
    "a mode": f"files: [{{path: a, contents: b, mode: '{'0' * 100_000}'}}]",
    "a bind": f"onboot: [{{name: a, image: b, binds: ['{':' * DEEP}']}}]",
    "a string where there is none": f"init: {'x' * 1_000_000}",
    "a long tag": f"init: !{'x' * 100_000} y",
}


def test_a_hundred_faults_are_told() -> None:
    for text in (BOMBS["unknown keys"], BOMBS["the same key"]):
        with pytest.raises(ErrorList) as caught:
            loads(text, NAME)
        assert len(caught.value.errors) == 100


def test_a_label_says_what_its_component_says() -> None:
    component("image: x\nconfig: {env: ['A=😀', 'B=é']}")


def test_a_fault_of_encoding_is_told_with_its_place() -> None:
    with pytest.raises(LinuxKitError) as caught:
        loads("kernel:\n  image: é\n".encode() + b"  tar: \xff", NAME)
    assert caught.value.where == "f.yml:3:8"


TAKEN = {"binds"}
"""Bombs that are sound documents, if odd ones."""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(name: str) -> None:
    begun = time.process_time()
    assert refused(lambda: build(BOMBS[name])) == (name not in TAKEN)
    refused(lambda: read_label(BOMBS[name], NAME))
    assert time.process_time() - begun < 5
