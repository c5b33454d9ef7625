"""``moby build --dry-run`` and ``moby build -``: what the one prints, the other builds to the same bytes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from linuxkit_rules.errors import SpecError
from linuxkit_rules.plan.image import Parts, plan
from linuxkit_rules.plan.outline import outline
from linuxkit_rules.plan.relocate import relocated
from linuxkit_rules.spec.emit import emit
from linuxkit_rules.spec.linuxkit import load, loads
from linuxkit_rules.spec.merge import load_all
from tests.project import Project
from tests.test_conformance import CASES, SUITE, settings

ONE = """\
kernel: {image: "oci:../layout:test/kernel:1", cmdline: a=yes}
init: ["oci:../layout:test/init:1"]
services:
  - {name: own, image: "@pkg:./mine", binds: ["/a:/a"], env: ["A=yes", "no"]}
  - {name: app, image: "oci:../layout:test/app:1", command: ["/app", "010"]}
files:
  - {path: etc/one, source: ./one.txt, mode: "0644"}
  - {path: etc/absent, source: absent.txt, optional: true}
  - {path: etc/all, metadata: yaml}
outputs: [{format: kernel+initrd}]
"""
TWO = """\
kernel: {cmdline: "b=\\u00fc  c"}
services:
  - {name: two, image: "oci:../../layout:test/app:1", uid: app}
  - {name: mine, image: "@pkg:../../one/mine", command: []}
files:
  - {path: etc/two, source: ../two.txt}
  - {path: etc/json, metadata: json}
  - {path: etc/text, contents: "one\\n  two\\n"}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two YAMLs in two folders, each with files and images of its own."""
    made = Project.make(tmp_path / "project")
    overlay = made.root / "one" / "mine" / "rootfs"
    overlay.mkdir(parents=True)
    (overlay / "app").write_text("mine\n")
    (overlay.parent / "build.yml").write_text("image: mine\ncmd: [/app]\n")
    (made.root / "two" / "deep").mkdir(parents=True)
    for path, text in {
        "one/one.yml": ONE,
        "two/deep/two.yml": TWO,
        "one/one.txt": "1",
        "two/two.txt": "2",
    }.items():
        (made.root / path).write_text(text)
    return made


def moby(project: Project, *arguments: str, stdin: bytes | None = None, status: int = 0) -> tuple[str, str]:
    """Run ``moby build``; give what it printed on both streams."""
    result = subprocess.run(
        [sys.executable, "-m", "linuxkit_rules", "build", *arguments],
        cwd=project.root,
        env={**project.environment(), "LINUXKIT_OFFLINE": "1"},
        input=stdin,
        capture_output=True,
    )
    out, err = result.stdout.decode(), result.stderr.decode()
    assert result.returncode == status, out + err
    assert "Traceback" not in out + err
    return out, err


def test_what_is_printed_builds_to_the_same_image(project: Project) -> None:
    files = ("one/one.yml", "two/deep/two.yml")
    printed, _ = moby(project, "--dry-run", *files)
    assert sorted(path.name for path in project.root.iterdir()) == sorted(
        ["SConstruct", "layout", "local.txt", "one", "tiny.yml", "two"]
    )
    moby(project, "--name=both", *files)
    moby(project, "--name=again", "-", stdin=printed.encode())
    for suffix in ("-kernel", "-initrd.img", "-cmdline"):
        assert (project.root / f"again{suffix}").read_bytes() == (project.root / f"both{suffix}").read_bytes()
    assert moby(project, "--dry-run", "-", stdin=printed.encode())[0] == printed
    for text in ("oci:layout:test/app:1", "'@pkg:./one/mine'", "one/one.txt", "two/two.txt", "b=ü  c"):
        assert text in printed


def test_only_what_was_given_is_printed(project: Project) -> None:
    (project.root / "a.yml").write_text("files: [{path: a, contents: 'yes'}]\n")
    assert moby(project, "--dry-run", "a.yml", "--format=tar")[0] == "files:\n- path: a\n  contents: 'yes'\n"


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("kernel: 7", (), "bad.yml:1:9: kernel: must be a mapping"),
        ("files: [{path: a, source: none}]", (), "bad.yml:1:9: there is no file 'none'"),
        ("files: [{path: a, source: one, optional: true}]", (), "'one' is a folder, where a file is needed"),
        ("init: ['oci:layout:none']", (), "there is no image 'none'"),
        ("init: ['@pkg:none']", (), "bad.yml:1:8"),
        ("init: ['docker-archive:.']", (), "bad.yml:1:8: 'docker-archive:.' names a folder"),
        ("files: [{path: a, contents: b}]", ("--format=iso",), "needs a kernel"),
        ("outputs: [{format: none}]", ("--format=tar",), "bad.yml:1:20: there is no format 'none'"),
        ("files: []", ("--format=none",), "there is no format 'none'"),
        (
            "kernel: {image: 'oci:layout:test/kernel:1'}",
            ("--format=iso,iso-bios",),
            "bad.iso: formats iso and",
        ),
        (
            "trust: {org: [a]}",
            ("--format=tar",),
            "bad.yml:1:8: trust: a must be signed, but no keys are named",
        ),
        ("a: \xff", (), "bad.yml:1:4: not well-formed YAML"),
    ],
)
def test_faults_are_told_and_nothing_is_printed(
    project: Project, text: str, arguments: tuple[str, ...], message: str
) -> None:
    (project.root / "bad.yml").write_bytes(text.encode("latin-1"))
    out, err = moby(project, "--dry-run", *arguments, "bad.yml", status=1)
    assert out == ""
    assert message in err


def test_standard_input_is_a_yaml_of_this_folder(project: Project) -> None:
    """Its paths count from here, messages call it ``-``, and the same text again has nothing to do."""
    yml = (project.root / "tiny.yml").read_bytes()
    line = ("--format=kernel+initrd", "-")
    moby(project, *line, stdin=yml)
    assert (project.root / "linuxkit-kernel").read_bytes() == b"KERNEL"
    assert "is up to date" in moby(project, *line, stdin=yml)[0]
    before = (project.root / "linuxkit-initrd.img").read_bytes()
    moby(project, *line, stdin=yml.replace(b"hello", b"other"))
    assert (project.root / "linuxkit-initrd.img").read_bytes() != before
    moby(project, *line, stdin=yml)
    assert (project.root / "linuxkit-initrd.img").read_bytes() == before
    fault = yml.replace(b"local.txt", b"none.txt")
    assert "moby: -:16:5: there is no file 'none.txt'" in moby(project, *line, stdin=fault, status=1)[1]


def test_standard_input_of_another_folder_is_another_yaml(project: Project, tmp_path: Path) -> None:
    """The outputs' folder and name are the same, and so is the text; the file that it names is not."""
    yml = (project.root / "tiny.yml").read_bytes()
    other = Project(tmp_path / "other")
    shutil.copytree(project.root / "layout", other.root / "layout")
    (other.root / "local.txt").write_text("another\n")
    line = ("--format=kernel+initrd", f"--dir={tmp_path / 'out'}", "-")
    moby(project, *line, stdin=yml)
    before = (tmp_path / "out" / "linuxkit-initrd.img").read_bytes()
    environment = {**other.environment(), "LINUXKIT_STORE": str(project.root / "store")}
    command = [sys.executable, "-m", "linuxkit_rules", "build", *line]
    subprocess.run(command, cwd=other.root, env=environment, input=yml, check=True, capture_output=True)
    assert (tmp_path / "out" / "linuxkit-initrd.img").read_bytes() != before


def test_standard_input_beside_files(project: Project) -> None:
    more = b"files: [{path: etc/more, contents: more}]\n"
    both = moby(project, "--dry-run", "--format=tar", "tiny.yml", "-", stdin=more)[0]
    files = [file.path for file in loads(both, "f.yml").files]
    assert files == ["etc/greeting", "etc/local", "etc/more"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("-", "-"), "-: standard input can be read once only"),
        (("https://example.org/linuxkit.yml",), "https://example.org/linuxkit.yml: is a URL"),
    ],
)
def test_files_that_cannot_be_read(project: Project, files: tuple[str, ...], message: str) -> None:
    assert message in moby(project, *files, stdin=b"{}", status=1)[1]


def test_paths_that_a_yaml_cannot_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a:b", "~", "link/../c"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "a.yml").write_text("files: [{path: f, source: x}]\n")
    assert [file.source for file in relocated(load_all([Path("~/a.yml")])).files] == ["./~/x"]
    assert [file.source for file in relocated(load_all([Path("a:b/a.yml")])).files] == ["a:b/x"]
    Path("a:b/a.yml").write_text("init: ['oci:x']\n")
    with pytest.raises(SpecError, match="cannot be written with the folder"):
        relocated(load(Path("a:b/a.yml")))


def test_dots_stay_where_a_link_is_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("far/deep").mkdir(parents=True)
    Path("link").symlink_to("far/deep")
    Path("far/deep/a.yml").write_text("files: [{path: f, source: ../x}]\n")
    assert "source: link/../x" in emit(relocated(load(Path("link/a.yml"))))
    assert "source: far/x" in emit(relocated(load(Path("far/deep/a.yml"))))


@pytest.mark.skipif(not CASES, reason=f"the conformance suite is not at {SUITE}")
@pytest.mark.parametrize("case", CASES)
def test_cases_of_linuxkit_are_planned_to_the_same_steps(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SUITE / "cases" / case
    record = json.loads((folder / "golden.json").read_text())
    monkeypatch.chdir(tmp_path)
    wanted = plan({name: folder / name for name in record["inputs"]}, case, settings(folder, record))
    Path("one.yml").write_text(emit(relocated(wanted.spec)))
    found = plan({"one.yml": Path("one.yml")}, case, settings(folder, record))
    assert recipes(found) == recipes(wanted)


def recipes(parts: Parts) -> tuple[str, list[tuple[str, tuple[tuple[str, int | str], ...]]]]:
    """Everything that decides bytes."""
    steps = {str(index): step for index, step in enumerate((parts.initrd, *parts.members))}
    tasks, _, _ = outline({"all": steps | ({"kernel": parts.kernel} if parts.kernel else {})})[0]
    return parts.cmdline, [(task.recipe, task.inputs) for task in tasks]
