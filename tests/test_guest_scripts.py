"""The init component's readers of JSON, run by the busybox that the machine will have."""

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linuxkit_rules import host
from linuxkit_rules.debian.lock import load_lock
from linuxkit_rules.stages.tool import Program, install

pytestmark = pytest.mark.network
LIBRARY = Path(__file__).resolve().parents[1] / "linuxkit_rules/pkg"
SCRIPTS = LIBRARY / "init/rootfs/usr/lib/linuxkit"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# What the functions that runtime.awk calls are replaced by: they tell their arguments, one a line.
STUBS = """
show() { printf '%s' "$1"; shift; printf ' [%s]' "$@"; echo; }
make_directories() { show mkdir "$@"; }
mount_one() { show mount "$@"; }
add_interface() { show interface "$@"; }
bind_namespace() { show bind "$@"; }
warn() { show warn "$@"; }
"""


@pytest.fixture(scope="session")
def busybox() -> Run:
    """Run an applet of the locked busybox."""
    root = install(host.engine(), "init", load_lock(host.package_lock()), host.host_arch(), LIBRARY)
    command = Program(root, "usr/bin/busybox").command

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)

    return run


def awk(busybox: Run, script: str, files: Sequence[Path], **variables: str | Path) -> str:
    values = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
    result = busybox("awk", *values, "-f", SCRIPTS / "json.awk", "-f", SCRIPTS / script, *files)
    assert result.returncode == 0, result.stderr
    return result.stdout


def steps(busybox: Run, folder: Path, runtime: Any, call: str) -> list[str]:
    """What ``call`` does after ``runtime`` (a value or a text) was read as the runtime.json of ``folder``."""
    file = folder / "runtime.json"
    file.write_text(runtime if isinstance(runtime, str) else json.dumps(runtime))
    code = awk(busybox, "runtime.awk", [file], state=folder)
    result = busybox("sh", "-c", f"{STUBS}\n{code}\n{call} {shlex.quote(str(folder))} 42; echo $? $attached")
    assert not result.stderr
    return result.stdout.splitlines()


def test_a_writable_root_is_mounted_in_steps(busybox: Run, tmp_path: Path) -> None:
    top = "/containers/services/a"
    options = [f"lowerdir={top}/lower", f"upperdir={top}/tmp/upper", f"workdir={top}/tmp/work"]
    mounts = [
        {"destination": f"{top}/tmp", "type": "tmpfs", "source": "tmpfs"},
        {"destination": f"{top}/tmp", "options": ["remount", "private"]},
        {"destination": f"{top}/rootfs", "type": "overlay", "source": "overlay", "options": options},
    ]
    assert steps(busybox, tmp_path, {"mounts": mounts}, "prepare") == [
        f"mkdir [{top}/tmp]",
        f"mount [tmpfs] [tmpfs] [{top}/tmp] []",
        f"mkdir [{top}/rootfs] [{top}/tmp/upper] [{top}/tmp/work]",
        f"mount [overlay] [overlay] [{top}/rootfs] [{','.join(options)}]",
        "0",
    ]


def test_directories_cgroups_interfaces_and_namespaces(busybox: Run, tmp_path: Path) -> None:
    runtime = {
        "mkdir": ["/run/a b", "relative"],
        "cgroups": ["one"],
        "interfaces": [{"name": "eth1", "add": "veth", "peer": "veth1", "createInRoot": True}],
        "bindNS": {"net": "/run/netns/a", "pid": ""},
        "namespace": "own",
    }
    assert steps(busybox, tmp_path, runtime, "prepare") == [
        f"mkdir [/run/a b] [{tmp_path}/rootfs/relative]",
        "mkdir [/sys/fs/cgroup/one]",
        "0 yes",
    ]
    assert steps(busybox, tmp_path, runtime, "attach") == [
        "interface [eth1] [veth] [veth1] [true] [42]",
        "bind [net] [/run/netns/a] [42]",
        "0",
    ]


@pytest.mark.parametrize("name", ["'; touch x; '", "$(touch x)", "a\\b", 'a"b', "a\nb", "é € *", "\t"])
def test_no_name_is_read_by_the_shell(busybox: Run, tmp_path: Path, name: str) -> None:
    found = steps(busybox, tmp_path, {"mkdir": [f"/{name}"]}, "prepare")
    assert "\n".join(found) == f"mkdir [/{name}]\n0"


@pytest.mark.parametrize(
    "text", ["", "{", '{"mkdir": [', '{"mkdir" []}', '{"mkdir": [],}', "{} {}", '{"a": "']
)
def test_damaged_runtime_stops_its_container(busybox: Run, tmp_path: Path, text: str) -> None:
    found = steps(busybox, tmp_path, text + "\n", "prepare")
    assert found[0].startswith(f"warn [{tmp_path}/runtime.json: ")
    assert found[1:] == ["1"]


def test_a_configuration_is_copied_under_an_older_version(busybox: Run, tmp_path: Path) -> None:
    folder = tmp_path / "onboot/000-a"
    folder.mkdir(parents=True)
    spec = {"ociVersion": "1.2.1", "process": {"args": ["ociVersion", "1.2.1"]}}
    (folder / "config.json").write_text(json.dumps(spec, indent=4))
    awk(busybox, "runtime.awk", [folder / "config.json"], state=tmp_path)
    copy = json.loads((tmp_path / "onboot.000-a.json").read_text())
    assert copy == spec | {"ociVersion": "1.0.2"}


def test_the_root_path_alone_is_replaced(busybox: Run, tmp_path: Path) -> None:
    spec = {"root": {"path": "rootfs", "readonly": True}, "linux": {"devices": [{"path": "rootfs"}], "a": []}}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(spec, indent=1))
    found = json.loads(awk(busybox, "root.awk", [file], rootfs="/containers/services/a/rootfs"))
    assert found == spec | {"root": {"path": "/containers/services/a/rootfs", "readonly": True}}


_KEYS = st.text("abcXYZ_0", min_size=1, max_size=4)
_TEXTS = st.text(max_size=8)
_LEAVES = st.none() | st.booleans() | st.integers() | _TEXTS
_DOCUMENTS = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=_DOCUMENTS, indent=st.none() | st.integers(0, 3), plain=st.booleans())
def test_a_document_comes_out_as_it_went_in(
    busybox: Run, tmp_path: Path, document: Any, indent: int | None, plain: bool
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document, indent=indent, ensure_ascii=plain), encoding="utf-8", newline="")
    assert json.loads(awk(busybox, "root.awk", [file], rootfs="/x")) == document
