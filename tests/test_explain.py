"""``moby build --explain``: what is said of each value, and the proof that it is so."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxkit_rules.errors import UsageError
from linuxkit_rules.oci.explain import DEFAULT, Line, Source, explain, grouped
from linuxkit_rules.oci.layout import REF_NAME, Layout
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.plan.explain import Row, explanation, find, text
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.spec.checks import CAPABILITIES
from linuxkit_rules.spec.linuxkit import Container, loads
from linuxkit_rules.spec.merge import load_all
from linuxkit_rules.spec.yamlfile import parse
from linuxkit_rules.stages.bundle import bundles, read_settings
from linuxkit_rules.stages.image import resolve
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.images import Blobs, tar
from tests.origins import World, prove, put_together
from tests.project import Project

SUITE = Path(__file__).resolve().parents[2] / "shared" / "conformance"
CASES = sorted(path.name for path in (SUITE / "cases").glob("*")) if SUITE.is_dir() else []
conformance = pytest.mark.skipif(not CASES, reason=f"the conformance suite is not at {SUITE}")


@functools.cache
def layout() -> Layout:
    return Layout.at(SUITE / "images")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Store(tmp_path_factory.mktemp("store")))


def worlds(engine: Engine, case: str) -> Iterator[tuple[Container, World]]:
    folder = SUITE / "cases" / case
    record = json.loads((folder / "golden.json").read_text())
    texts = [(folder / name).read_bytes() for name in record["inputs"]]
    written = [parse(data, "f.yml").plain() or {} for data in texts]
    spec = load_all([folder / name for name in record["inputs"]])
    for (kind, index, item), (_, stage) in zip(spec.containers(), bundles(spec), strict=True):
        raw = [entry for one in written for entry in one.get(kind) or ()][index]
        found = resolve(Reference.parse(item.image), record["arch"], [layout()], SUITE)
        manifest = engine.run(found.stage, {}).output
        settings, _ = read_settings(manifest, engine.store, item.image)
        label = parse(settings.label, "label").plain() if settings.label else {}
        image = {
            "Entrypoint": list(settings.entrypoint),
            "Cmd": list(settings.cmd),
            "Env": list(settings.env),
            "WorkingDir": settings.working_dir,
        }
        yield item, World(stage, spec, raw, label, image)


@conformance
@pytest.mark.parametrize("case", CASES)
def test_lines_put_together_are_the_documents(engine: Engine, case: str) -> None:
    for item, world in worlds(engine, case):
        documents, own, label, settings = world.documents()
        assert own == world.stage.config
        lines = explain(documents, own, label, settings)
        assert put_together(lines) == {**documents["config.json"], "runtime": documents["runtime.json"]}
        assert all(line.sources for line in lines)
        for source in {source for line in lines for source in line.sources if source.kind == "yaml"}:
            assert source.path in dict(item.places) or source.path == "resources.pids.limit"


@conformance
@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("opts-")] + CASES[::8])
def test_changing_a_source_changes_what_names_it(engine: Engine, case: str) -> None:
    count, seen = 0, set()
    for _, world in worlds(engine, case):
        known = json.dumps([world.yaml, world.label, world.image])
        count += prove(world) if known not in seen else 0
        seen.add(known)
    assert count or not seen


YML = """\
onboot:
  - {name: twice, image: test/app:1}
  - {name: twice, image: test/app:1, binds: ["data:/data"]}
services:
  - name: app
    image: test/app:1
    uid: other
    readonly: false
    binds.add:
      - /run:/run
    capabilities.add: [CAP_NET_ADMIN, CAP_KILL]
    env: ["A=1"]
    sysctl: {net.ipv4.ip_forward: "1"}
  - name: other
    image: test/app:1
    readonly: true
    capabilities: [all]
    cwd: "/\\u009b"
volumes: [{name: data}]
"""
LABEL = {"capabilities": ["CAP_KILL", "CAP_CHOWN"], "binds": ["/etc:/etc:ro"], "hostname": "box"}
IMAGE = {"Entrypoint": ["/tini", "--"], "Cmd": ["/app"], "Env": ["PATH=/bin"], "WorkingDir": "/srv"}
FROM_LABEL = "label org.mobyproject.config of test/app:1"
FROM_IMAGE = "image config of test/app:1"
FIRST = "files of containers/onboot/000-twice, the same image"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose one image has a label, and that has no kernel."""
    root = tmp_path_factory.mktemp("project")
    made = Project.make(root)
    blobs, layer = Blobs(), tar(app=b"app")
    labels = {"org.mobyproject.config": json.dumps(LABEL)}
    config = blobs.config([layer], config={**IMAGE, "Labels": labels})
    image = blobs.image([layer], config=config)
    for name, data in blobs.files((image, {REF_NAME: "docker.io/test/app:1"})).items():
        (root / "labelled" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "labelled" / name).write_bytes(data)
    (root / "app.yml").write_text(YML)
    return made


def explained(project: Project, key: str) -> list[Row]:
    settings = Settings(layouts=(project.root / "labelled",))
    parts = plan({"app.yml": project.root / "app.yml"}, "app", settings)
    return explanation(key, parts, Engine(Store(project.root / "store")))


def rows(project: Project, key: str) -> dict[str, tuple[str, str]]:
    return {row.field: (row.value, row.origin) for row in explained(project, key)}


def test_each_value_says_where_it_comes_from(project: Project) -> None:
    found = rows(project, "app")
    wanted = {
        "ociVersion": ('"1.2.1"', "default"),
        "process.user.uid": ("103", "app.yml:7:10 (uid); name other = 103"),
        "process.user.gid": ("0", "default"),
        "process.args[1]": ('"--"', f"{FROM_IMAGE} (Entrypoint[1])"),
        "process.args[2]": ('"/app"', f"{FROM_IMAGE} (Cmd[0])"),
        "process.env[0]": ('"A=1"', "app.yml:12:11 (env[0])"),
        "process.cwd": ('"/srv"', f"{FROM_IMAGE} (WorkingDir)"),
        "hostname": ('"box"', f"{FROM_LABEL} (hostname)"),
        "linux.sysctl.net.ipv4.ip_forward": ('"1"', "app.yml:13:35 (sysctl.net.ipv4.ip_forward)"),
        "runtime.cgroups": ("[]", "default"),
    }
    assert {field: found[field] for field in wanted} == wanted


def test_joined_lists_say_the_origin_of_each_part(project: Project) -> None:
    """A capability that both name has two origins; binds are in config.json by destination."""
    effective = "process.capabilities.effective"
    both = f"{FROM_LABEL} (capabilities[0]); app.yml:11:39 (capabilities.add[1])"
    assert explained(project, f"app:{effective}") == [
        Row(f"{effective}[0]", '"CAP_KILL"', both),
        Row(f"{effective}[1]", '"CAP_CHOWN"', f"{FROM_LABEL} (capabilities[1])"),
        Row(f"{effective}[2]", '"CAP_NET_ADMIN"', "app.yml:11:24 (capabilities.add[0])"),
    ]
    mounts = {
        json.loads(value)["destination"]: origin for value, origin in rows(project, "app:mounts").values()
    }
    assert mounts == {
        "/dev": "default; derived from app.yml:8:15 (readonly)",
        "/dev/pts": "default",
        "/etc": f"{FROM_LABEL} (binds[0])",
        "/proc": "default",
        "/run": "app.yml:10:9 (binds.add[0])",
        "/sys": "default; derived from app.yml:8:15 (readonly)",
        "/sys/fs/cgroup": "default",
    }


def test_capabilities_of_one_origin_are_one_row(project: Project) -> None:
    found = rows(project, "services/other:process.capabilities")
    assert [*found] == [
        f"process.capabilities.{kind}" for kind in ("bounding", "effective", "inheritable", "permitted")
    ]
    value, origin = found["process.capabilities.effective"]
    assert json.loads(value) == list(CAPABILITIES)
    assert origin == "app.yml:17:20 (capabilities[0])"


def test_files_of_another_container_are_said(project: Project) -> None:
    found = rows(project, "other:runtime.mounts")
    assert [origin for _, origin in found.values()] == [
        f"default; derived from app.yml:16:15 (readonly); {FIRST}"
    ]
    first = rows(project, "onboot[0]:runtime.mounts")
    assert {origin for _, origin in first.values()} == {"default"}


def test_values_print_as_they_are(project: Project) -> None:
    assert rows(project, "other:process.cwd")["process.cwd"][0] == r'"/\u009b"'


def test_volume_is_named(project: Project) -> None:
    (value, origin), *_ = rows(project, "onboot[1]:mounts[0]").values()
    assert json.loads(value)["source"] == "/containers/volumes/data/merged"
    assert origin == "app.yml:3:46 (binds[0]); volume data"


def test_proof_holds_for_a_volume() -> None:
    spec = loads("volumes: [{name: v}]\nservices: [{name: a, image: i, binds: ['v:/v']}]", "f.yml")
    ((_, stage),) = bundles(spec)
    assert stage.config.binds == ("/containers/volumes/v/merged:/v",)
    world = World(stage, spec, {"name": "a", "image": "i", "binds": ["v:/v"]}, {}, {})
    assert world.lines()[-1].sources == DEFAULT
    assert prove(world) == 1


def test_proof_holds_for_a_label_and_an_image_under_a_yaml() -> None:
    raw = {
        "name": "a",
        "image": "i",
        "binds.add": ["/etc:/etc:ro", "/run:/run"],
        "capabilities.add": ["CAP_KILL", "CAP_SYS_TIME"],
        "ambient": ["CAP_SYS_TIME"],
        "readonly": False,
        "resources": {"pids": {}, "memory": {"limit": 5}},
        "devices": [
            {"path": "all", "type": "c"},
            {"path": "/dev/x", "type": "c", "minor": 1, "mode": "0600"},
        ],
        "runtime": {"mkdir": ["/x"], "mounts": [{"type": "proc", "destination": "/p"}]},
    }
    spec = loads(json.dumps({"services": [raw]}), "f.yml")
    ((_, stage),) = bundles(spec)
    label = {**LABEL, "net": "new", "runtime": {"mkdir": ["/y"], "bindNS": {"net": "/n"}}}
    assert prove(World(stage, spec, raw, label, IMAGE)) == 24


def test_capabilities_of_several_items_name_the_list() -> None:
    one, two = (
        Line(("process", "capabilities", "ambient", index), name, (Source("yaml", f"ambient[{index}]"),))
        for index, name in enumerate(("CAP_KILL", "CAP_CHOWN"))
    )
    joined = Line(one.path[:3], ["CAP_KILL", "CAP_CHOWN"], (Source("yaml", "ambient"),))
    assert grouped([one, two]) == (joined,)
    assert grouped([one]) == (one,)


NAMED = loads(
    """
onboot: [{name: a, image: x}, {name: a, image: x}, {name: b, image: x}]
services: [{name: redis, image: x}, {name: "c:d", image: x}, {name: b, image: x}]
""",
    "f.yml",
)


@pytest.mark.parametrize(
    ("key", "kind", "index", "field"),
    [
        ("redis", "services", 0, ""),
        ("services/redis", "services", 0, ""),
        ("services.redis", "services", 0, ""),
        ("services[0]", "services", 0, ""),
        ("onboot[1]", "onboot", 1, ""),
        ("onboot/b", "onboot", 2, ""),
        ("redis:process.args[0]", "services", 0, "process.args[0]"),
        ("c:d", "services", 1, ""),
        ("c:d:linux", "services", 1, "linux"),
        ("redis:linux.sysctl.a:b", "services", 0, "linux.sysctl.a:b"),
    ],
)
def test_containers_are_found_by_their_names(key: str, kind: str, index: int, field: str) -> None:
    assert find(NAMED, key) == (kind, index, getattr(NAMED, kind)[index], field)


CHOICES = "onboot[0], onboot[1], onboot/b, services/redis, services/c:d, services/b"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("b", "2 containers are named 'b' (say onboot/b or services/b)"),
        ("onboot/a:mounts", "2 containers are named 'onboot/a' (say onboot[0] or onboot[1])"),
        ("rediss:linux", "no container is named 'rediss' (did you mean 'redis'?)"),
        ("services[7]", "no container is named 'services[7]' (did you mean 'services[2]'?)"),
        ("", f"no container is named '' (containers: {CHOICES})"),
    ],
)
def test_names_of_no_container_or_of_several_are_refused(key: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(NAMED, key)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("process.capabilites", "did you mean 'process.capabilities'?"),
        ("proces", "did you mean 'process'?"),
        ("?", "there are ociVersion, process, root, hostname, mounts, linux, runtime"),
    ],
)
def test_field_that_is_not_there_is_refused(project: Project, field: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        rows(project, f"app:{field}")
    assert str(caught.value) == f"the container has no field {field!r} ({hint})"


def test_values_are_cut_on_a_terminal_only() -> None:
    given = [Row("a", '"' + "x" * 50 + '"', "default"), Row("mounts[0]", "1", "f.yml:1:2 (a)")]
    assert text(given, None) == f'a\t"{"x" * 50}"\tdefault\nmounts[0]\t1\tf.yml:1:2 (a)\n'
    cut = text(given, 50).splitlines()
    assert cut == [f'a          "{"x" * 22}…  default', f"mounts[0]  1{' ' * 23}  f.yml:1:2 (a)"]
    assert max(map(len, cut)) == 50
    assert text([], 80) == text([], None) == ""


def moby(project: Project, *arguments: str, status: int = 0, stdin: str = "") -> tuple[str, str]:
    result = subprocess.run(
        [sys.executable, "-m", "linuxkit_rules", "build", *arguments],
        cwd=project.root,
        env={**project.environment(), "LINUXKIT_OFFLINE": "1"},
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout, result.stderr


def test_command_prints_rows_and_builds_nothing(project: Project) -> None:
    before = sorted(project.root.iterdir())
    line = ("--explain", "app:process.args", "--image-layout=labelled", "app.yml")
    printed, said = moby(project, *line)
    assert printed.splitlines() == [
        f'process.args[0]\t"/tini"\t{FROM_IMAGE} (Entrypoint[0])',
        f'process.args[1]\t"--"\t{FROM_IMAGE} (Entrypoint[1])',
        f'process.args[2]\t"/app"\t{FROM_IMAGE} (Cmd[0])',
    ]
    assert said == ""
    assert sorted(project.root.iterdir()) == sorted({*before, project.root / "store"})


def test_later_files_count_and_layouts_come_from_the_environment(project: Project) -> None:
    (project.root / "more.yml").write_text("services:\n  - {name: more, image: test/app:1, cwd: /more}\n")
    printed, _ = moby(project, "--explain=more:process.cwd", "tiny.yml", "more.yml")
    assert printed == 'process.cwd\t"/more"\tmore.yml:2:42 (cwd)\n'


def test_yaml_from_standard_input(project: Project) -> None:
    given = "services:\n  - {name: app, image: test/app:1, cwd: /here}\n"
    printed, _ = moby(project, "--explain=app:process.cwd", "-", stdin=given)
    assert printed == 'process.cwd\t"/here"\t-:2:41 (cwd)\n'


@pytest.mark.network
def test_readme_s_examples_are_true() -> None:
    root = Path(__file__).resolve().parents[1]
    examples = re.findall(
        r"^\$ moby (build --explain .*)\n((?:[^$`].*\n)+)", (root / "README.md").read_text(), re.M
    )
    assert len(examples) == 2
    for arguments, wanted in examples:
        command = [sys.executable, "-m", "linuxkit_rules", *arguments.split()]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        assert result.stdout.replace("\t", "  ") == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--explain=ap", "tiny.yml"], "moby: no container is named 'ap' (did you mean 'app'?)\n"),
        (["--explain=app", "none.yml"], "moby: none.yml: cannot be read: No such file or directory"),
        (["--explain=app", "layout"], "moby: layout: is a folder, where a file is needed\n"),
        (
            ["--explain=app", "absent.yml"],
            "moby: absent.yml:1:31: docker.io/test/absent:1: the image is not in the store",
        ),
    ],
)
def test_faults_are_one_line(project: Project, arguments: list[str], message: str) -> None:
    (project.root / "absent.yml").write_text("services: [{name: app, image: test/absent:1}]\n")
    printed, said = moby(project, *arguments, status=1)
    assert printed == ""
    assert said.startswith(message)
    assert said.count("\n") == 1
