"""config.json and runtime.json: defaults, precedence, and their text."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxkit_rules.errors import ImageError, LinuxKitError
from linuxkit_rules.oci.config import LABEL, ImageSettings
from linuxkit_rules.oci.overlay import overlay
from linuxkit_rules.oci.runtime import config_json, document, rootfs_mounts, runtime_json
from linuxkit_rules.spec.checks import CAPABILITIES
from linuxkit_rules.spec.decode import keys_of
from linuxkit_rules.spec.image import ImageConfig, read_label
from linuxkit_rules.spec.runtime import Mount, Namespaces, Runtime

IMAGE = ImageSettings(("/bin/app",), ("run",), ("A=1",), "/work")
NAMES = {"redis": 101}


def configured(own: str, label: str = "", image: ImageSettings = IMAGE) -> dict:
    joined = overlay(read_label(label, "label"), read_label(own, "own"))
    return config_json(joined, image, NAMES, "f:1:1")


def mounts(config: dict) -> dict[str, dict]:
    return {mount["destination"]: mount for mount in config["mounts"]}


def test_nothing_said_gives_linuxkits_defaults():
    config = configured("")
    assert config["process"] == {
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/app", "run"],
        "env": ["A=1"],
        "cwd": "/work",
        "capabilities": {},
    }
    assert config["root"] == {"path": "rootfs"}
    assert [mount["destination"] for mount in config["mounts"]] == [
        "/dev",
        "/dev/pts",
        "/proc",
        "/sys",
        "/sys/fs/cgroup",
    ]
    assert config["linux"] == {"resources": {}, "namespaces": [{"type": "pid"}, {"type": "mount"}]}
    assert "hostname" not in config


def test_the_yaml_counts_before_the_label_and_the_label_before_the_image():
    label = "{command: [l], env: [L=1], cwd: /l, readonly: true, hostname: l, net: host}"
    config = configured("", label)
    assert config["process"]["args"] == ["l"]
    assert config["root"] == {"path": "rootfs", "readonly": True}
    config = configured("{command: [y], readonly: false, hostname: y, net: new}", label)
    assert (config["process"]["args"], config["process"]["env"]) == (["y"], ["L=1"])
    assert (config["process"]["cwd"], config["hostname"]) == ("/l", "y")
    assert config["root"] == {"path": "rootfs"}
    assert {"type": "network"} in config["linux"]["namespaces"]


def test_an_empty_list_in_the_yaml_takes_the_labels_away():
    label = "{capabilities: [CAP_KILL], binds: ['/a:/b'], env: [L=1]}"
    config = configured("{capabilities: [], binds: [], env: []}", label)
    assert config["process"]["capabilities"] == {}
    assert "/b" not in mounts(config)
    assert "env" not in config["process"]


def test_additions_extend_the_label_unless_there_is_a_whole_list():
    label = "{capabilities: [CAP_KILL], binds: ['/a:/b']}"
    config = configured("{capabilities.add: [CAP_CHOWN, CAP_KILL], binds.add: ['/c:/d:ro']}", label)
    assert config["process"]["capabilities"]["effective"] == ["CAP_KILL", "CAP_CHOWN"]
    assert mounts(config)["/b"]["options"] == ["rw", "rbind", "rshared"]
    assert mounts(config)["/d"]["options"] == ["ro", "rbind"]
    config = configured("{capabilities: [CAP_BPF], capabilities.add: [CAP_CHOWN]}", label)
    assert config["process"]["capabilities"]["effective"] == ["CAP_BPF"]


@pytest.mark.parametrize(("word", "expected"), [("all", list(CAPABILITIES)), ("None", None), ("ALL", None)])
def test_all_and_none(word, expected):
    found = configured(f"{{capabilities: [{word}]}}")["process"]["capabilities"]
    if word.lower() == "none":
        assert found == {}
    else:
        assert found["effective"] == list(CAPABILITIES)
        assert found["bounding"] == found["inheritable"] == found["permitted"] == sorted(CAPABILITIES)
        assert "ambient" not in found


def test_ambient_capabilities_are_bounding_but_not_effective():
    found = configured("{capabilities: [CAP_KILL], ambient: [CAP_CHOWN]}")["process"]["capabilities"]
    assert (found["effective"], found["ambient"]) == (["CAP_KILL"], ["CAP_CHOWN"])
    assert found["permitted"] == ["CAP_CHOWN", "CAP_KILL"]


def test_of_two_mounts_of_one_place_the_last_kind_counts():
    own = "{tmpfs: ['/x:size=1m,mode=700'], binds: ['/a:/x'], mounts: [{type: tmpfs, destination: /y}]}"
    config = configured(own)
    assert mounts(config)["/x"]["source"] == "/a"
    assert mounts(config)["/y"] == {"destination": "/y", "type": "tmpfs", "source": "tmpfs"}
    assert [mount["destination"] for mount in config["mounts"]] == sorted(mounts(config))


def test_mounts_without_type_or_place_are_filled_in():
    own = "{mounts: [{source: mqueue}, {type: cgroup, options: [rw]}, {destination: /dev, options: [a]}]}"
    found = mounts(configured(own))
    assert found["/dev/mqueue"]["type"] == "mqueue"
    assert found["/sys/fs/cgroup"]["options"] == ["rw"]
    assert found["/dev"] == {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["a"]}


def test_a_read_only_root_makes_dev_and_sys_read_only():
    found = mounts(configured("readonly: true"))
    assert found["/dev"]["options"][-1] == found["/sys"]["options"][-1] == "ro"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("{net: none}", {"type": "network"}),
        ("{net: new}", {"type": "network"}),
        ("{net: /run/netns/a}", {"type": "network", "path": "/run/netns/a"}),
        ("{ipc: new}", {"type": "ipc"}),
        ("{uts: new}", {"type": "uts"}),
        ("{userns: new}", {"type": "user"}),
        ("{pid: /proc/1/ns/pid}", {"type": "pid", "path": "/proc/1/ns/pid"}),
    ],
)
def test_namespaces(own, expected):
    assert expected in configured(own)["linux"]["namespaces"]


@pytest.mark.parametrize("own", ["{pid: host}", "{pid: root}"])
def test_the_hosts_pid_namespace(own):
    assert configured(own)["linux"]["namespaces"] == [{"type": "mount"}]


def test_names_stand_for_numbers():
    config = configured("{uid: redis, gid: root, additionalGids: [redis, 7]}")
    assert config["process"]["user"] == {"uid": 101, "gid": 0, "additionalGids": [101, 7]}
    with pytest.raises(LinuxKitError, match="f:1:1: no container is named 'nobody'"):
        configured("{uid: nobody}")


def test_devices_are_made_and_allowed():
    own = "{devices: [{path: /dev/x, type: c, major: 1, minor: 0, mode: '0660'}, {path: all, type: b}]}"
    linux = configured(own)["linux"]
    node = {"path": "/dev/x", "type": "c", "major": 1, "minor": 0, "fileMode": 0o660}
    assert linux["devices"] == [node]
    assert linux["resources"]["devices"] == [
        {"allow": True, "type": "c", "major": 1, "minor": 0, "access": "rwm"},
        {"allow": True, "type": "b", "access": "rwm"},
    ]


def test_limits_keep_zeros_and_empty_sections():
    own = (
        "{resources: {memory: {limit: 0}, cpu: {}, pids: {}}, oomScoreAdj: 0, rlimits: ['core,0,unlimited']}"
    )
    config = configured(own)
    assert config["linux"]["resources"] == {"memory": {"limit": 0}, "cpu": {}, "pids": {"limit": 0}}
    assert config["process"]["oomScoreAdj"] == 0
    assert config["process"]["rlimits"] == [{"type": "RLIMIT_CORE", "hard": (1 << 64) - 1, "soft": 0}]


def test_runtime_json_has_every_key():
    value = runtime_json(Runtime(), ())
    assert value == {
        "cgroups": [],
        "mounts": [],
        "mkdir": [],
        "interfaces": [],
        "bindNS": dict.fromkeys(("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"), ""),
        "namespace": "",
    }


def test_runtime_parts_are_joined_key_by_key():
    label = ImageConfig(runtime=Runtime(mkdir=("/l",), cgroups=("l",), bindNS=Namespaces(net="/l", pid="/l")))
    own = ImageConfig(runtime=Runtime(mkdir=("/y",), bindNS=Namespaces(net="/y")))
    joined = overlay(label, own).runtime
    assert joined == Runtime(mkdir=("/y",), cgroups=("l",), bindNS=Namespaces(net="/y", pid="/l"))


def test_root_file_systems():
    assert rootfs_mounts("c/a", ("c/b/rootfs",), readonly=True) == (
        Mount("/c/a/rootfs", source="/c/b/rootfs", options=("bind",)),
    )
    writable = rootfs_mounts("c/a", ("c/a/lower",), readonly=False)
    assert writable[-1].options == (
        "lowerdir=/c/a/lower",
        "upperdir=/c/a/tmp/upper",
        "workdir=/c/a/tmp/work",
    )


def test_root_file_systems_of_layers():
    writable = rootfs_mounts("c/a", ("l/top", "l/base"), readonly=False)
    assert rootfs_mounts("c/a", ("l/top", "l/base"), readonly=True) == writable
    assert writable[:2] == rootfs_mounts("c/a", ("c/a/lower",), readonly=False)[:2]
    assert writable[-1].options[:2] == ("lowerdir=/l/top:/l/base", "upperdir=/c/a/tmp/upper")


def test_the_text_is_that_of_gos_json():
    assert document({"b": ["<&>\u2028é"], "a": []}) == (
        b'{\n    "b": [\n        "\\u003c\\u0026\\u003e\\u2028\xc3\xa9"\n    ],\n    "a": []\n}'
    )


def test_image_settings_are_read():
    value = {"config": {"Entrypoint": ["/a"], "Cmd": None, "Env": [], "User": "1", "Labels": {LABEL: "{}"}}}
    found = ImageSettings.from_json(value, "image")
    assert (found.command, found.user, found.label) == (("/a",), "1", "{}")
    assert ImageSettings.from_json({"config": None}, "image") == ImageSettings()


@pytest.mark.parametrize(
    "config", [[], {"Entrypoint": "x"}, {"Cmd": [1]}, {"User": 1}, {"Labels": {"a": 1}}, {"Labels": []}]
)
def test_a_configuration_of_a_wrong_type_is_refused(config):
    if not config or config == {"Labels": []}:
        assert ImageSettings.from_json({"config": config}, "image") == ImageSettings()
    else:
        with pytest.raises(ImageError, match=r"^image: config"):
            ImageSettings.from_json({"config": config}, "image")


TEXTS = st.text(max_size=6) | st.sampled_from(["new", "host", "/a:/b", "/a:/b:ro", "CAP_KILL", "all", "/x:y"])
VALUES = (
    TEXTS
    | st.booleans()
    | st.integers(-2, 1 << 33)
    | st.lists(TEXTS, max_size=3)
    | st.lists(
        st.dictionaries(
            st.sampled_from(["type", "destination", "source", "path", "mode", "major", "hostID"]),
            TEXTS | st.integers(0, 9),
            max_size=4,
        ),
        max_size=2,
    )
    | st.dictionaries(st.sampled_from(["memory", "mounts", "bindNS", "a"]), st.just({}) | TEXTS, max_size=2)
)
CONFIGS = st.dictionaries(st.sampled_from(sorted(keys_of(ImageConfig))), VALUES, max_size=3)


@given(CONFIGS, CONFIGS)
@settings(max_examples=500, deadline=None)
def test_whatever_is_accepted_gives_documents(own, label):
    with contextlib.suppress(LinuxKitError):
        joined = overlay(read_label(json.dumps(label), "l"), read_label(json.dumps(own), "o"))
        config = config_json(joined, IMAGE, NAMES, "f")
        assert json.loads(document(config)) == config
        json.loads(document(runtime_json(joined.runtime or Runtime(), ())))
