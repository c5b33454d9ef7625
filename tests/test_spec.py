"""YAML as yaml.v3 reads it, LinuxKit's schema, and how several files become one."""

import contextlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linuxkit_rules.errors import ErrorList, LinuxKitError, SpecError
from linuxkit_rules.spec.decode import keys_of
from linuxkit_rules.spec.image import ImageConfig, read_label
from linuxkit_rules.spec.linuxkit import Container, File, Spec, loads
from linuxkit_rules.spec.merge import bind_volumes, load_all, merge
from linuxkit_rules.spec.metadata import expanded, metadata
from linuxkit_rules.spec.resources import Resources
from linuxkit_rules.spec.runtime import Mount
from linuxkit_rules.spec.yamlfile import parse, resolve

SERVICE = "services:\n  - name: a\n    image: b:1\n"


def faults(text: str, *more: str) -> list[LinuxKitError]:
    with pytest.raises(LinuxKitError) as caught:
        merge([loads(item, f"{index}.yml") for index, item in enumerate((text, *more))])
    error = caught.value
    return list(error.errors) if isinstance(error, ErrorList) else [error]


def fault(text: str, *more: str) -> LinuxKitError:
    (error,) = faults(text, *more)
    return error


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("~", None),
        ("", None),
        ("Null", None),
        ("010", 8),
        ("0o17", 15),
        ("-0x1F", -31),
        ("0b11", 3),
        ("1_000", 1000),
        ("1_x", "1_x"),
        ("08", 8.0),
        ("+12", 12),
        ("1:30", "1:30"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("=", "="),
        ("2001-12-14", "2001-12-14"),
        ("18446744073709551615", (1 << 64) - 1),
        ("18446744073709551616", float(1 << 64)),
        ("-", "-"),
        ("0x", "0x"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_scalars_mean_what_they_mean_to_yaml_v3(text, value):
    found = resolve(text)
    assert (found, type(found)) == (value, type(value))


def test_quoted_scalars_and_tags():
    value = parse('[ "1", !!str 2, !!int "3", ! 4, !!float 5, !!binary aGk= ]', "f").plain()
    assert value == ["1", "2", 3, "4", 5.0, "hi"]


def test_anchors_and_merges():
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nall: {<<: [*b, *m], x: 9}\none: {<<: *b}\nsame: *b"
    value = parse(text, "f").plain()
    assert value["all"] == {"x": 9, "y": 2, "z": 4}
    assert value["one"] == value["same"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: 1\nb: [}", "f:2:5", "not well-formed"),
        ("a: 1\na: 2", "f:2:1", "given twice"),
        ("a: {<<: 1}", "f:1:9", "<< takes"),
        ("1: a", "f:1:1", "key must be a string"),
        ("? [a]\n: b", "f:1:3", "key must be a string"),
        ("a: *b", "f:1:4", "no anchor &b"),
        ("a: &a [*a]", "f:1:8", "contains itself"),
        ("a: 1\n---\nb: 2", "f:2:1", "second document"),
        ("", "f", "empty"),
        ("# nothing", "f", "empty"),
        ("a: !foo b", "f:1:4", "not a !foo"),
        ("a: !!int b", "f:1:4", "not a !!int"),
        ("a: !!binary '%'", "f:1:4", "base64"),
        ("\tx: 1", "f:1:1", "not well-formed"),
        ("a: \x00", "f", "not well-formed"),
        ("a: '\ud800'", "f", "not well-formed"),
        ("[" * 200 + "]" * 200, "f:1:102", "nested deeper"),
    ],
)
def test_faulty_yaml_is_told_with_its_place(text, where, message):
    with pytest.raises(SpecError) as caught:
        parse(text, "f")
    assert (caught.value.where or "").startswith(where)
    assert message in caught.value.message


def test_an_alias_bomb_is_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)]
    begun = time.process_time()
    with pytest.raises(SpecError, match="aliases expand to too much"):
        parse("\n".join(lines), "f")
    assert time.process_time() - begun < 5


def test_a_huge_file_is_refused():
    with pytest.raises(SpecError, match="larger than 16 MiB"):
        parse(b"#" * ((16 << 20) + 1), "f")


def test_every_section_is_read():
    spec = loads(
        """
kernel: {image: k:1, cmdline: console=ttyS0, binary: bzImage, tar: none, ucode: u.cpio}
init: [i:1, i:2]
onboot: [{name: o, image: o:1, capabilities: [all], runtime: {mkdir: [/m], bindNS: {net: /n}}}]
onshutdown: [{name: d, image: d:1}]
services: [{name: s, image: s:1, uid: o, resources: {memory: {limit: 010}}, binds.add: ["v:/v"]}]
volumes: [{name: v, readonly: false, format: filesystem, platforms: [linux/amd64]}]
files: [{path: a, contents: ""}, {path: d, directory: true, mode: "0755", uid: s}]
""",
        "f.yml",
        "folder",
    )
    assert (spec.kernel.tar, spec.kernel.ucode, spec.init) == ("none", "u.cpio", ("i:1", "i:2"))
    assert spec.init_places == ("f.yml:3:8", "f.yml:3:13")
    runtime = spec.onboot[0].config.runtime
    assert runtime
    assert runtime.mkdir == ("/m",)
    assert runtime.bindNS.net == "/n"
    service = spec.services[0]
    assert (service.config.uid, service.config.binds, service.config.binds_add) == ("o", None, ("v:/v",))
    assert service.config.resources
    assert service.config.resources.memory
    assert service.config.resources.memory.limit == 8
    assert service.place("binds.add[0]") == "f.yml:6:89"
    assert service.base == spec.files[0].base == "folder"
    assert spec.files[0].contents == ""
    assert spec.ids() == {"o": 100, "d": 101, "s": 102}
    assert merge([spec]) == spec


def test_absent_and_empty_lists_differ_where_linuxkit_tells_them_apart():
    config = loads(SERVICE + "    binds: []\n    command: []\n", "f").services[0].config
    assert (config.binds, config.command, config.env, config.capabilities) == ((), (), None, None)


def test_places_count_in_no_comparison():
    first, second = loads(SERVICE, "f", "one"), loads("\n\n" + SERVICE, "g", "two")
    assert first == second
    assert first.services[0].where != second.services[0].where


def test_all_faults_are_told_at_once():
    text = SERVICE + "    binds: [x, /a:/b, '/a:']\n    readonly: yes\n    comand: [x]\ninit: k\nvolums: []\n"
    assert [(error.where, error.message) for error in faults(text)] == [
        (
            "0.yml:4:13",
            "services[0].binds[0]: 'x' must be source:destination or source:destination:options",
        ),
        ("0.yml:4:23", "services[0].binds[2]: '/a:' has no destination"),
        ("0.yml:5:15", "services[0].readonly: must be true or false, not a string ('yes')"),
        ("0.yml:6:5", "services[0]: unknown key 'comand'"),
        ("0.yml:7:7", "init: must be a list, not a string"),
        ("0.yml:8:1", "unknown key 'volums'"),
    ]
    hints = [error.hint for error in faults(text)]
    assert hints[3] == "did you mean 'command'?"
    assert hints[5] == "did you mean 'volumes'?"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("capabilities: [CAP_FLY]", "'CAP_FLY' is no capability"),
        ("capabilities: [kill]", "write CAP_KILL"),
        ("capabilities: [all, CAP_KILL]", "must stand alone"),
        ("rlimits: ['nofile,1']", "must be name,soft,hard"),
        ("rlimits: ['nofile,1,x']", "'x' must be a number"),
        ("rlimits: ['nofile,1,18446744073709551616']", "must be a number"),
        ("tmpfs: ['/a:b:c']", "'/a:b:c' must be destination"),
        ("mounts: [{destination: /x}]", "mounts[0]: the mount needs a type"),
        ("mounts: [{type: tmpfs}]", "a mount of type tmpfs needs a destination"),
        ("devices: [{path: /dev/x, type: c, mode: '8'}]", "must be octal"),
        ("devices: [{path: /dev/x, type: x, mode: '6'}]", "no device type"),
        ("cwd: here", "must be an absolute path"),
        ("uid: -1", "out of range"),
        ("gid: 4294967296", "out of range"),
        ("uid: 1.5", "must be an integer or a string"),
        ("oomScoreAdj: '1'", "must be an integer"),
        ("uid: nobody", "no container is named 'nobody'"),
        ("additionalGids: [0, nobody]", "no container is named 'nobody'"),
        ("sysctl: {a: 1}", "services[0].sysctl.a: must be a string"),
        ("binds: ['vol:/x']", "neither a path nor a volume"),
        ("command:", "must be a list, not nothing"),
        ("name: again", "given twice"),
    ],
)
def test_a_faulty_container(line, message):
    error = fault(SERVICE + f"    {line}\n")
    assert message in str(error)
    assert str(error).startswith("0.yml:4:")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{contents: x}", "path is missing"),
        ("{path: a}", "needs one of"),
        ("{path: a, contents: x, source: y}", "contents and source"),
        ("{path: a, directory: true, symlink: x}", "directory and symlink"),
        ("{path: ../a, contents: x}", "must not hold .."),
        ("{path: /, directory: true}", "names no file"),
        ("{path: a/, contents: x}", "names a directory"),
        ("{path: a, contents: x, mode: '999'}", "must be octal"),
        ("{path: a, contents: x, mode: 0644}", "must be a string"),
        ("{path: a, metadata: toml}", "must be one of yaml, json"),
        ("{path: a, contents: x, uid: b}", "no container is named 'b'"),
    ],
)
def test_a_faulty_file(entry, message):
    assert message in str(fault(f"files: [{entry}]"))


def test_a_file_below_a_file():
    text = "files: [{path: a, contents: x}, {path: ./a//b, contents: y}]"
    assert "cannot lie below a, a file" in str(fault(text))


def test_lists_are_appended_and_the_kernel_is_overridden():
    first = loads("kernel: {image: k:1, cmdline: a, tar: none}\ninit: [i:1]\n" + SERVICE, "f", "one")
    second = loads("kernel: {cmdline: b, tar: ''}\ninit: [i:2]\nvolumes: [{name: v}]", "g", "two")
    merged = merge([first, second])
    assert (merged.kernel.image, merged.kernel.cmdline, merged.kernel.tar) == ("k:1", "b", "")
    assert (merged.kernel.base, merged.init_bases) == ("one", ("one", "two"))
    assert (merged.init, len(merged.services)) == (("i:1", "i:2"), 1)


def test_names_given_twice_in_two_files_are_told_with_both_places():
    error = fault(SERVICE, SERVICE)
    assert (error.where, error.hint) == ("1.yml:2:5", "the first is at 0.yml:2:5")
    volume = "volumes: [{name: v}]"
    assert "two volumes are named 'v'" in str(fault(volume, volume))


def test_volumes_are_bound_by_their_path():
    text = SERVICE + "    binds: ['v:/x:ro,rslave', '/a:/b']\nvolumes: [{name: v, readonly: true}]"
    spec = merge([loads(text, "f")])
    config, problems = bind_volumes(spec.services[0], spec.volumes)
    assert config.binds == ("/containers/volumes/v/merged:/x:ro,rslave", "/a:/b")
    assert problems == []


@pytest.mark.parametrize("bind", ["v:/x", "v:/x:rw", "v:/x:ro,rw"])
def test_a_read_only_volume_cannot_be_written(bind):
    assert "read-only" in str(
        fault(SERVICE + f"    binds: ['{bind}']\nvolumes: [{{name: v, readonly: true}}]")
    )


def test_a_label_knows_neither_name_nor_image():
    assert read_label('{"net": "host", "uid": "redis"}', "x").net == "host"
    for text in ('{"name": "x"}', '["x"]', "{", '{"readonly": "true"}', "readonly: yes"):
        with pytest.raises(LinuxKitError, match="label of x"):
            read_label(text, "label of x")


def test_metadata_reads_back_as_the_same_configuration():
    text = SERVICE + "    command: ['yes', '1', 'a: b', '', '010', 'é\\n']\n    runtime: {mkdir: [/m]}\n"
    text += "volumes: [{name: v, image: x:1}]\nfiles: [{path: m, metadata: yaml}]\nkernel: {image: k:1}\n"
    spec = loads(text, "f")
    again = loads(metadata(spec, "yaml"), "metadata")
    assert again.services[0].config == spec.services[0].config
    assert (again.services[0].image, again.volumes) == ("docker.io/library/b:1", spec.volumes)
    assert json.loads(metadata(spec, "json"))["onboot"] is None


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("redis", "docker.io/library/redis"),
        ("linuxkit/init:1", "docker.io/linuxkit/init:1"),
        ("localhost/x", "localhost/x"),
        ("example.org/x", "example.org/x"),
        ("@pkg:redis", "@pkg:redis"),
        ("oci:dir/x:1", "oci:dir/x:1"),
    ],
)
def test_references_are_expanded_as_linuxkit_does(text, full):
    assert expanded(text) == full


def test_a_missing_file_is_told_by_its_name(tmp_path):
    with pytest.raises(SpecError) as caught:
        load_all([tmp_path / "no.yml"])
    assert caught.value.where == str(tmp_path / "no.yml")


def only_linuxkit_errors(text: str | bytes) -> None:
    with contextlib.suppress(LinuxKitError):
        spec = merge([loads(text, "f")])
        metadata(spec, "yaml")
        metadata(spec, "json")


@given(st.one_of(st.text(), st.binary()))
@settings(max_examples=300, deadline=None)
@example("\ufeffinit: []")
@example(b"\xff\xfe")
@example("a: !<tag:yaml.org,2002:int> x")
def test_no_text_makes_anything_but_linuxkit_errors(text):
    only_linuxkit_errors(text)


KEYS = [key for kind in (Spec, Container, ImageConfig, File, Mount, Resources) for key in keys_of(kind)]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 66), 1 << 66),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["all", "CAP_KILL", "/a:/b", "nofile,1,2", "v", "0644", "tmpfs", "yaml", "oci", "a/b"]),
)


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
        max_leaves=25,
    )
)
@settings(max_examples=500, deadline=None)
def test_no_document_makes_anything_but_linuxkit_errors(value):
    only_linuxkit_errors(json.dumps(value))


@given(st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=4), st.sampled_from(["files", "volumes"]))
@settings(max_examples=300, deadline=None)
def test_no_entry_makes_anything_but_linuxkit_errors(entry, section):
    only_linuxkit_errors(json.dumps({section: [entry], "services": [{"name": "v", "image": "x", **entry}]}))


def test_examples_of_this_repository_are_sound():
    examples = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.yml"))
    for path in examples:
        load_all([path])
