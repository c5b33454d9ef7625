"""YAMLs of 2017: ``outputs`` and ``trust``."""

from pathlib import Path

import pytest

from linuxkit_rules.errors import LinuxKitError, SpecError
from linuxkit_rules.outputs.registry import named, outputs
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.spec.legacy import Output
from linuxkit_rules.spec.linuxkit import Spec, loads
from linuxkit_rules.spec.merge import merge
from linuxkit_rules.spec.trust import Trust

OF_2017 = """\
kernel:
  image: "linuxkit/kernel:4.9.x"
  cmdline: "console=ttyS0 console=tty0 page_poison=1"
init:
  - linuxkit/init:cbd7ae748f0a082516501a3e914fa0c924ee941e
  - linuxkit/runc:24dfe632ed3ff53a026ee3fac046fd544434e2d6
  - linuxkit/containerd:1e3e8f207421de8deac8cedc26a138d6b1661a0d
onboot:
  - name: sysctl
    image: "linuxkit/sysctl:2cf2f9d5b4d314ba1bfc22b2fe931924af666d8c"
  - name: dhcpcd
    image: "linuxkit/dhcpcd:17423c1ccced74e3c005fd80486e8177841fe02b"
    command: ["/sbin/dhcpcd", "--nobackground", "-f", "/dhcpcd.conf", "-1"]
services:
  - name: rngd
    image: "linuxkit/rngd:c42fd499690b2cb6e4e6cb99e41dfafca1cf5b14"
    capabilities:
     - CAP_SYS_ADMIN
    oomScoreAdj: -800
    readonly: true
  - name: nginx
    image: "nginx:alpine"
    capabilities:
     - CAP_NET_BIND_SERVICE
     - CAP_CHOWN
     - CAP_SETUID
     - CAP_SETGID
     - CAP_DAC_OVERRIDE
    net: host
    binds:
     - /etc/resolv.conf:/etc/resolv.conf
files:
  - path: etc/docker/daemon.json
    contents: '{"debug": true}'
trust:
  org:
    - linuxkit
outputs:
  - format: kernel+initrd
  - format: iso-bios
"""


@pytest.fixture
def yml(tmp_path: Path) -> Path:
    path = tmp_path / "linuxkit.yml"
    path.write_text(OF_2017)
    return path


def merged(*texts: str) -> Spec:
    return merge([loads(text, f"{index}.yml") for index, text in enumerate(texts)])


def test_yaml_of_2017_is_planned(yml: Path) -> None:
    parts = plan({"linuxkit.yml": yml}, "linuxkit", Settings(ignore_trust=True))
    assert parts.warnings == ("linuxkit.yml:36:3: trust: the signatures of linuxkit are not checked",)
    assert named(parts.spec.outputs) == ["kernel+initrd", "iso-bios"]
    assert [item.name for _, _, item in parts.spec.containers()] == ["sysctl", "dhcpcd", "rngd", "nginx"]


def test_trust_without_keys_is_refused(yml: Path) -> None:
    with pytest.raises(SpecError, match="trust: linuxkit must be signed, but no keys are named") as caught:
        plan({"linuxkit.yml": yml}, "linuxkit", Settings())
    assert caught.value.where == "linuxkit.yml:36:3"
    assert "--ignore-trust" in str(caught.value)
    assert "LINUXKIT_IGNORE_TRUST=1" in str(caught.value)


def test_trust_in_nobody_asks_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("trust: {org: [], image: []}\n")
    assert plan({"a.yml": path}, "a", Settings()).warnings == ()


def test_lists_of_several_yamls_are_appended() -> None:
    first = "trust: {org: [a]}\noutputs: [{format: iso}, {format: iso-bios}]\n"
    second = "trust: {org: [b], image: [c/d]}\noutputs: [{format: kernel+initrd}, {format: iso}]\n"
    spec = merged("{}", first, second)
    assert spec.trust == Trust(("a", "b"), ("c/d",))
    assert spec.trust.where == "1.yml:1:8"
    assert [item.format for item in spec.outputs] == ["iso", "iso-bios", "kernel+initrd"]
    assert [item.where for item in spec.outputs] == ["1.yml:2:20", "1.yml:2:35", "2.yml:2:20"]


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("outputs:\n  - format: gce\n    bucket: b\n", "0.yml:3:5", "'bucket' has no meaning here"),
        ("outputs: [{size: 100}]", "0.yml:1:12", "'size' has no meaning here"),
        ("outputs: [{}]", "0.yml:1:11", "format is missing"),
        ("outputs: [iso]", "0.yml:1:11", "must be a mapping, not a string"),
        ("outputs: iso", "0.yml:1:10", "must be a list, not a string"),
        ("outputs: [{format: 7}]", "0.yml:1:20", "must be a string, not an integer"),
        ("trust: {orgs: [a]}", "0.yml:1:9", "unknown key 'orgs'"),
        ("trust: {org: a}", "0.yml:1:14", "must be a list, not a string"),
        ("trust: [a]", "0.yml:1:8", "must be a mapping, not a list"),
    ],
)
def test_faults_are_told_with_their_place(text: str, where: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        merged(text)
    assert caught.value.where == where
    assert message in caught.value.message


def test_unknown_formats_are_told_with_those_there_are() -> None:
    wanted = (
        Output("iso"),
        Output("gce", "a.yml:2:1"),
        Output("raw ", "a.yml:3:1"),
        Output("x", "a.yml:4:1"),
    )
    unknown = [item for item in wanted if item.format.strip() not in outputs()]
    with pytest.raises(LinuxKitError) as caught:
        named(wanted)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [item.where for item in unknown]
    assert all(f"one of {', '.join(outputs())}" in line for line in lines)
