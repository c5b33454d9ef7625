"""build.yml: what is read, and what is refused."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxkit_rules.errors import ErrorList, LinuxKitError, SpecError
from linuxkit_rules.spec.component import (
    Component,
    Directory,
    Group,
    KernelPackage,
    PackageFiles,
    User,
    load_component,
    parse_component,
)
from linuxkit_rules.spec.decode import keys_of

FULL = """
image: redis
org: linuxkit
network: true
arches: [amd64, arm64]
extra-sources: [a, b]
depends: {docker-images: {list: [x]}}
arch: [amd64]
packages:
  - redis-server: [usr/bin/redis-check-rdb, "usr/lib/${gnu}/**"]
  - libc6
exclude: ["usr/share/**"]
closure: false
users:
  - {name: redis, uid: 999, gid: 998, home: /var/lib/redis}
groups:
  - {name: adm, gid: 4, members: [redis]}
directories:
  - {path: tmp, mode: "1777"}
  - {path: var/lib/redis, mode: "0750", user: redis, group: adm}
links: {usr/bin/vi: busybox}
generate: [ca-bundle]
modules: [overlay]
kernel: {package: "linux-image-*", modules: [virtio_net]}
entrypoint: [/usr/bin/redis-server]
cmd: [--port, "6379"]
env: [A=b]
workdir: /data
user: redis
config:
  net: host
  capabilities: [CAP_SETUID]
  binds: ["/a:/b"]
"""


def faults(text: str) -> list[LinuxKitError]:
    with pytest.raises(LinuxKitError) as caught:
        parse_component(text, "build.yml")
    error = caught.value
    return list(error.errors) if isinstance(error, ErrorList) else [error]


def test_everything_is_read():
    component = parse_component(FULL, "build.yml")
    assert (component.image, component.arch, component.closure) == ("redis", ("amd64",), False)
    assert component.packages == (
        PackageFiles("redis-server", ("usr/bin/redis-check-rdb", "usr/lib/${gnu}/**")),
        PackageFiles("libc6"),
    )
    assert component.users == (User("redis", 999, 998, "/var/lib/redis"),)
    assert component.groups == (Group("adm", 4, ("redis",)),)
    assert component.directories == (
        Directory("tmp", 0o1777),
        Directory("var/lib/redis", 0o750, "redis", "adm"),
    )
    assert component.links == {"usr/bin/vi": "busybox"}
    assert component.kernel == KernelPackage("linux-image-*", ("virtio_net",))
    assert component.entrypoint + component.cmd == ("/usr/bin/redis-server", "--port", "6379")
    assert component.config.capabilities == ("CAP_SETUID",)
    assert json.loads(component.label) == {
        "net": "host",
        "capabilities": ["CAP_SETUID"],
        "binds": ["/a:/b"],
    }


def test_what_is_not_said_has_its_default():
    component = parse_component("image: x", "build.yml")
    assert component == Component("x")
    assert component.arch == ("amd64", "arm64")
    assert component.users is None
    assert component.label == ""


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("packages: []", "build.yml:1:1", "image is missing"),
        ("image: x\npackges: [a]", "build.yml:2:1", "unknown key 'packges' (did you mean 'packages'?)"),
        ("image: x\narch: [mips]", "build.yml:2:8", "must be one of amd64, arm64"),
        ("image: x\npackages: [Redis]", "build.yml:2:12", "cannot be a Debian package's name"),
        ("image: x\npackages: [{a: [b], c: [d]}]", "build.yml:2:12", "one name with its globs"),
        ("image: x\npackages: [{a: [/usr/b]}]", "build.yml:2:17", "without leading slash"),
        ("image: x\npackages: [{A: [b]}]", "build.yml:2:13", "cannot be a Debian package's name"),
        ("image: x\nexclude: [a/../b]", "build.yml:2:11", "without leading slash"),
        ("image: x\nlinks: {/usr/bin/vi: x}", "build.yml:2:9", "without leading slash"),
        ("image: x\nusers: [{name: 'a:b', uid: 1}]", "build.yml:2:16", "cannot be a user's"),
        ("image: x\nusers: [{name: a}]", "build.yml:2:9", "uid is missing"),
        ("image: x\nusers: [{name: a, uid: 1, home: 'a:b'}]", "build.yml:2:33", "must not hold a colon"),
        ("image: x\ndirectories: [{path: a, mode: 755}]", "build.yml:2:31", "must be a string"),
        ("image: x\ndirectories: [{path: a, user: me}]", "build.yml:2:31", "'me' is not declared"),
        ("image: x\ngenerate: [magic]", "build.yml:2:12", "must be one of ca-bundle"),
        ("image: x\nconfig: {readonly: yes}", "build.yml:2:20", "config.readonly: must be true or false"),
        ("image: x\nconfig: {capabilites: []}", "build.yml:2:10", "did you mean 'capabilities'?"),
        ("[x]", "build.yml:1:1", "must be a mapping"),
    ],
)
def test_faults_are_told_with_their_place(text, where, message):
    (error,) = faults(text)
    assert error.where == where
    assert message in str(error)


def test_all_faults_are_told_at_once():
    text = "packges: []\narch: [mips]\ndirectories: [{path: /x}]\nconfig: {net: 1}\n"
    assert [error.where for error in faults(text)] == [
        "build.yml:1:1",
        "build.yml:1:1",
        "build.yml:2:8",
        "build.yml:3:22",
        "build.yml:4:15",
    ]


def test_a_missing_file_is_told_by_its_name(tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        load_component(tmp_path / "build.yml")


def test_components_of_the_library_are_sound():
    """Each is named like its folder."""
    library = Path(__file__).resolve().parents[1] / "linuxkit_rules"
    files = sorted([*library.glob("pkg/*/build.yml"), *library.glob("tools/*/build.yml")])
    assert files
    for path in files:
        component = load_component(path)
        assert component.image == path.parent.name
        assert component.dockerfile == ""


@given(
    st.dictionaries(
        st.sampled_from([*keys_of(Component), "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a", "root"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["name", "uid", "gid", "path", "mode", "user", "package", "net"]), inner
                )
            ),
            max_leaves=8,
        ),
    )
)
@settings(max_examples=400, deadline=None)
def test_no_document_makes_anything_but_linuxkit_errors(value):
    with contextlib.suppress(LinuxKitError):
        parse_component(json.dumps({"image": "x", **value}), "build.yml")
