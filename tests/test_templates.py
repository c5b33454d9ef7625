"""@pkg: templates of LinuxKit packages: golden references, what makes them dirty, what is refused."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.errors import LinuxKitError, SpecError
from linuxkit_rules.host import git_environment
from linuxkit_rules.plan.image import plan
from linuxkit_rules.plan.memo import Evidence, Memo
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.sources import Sources
from linuxkit_rules.plan.template import resolved, with_references
from linuxkit_rules.spec.linuxkit import loads
from linuxkit_rules.spec.merge import load_all
from linuxkit_rules.spec.metadata import metadata
from linuxkit_rules.spec.package import parse_package
from tests.project import Project

SUITE = Path(__file__).resolve().parents[2] / "shared" / "conformance"
GOLDEN = SUITE / "templates" / "golden.json"
STATES = json.loads(GOLDEN.read_text())["states"] if GOLDEN.is_file() else []
ALPHA, GAMMA = "@pkg:./pkg/alpha", "@pkg:./pkg/gamma"

needs_suite = pytest.mark.skipif(not STATES, reason=f"the conformance suite is not at {SUITE}")
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not on the PATH")


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings of git out."""
    (tmp_path / "gitconfig").write_text(
        "[user]\nname = t\nemail = t@example.com\n[protocol]\nallow = always\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def git(folder: Path, *arguments: str, **more: str) -> str:
    environment = {k: v for k, v in git_environment().items() if k != "GIT_ALLOW_PROTOCOL"} | more
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.strip()


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def commit(root: Path) -> None:
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--message", "more")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with the packages alpha and gamma, which takes alpha as an extra source."""
    root = tmp_path / "repo"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    write(
        root,
        {
            "pkg/alpha/build.yml": "image: alpha\n",
            "pkg/alpha/f": "data\n",
            "pkg/gamma/build.yml": "image: gamma\nextra-sources:\n  - ../alpha:src\n",
            "other": "x\n",
        },
    )
    commit(root)
    return root


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """The repository of the conformance suite."""
    root = tmp_path / "recorded"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=master")
    stream = (SUITE / "templates" / "repo.fast-import").read_bytes()
    subprocess.run(
        ["git", "fast-import", "--quiet"], cwd=root, env=git_environment(), input=stream, check=True
    )
    git(root, "checkout", "--quiet", "master")
    return root


def put_right(template: str, upstream: str, all_of_state: dict[str, str]) -> str:
    """Give what the golden reference begins with once its known defects are mended."""
    head, _, digits = upstream.partition("-dirty-")
    if template.endswith("beta"):
        head = head.replace(":", ":v1-")
    if template.endswith("gamma"):
        digits = digits or all_of_state[ALPHA].partition("-dirty-")[2]
    return f"{head}-dirty-" if digits else head


@needs_suite
@pytest.mark.parametrize("state", STATES, ids=lambda state: state["state"])
def test_golden_state(recorded: Path, state: dict) -> None:
    write(recorded, state["write"])
    for name, mode in state["chmod"].items():
        (recorded / name).chmod(int(mode, 8))
    for name in state["delete"]:
        (recorded / name).unlink()
    for template, upstream in state["refs"].items():
        found, wanted = resolved(template, recorded), put_right(template, upstream, state["refs"])
        if wanted.endswith("-dirty-"):
            digits = found.removeprefix(wanted)
            assert len(digits) == 7
            assert set(digits) <= set("0123456789abcdef")
        else:
            assert found == wanted


@needs_suite
def test_tag_is_that_of_show_tag(recorded: Path) -> None:
    shown = json.loads(GOLDEN.read_text())["show_tag"]
    assert shown
    for folder, reference in shown.items():
        assert resolved(f"@pkg:{folder}", recorded) == f"docker.io/{reference}"


@needs_suite
def test_only_images_are_templates(recorded: Path) -> None:
    spec = load_all([recorded / "os.yml"])
    found = with_references(spec, lambda text, where: resolved(text, recorded))
    assert [text.partition(":")[0] for text in found.init] == [
        "docker.io/linuxkit/alpha",
        "docker.io/myorg/beta",
    ]
    assert found.onboot[0].config.command == (ALPHA, "@unknown", "x@pkg:./pkg/alpha")


@needs_suite
@pytest.mark.parametrize(
    ("case", "words"),
    [("template-unknown", ["'@nosuch'", "@pkg:"]), ("template-missing-pkg", ["'nosuch'", "build.yml"])],
)
def test_invalid_case_is_refused_at_its_place(case: str, words: list[str]) -> None:
    path = SUITE / "invalid" / case / "linuxkit.yml"
    with pytest.raises(LinuxKitError) as caught:
        plan({"linuxkit.yml": path}, "x", Settings(layouts=(SUITE / "images",)))
    assert str(caught.value).startswith("linuxkit.yml:3:12: ")
    for word in words:
        assert word in str(caught.value)


def test_templates_of_every_section_and_in_metadata(repo: Path) -> None:
    entry = f"  - {{name: n, image: '{ALPHA}', command: ['{ALPHA}']}}\n"
    sections = "".join(f"{kind}:\n" + entry for kind in ("onboot", "onshutdown", "services"))
    text = f"kernel: {{image: '{ALPHA}', cmdline: '{ALPHA}'}}\ninit: ['{ALPHA}', 'x:1']\n{sections}"
    text += f"volumes: [{{name: v, image: '{ALPHA}'}}]\nfiles: [{{path: f, contents: '{ALPHA}'}}]\n"
    found = with_references(loads(text, "box.yml"), lambda text, where: f"{where.partition(':')[0]}={text}")
    value = json.loads(metadata(found, "json"))
    new = f"box.yml={ALPHA}"
    assert (value["kernel"]["image"], value["kernel"]["cmdline"]) == (new, ALPHA)
    assert value["init"] == [new, "docker.io/library/x:1"]
    for kind in ("onboot", "onshutdown", "services"):
        assert (value[kind][0]["image"], value[kind][0]["command"]) == (new, [ALPHA])
    assert (value["volumes"][0]["image"], value["files"][0]["contents"]) == (new, ALPHA)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def changes() -> dict[str, Callable[[Path], object]]:
    """Give edits of a package's folder, no two of which give the same files."""
    return {
        "edited": lambda at: write(at, {"f": "changed\n"}),
        "deleted": lambda at: (at / "f").unlink(),
        "executable": lambda at: (at / "f").chmod(0o755),
        "renamed": lambda at: (at / "f").rename(at / "g"),
        "new": lambda at: write(at, {"new": "x"}),
        "new elsewhere": lambda at: write(at, {"sub/new": "x"}),
        "new name": lambda at: write(at, {"new2": "x"}),
        "boundary": lambda at: write(at, {"a": "xy", "b": "z"}),
        "other boundary": lambda at: write(at, {"a": "x", "b": "yz"}),
        "empty file": lambda at: write(at, {"a": "xyz", "b": ""}),
        "no empty file": lambda at: write(at, {"a": "xyz"}),
        "link": lambda at: (at / "new").symlink_to("f"),
        "other link": lambda at: (at / "new").symlink_to("build.yml"),
        "file like the link": lambda at: write(at, {"new": "f"}),
        "file like where the link leads": lambda at: write(at, {"new": "data\n"}),
        "line break in a name": lambda at: write(at, {"n\nm": "x"}),
        "name that is not UTF-8": lambda at: (at / os.fsdecode(b"n\xff")).write_text("x"),
        "two files": lambda at: write(at, {"m": "x", "n": "y"}),
        "one file named like a row": lambda at: write(at, {f"m100644{sha256('y')}n": "x"}),
        "build.yml": lambda at: write(at, {"build.yml": "image: alpha\n# more\n"}),
    }


def test_whatever_differs_gives_another_tag(repo: Path) -> None:
    clean = resolved(ALPHA, repo), resolved(GAMMA, repo)
    found = {}
    for name, change in changes().items():
        change(repo / "pkg" / "alpha")
        found[name] = resolved(ALPHA, repo)
        assert found[name].startswith(f"{clean[0]}-dirty-"), name
        assert resolved(GAMMA, repo).startswith(f"{clean[1]}-dirty-"), name
        git(repo, "reset", "--quiet", "--hard")
        git(repo, "clean", "--quiet", "-d", "--force")
    assert len(set(found.values())) == len(found), found
    assert (resolved(ALPHA, repo), resolved(GAMMA, repo)) == clean


def test_edited_extra_source_has_digits_of_its_own(repo: Path) -> None:
    write(repo, {"pkg/alpha/f": "one\n"})
    one = resolved(GAMMA, repo)
    write(repo, {"pkg/alpha/f": "two\n"})
    assert resolved(GAMMA, repo) != one
    git(repo, "checkout", "--quiet", "pkg/alpha")
    write(repo, {"pkg/gamma/f": "two\n"})
    assert len({one, resolved(GAMMA, repo)}) == 2


def test_extra_sources_of_another_repository_and_their_order(repo: Path, tmp_path: Path) -> None:
    shutil.copytree(repo, tmp_path / "second")
    names = []
    for order in (
        ["../../../second/pkg/alpha:a", "../gamma:b"],
        ["../gamma:b", "../../../second/pkg/alpha:a"],
    ):
        write(repo, {"pkg/delta/build.yml": f"image: delta\nextra-sources: {json.dumps(order)}\n"})
        commit(repo)
        names.append(resolved("@pkg:./pkg/delta", repo))
    assert len(set(names)) == 2
    write(tmp_path / "second", {"pkg/alpha/f": "changed\n"})
    assert resolved("@pkg:./pkg/delta", repo).startswith(f"{names[1]}-dirty-")


def test_same_files_have_the_same_tag_wherever_and_however(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "repo", "clone")
    for root in (repo, tmp_path / "clone"):
        write(root, {"pkg/alpha/new": "x\n", "pkg/alpha/f": "changed\n"})
    git(repo, "add", "pkg/alpha")
    (repo / "pkg" / "alpha" / "f").chmod(0o600)
    assert resolved(ALPHA, repo) == resolved(ALPHA, tmp_path / "clone")


def test_ignored_files_do_not_count_unless_tracked(repo: Path) -> None:
    write(repo, {".gitignore": "*.o\n", "pkg/alpha/tracked.o": "x"})
    commit(repo)
    clean = resolved(ALPHA, repo)
    write(repo, {"pkg/alpha/new.o": "x"})
    assert resolved(ALPHA, repo) == clean
    write(repo, {"pkg/alpha/tracked.o": "y"})
    assert "-dirty-" in resolved(ALPHA, repo)


def test_touched_file_is_clean_and_nothing_is_written(repo: Path) -> None:
    clean = resolved(ALPHA, repo)
    os.utime(repo / "pkg" / "alpha" / "f", (1, 1))
    before = {path: path.read_bytes() for path in (repo / ".git").rglob("*") if path.is_file()}
    assert resolved(ALPHA, repo) == clean
    assert {path: path.read_bytes() for path in (repo / ".git").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["a b", ":(top)x", "*", "-x", "n\nm", 'q"', "Ä", "HEAD:x"])
def test_folder_of_any_name(repo: Path, name: str) -> None:
    write(repo, {f"{name}/build.yml": "image: odd\n"})
    commit(repo)
    clean = resolved(f"@pkg:./{name}", repo)
    row = git(repo, "ls-tree", "-z", "HEAD").split("\0")
    (tree,) = [item.split()[2] for item in row if item.partition("\t")[2] == name]
    assert clean == f"docker.io/linuxkit/odd:{tree}"
    write(repo, {f"{name}/new": ""})
    assert resolved(f"@pkg:./{name}", repo).startswith(f"{clean}-dirty-")


def test_folder_at_the_top_of_a_repository_of_sha256(tmp_path: Path) -> None:
    root = tmp_path / "top"
    root.mkdir()
    git(root, "init", "--quiet", "--object-format=sha256")
    write(root, {"build.yml": "image: top\norg: ghcr.io/team\n"})
    commit(root)
    tree = git(root, "rev-parse", "HEAD^{tree}")
    assert resolved("@pkg:.", root) == f"ghcr.io/team/top:{tree}"
    assert len(tree) == 64


def test_link_to_a_package_is_the_package(repo: Path) -> None:
    (repo / "link").symlink_to("pkg/alpha")
    assert resolved("@pkg:./link", repo) == resolved(ALPHA, repo)


def test_hook_s_variables_do_not_matter(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = resolved(ALPHA, repo)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    assert resolved(ALPHA, repo) == clean


def test_worktree_has_its_own_state(repo: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(repo, "worktree", "add", "--quiet", "-b", "side", str(tree))
    evidence, memo = Evidence(), Memo(tmp_path / "store")
    clean = resolved(ALPHA, tree, evidence)
    memo.keep("question", clean, evidence)
    assert clean == resolved(ALPHA, repo)
    write(repo, {"pkg/alpha/f": "changed\n"})
    assert resolved(ALPHA, tree) == clean
    assert memo.recall("question")
    write(tree, {"pkg/alpha/f": "committed\n"})
    commit(tree)
    assert memo.recall("question") is None
    committed = resolved(ALPHA, tree)
    assert committed not in (clean, resolved(ALPHA, repo))
    evidence = Evidence()
    memo.keep("question", resolved(ALPHA, tree, evidence), evidence)
    git(tree, "symbolic-ref", "HEAD", "refs/heads/main")
    assert memo.recall("question") is None
    assert resolved(ALPHA, tree) != committed


def test_package_in_a_submodule_is_named_by_it(repo: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    git(outer, "init", "--quiet")
    git(outer, "submodule", "--quiet", "add", str(repo), "sub")
    git(outer, "commit", "--quiet", "--message", "sub")
    assert resolved("@pkg:./sub/pkg/alpha", outer) == resolved(ALPHA, repo)
    git(tmp_path, "clone", "--quiet", "outer", "empty")
    refused("@pkg:./sub/pkg/alpha", tmp_path / "empty", "git submodule update --init")


def refused(text: str, base: Path, *words: str) -> None:
    with pytest.raises(LinuxKitError) as caught:
        Sources(Settings()).reference(text, base, "box.yml:7:12")
    assert str(caught.value).startswith("box.yml:7:12: ")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image: a\ntag: '{{.Time}}'\n", ["'{{.Time}}'", "{{.Hash}}", "build.yml:2:6"]),
        ("image: a\ntag: 'a b'\n", ["'a b' is not a tag", "build.yml"]),
        ("image: A\n", ["lower case", "build.yml"]),
        ("image: ''\n", ["image: must not be empty"]),
        ("org: x\n", ["image is missing"]),
        ("image: a\npakages: [redis]\n", ["did you mean 'packages'?", "build.yml:2:1"]),
        ("image: a\nextra-sources: [../alpha]\n", ["'../alpha' must be source:destination"]),
        ("image: a\nextra-sources: [../nosuch:x]\n", ["no folder '../nosuch'"]),
        ("- a\n", ["must be a mapping"]),
        ("image: [\n", ["not well-formed"]),
    ],
)
def test_faulty_build_yml_is_refused(repo: Path, text: str, words: list[str]) -> None:
    write(repo, {"pkg/bad/build.yml": text})
    commit(repo)
    refused("@pkg:./pkg/bad", repo, *words)


def test_folder_that_git_cannot_name_is_refused(repo: Path, tmp_path: Path) -> None:
    write(tmp_path, {"outside/p/build.yml": "image: p\n"})
    refused("@pkg:./p", tmp_path / "outside", "in no git repository", "packages: []")
    write(repo, {"new/build.yml": "image: p\n"})
    refused("@pkg:./new", repo, "not in the last commit", "commit it first")
    git(tmp_path / "outside", "init", "--quiet")
    refused("@pkg:./p", tmp_path / "outside", "not in the last commit")
    (tmp_path / "outside" / ".git" / "config").write_text("[broken\n")
    refused("@pkg:./p", tmp_path / "outside", "git says: bad config line")


def test_repository_inside_a_package_is_refused(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "repo", "second")
    git(repo, "submodule", "--quiet", "add", str(tmp_path / "second"), "pkg/alpha/sub")
    refused(ALPHA, repo, "'sub'", "submodule")
    refused(GAMMA, repo, "'sub'", "submodule")
    git(repo, "reset", "--quiet", "--hard")
    shutil.copytree(tmp_path / "second", repo / "pkg" / "alpha" / "nested")
    refused(ALPHA, repo, "'nested'")


def test_git_that_is_missing_is_told(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo))
    refused(ALPHA, repo, "git is not on the PATH", "install git")
    refused("@pkg:./nosuch", repo, "build.yml is missing")


@pytest.mark.parametrize(
    ("text", "is_package"),
    [
        ("image: a\n", True),
        ("image: a\nconfig: {pid: host}\narches: [amd64]\nnetwork: true\ndockerfile: D\n", True),
        ("image: a\ndepends: {docker-images: {list: [x]}}\nbuildArgs: [A=b]\ngitrepo: x\n", True),
        ("image: a\npackages: []\n", False),
        ("image: a\ncmd: [/a]\nextra-sources: [b:c]\n", False),
        ("image: a\narch: [amd64]\n", False),
    ],
)
def test_own_keys_make_a_component(text: str, is_package: bool) -> None:
    assert (parse_package(text, "build.yml") is not None) == is_package


def test_component_stays_a_component(repo: Path) -> None:
    write(repo, {"mine/build.yml": "image: mine\npackages: []\n", "redis/build.yml": "image: other\n"})
    commit(repo)
    for text in ("@pkg:./mine", "@pkg:redis", "@pkg:mine", "redis:7", "", "oci:x"):
        assert resolved(text, repo) == text
    assert Sources(Settings()).image("@pkg:mine", repo, "x").stage.name == "component"


def test_bare_name_is_a_folder_where_the_library_has_none(repo: Path) -> None:
    assert resolved("@pkg:alpha", repo / "pkg") == resolved(ALPHA, repo)
    with pytest.raises(SpecError, match="the library has"):
        resolved("@pkg:nosuch", repo)


def test_plan_is_forgotten_when_a_link_leads_elsewhere(repo: Path, tmp_path: Path) -> None:
    (repo / "link").symlink_to("pkg/alpha")
    evidence, memo = Evidence(), Memo(tmp_path / "store")
    memo.keep("question", resolved("@pkg:./link", repo, evidence), evidence)
    (repo / "link").unlink()
    shutil.copytree(repo / "pkg" / "alpha", repo / "pkg" / "copy")
    (repo / "link").symlink_to("pkg/copy")
    assert memo.recall("question") is None


def test_plan_is_forgotten_when_the_folder_comes_into_another_repository(repo: Path, tmp_path: Path) -> None:
    evidence, memo = Evidence(), Memo(tmp_path / "store")
    memo.keep("question", resolved(ALPHA, repo, evidence), evidence)
    git(repo / "pkg", "init", "--quiet")
    assert memo.recall("question") is None
    refused(ALPHA, repo, "not in the last commit")


def to_branch(root: Path) -> None:
    git(root, "checkout", "--quiet", "-b", "side")
    edit_and_commit(root)
    git(root, "checkout", "--quiet", "main")


def to_packed(root: Path) -> None:
    edit_and_commit(root)
    git(root, "pack-refs", "--all", "--prune")


def forget_last_packed(root: Path) -> None:
    """Set the branch back in the file of packed references, as a fetch may do."""
    path = root / ".git" / "packed-refs"
    new, old = git(root, "rev-parse", "HEAD", "HEAD^").split()
    path.write_text(path.read_text().replace(new, old))


def edit_and_commit(root: Path) -> None:
    write(root, {"pkg/alpha/f": "committed\n"})
    commit(root)


NOTICED: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "commit": (lambda root: None, edit_and_commit),
    "commit after packing": (lambda root: git(root, "pack-refs", "--all"), edit_and_commit),
    "commit of what is there": (lambda root: write(root, {"pkg/alpha/f": "committed\n"}), commit),
    "amended": (edit_and_commit, lambda root: git(root, "reset", "--quiet", "--soft", "HEAD^")),
    "another branch": (to_branch, lambda root: git(root, "checkout", "--quiet", "side")),
    "packed reference": (to_packed, forget_last_packed),
    "detached": (
        lambda root: (edit_and_commit(root), git(root, "checkout", "--quiet", "--detach")),
        lambda root: git(root, "reset", "--quiet", "--hard", "HEAD^"),
    ),
    "edit": (lambda root: None, lambda root: write(root, {"pkg/alpha/f": "changed\n"})),
    "edit when dirty": (
        lambda root: write(root, {"pkg/alpha/new": "1"}),
        lambda root: write(root, {"pkg/alpha/new": "2"}),
    ),
    "link": (
        lambda root: (root / "pkg/alpha/l").symlink_to("a"),
        lambda root: ((root / "pkg/alpha/l").unlink(), (root / "pkg/alpha/l").symlink_to("b")),
    ),
    "mode": (lambda root: None, lambda root: (root / "pkg/alpha/f").chmod(0o755)),
    "gone": (lambda root: None, lambda root: (root / "pkg/alpha/f").unlink()),
    "untracked": (lambda root: None, lambda root: write(root, {"pkg/alpha/new": ""})),
    "ignored": (
        lambda root: write(root, {"pkg/alpha/new": ""}),
        lambda root: write(root, {".gitignore": "new\n"}),
    ),
    "excluded": (
        lambda root: write(root, {"pkg/alpha/new": ""}),
        lambda root: write(root, {".git/info/exclude": "new\n"}),
    ),
    "excluded by the user": (
        lambda root: write(root, {"pkg/alpha/new": ""}),
        lambda root: write(root.parent, {"xdg/git/ignore": "new\n"}),
    ),
    "added although ignored": (
        lambda root: write(root, {".gitignore": "new\n", "pkg/alpha/new": ""}),
        lambda root: git(root, "add", "--force", "pkg/alpha/new"),
    ),
    "modes switched off": (
        lambda root: (root / "pkg/alpha/f").chmod(0o755),
        lambda root: git(root, "config", "core.fileMode", "false"),
    ),
}


@pytest.mark.parametrize("text", [ALPHA, GAMMA])
@pytest.mark.parametrize("name", NOTICED)
def test_plan_is_forgotten_when_the_tag_changes(repo: Path, tmp_path: Path, name: str, text: str) -> None:
    before, change = NOTICED[name]
    before(repo)
    evidence, memo = Evidence(), Memo(tmp_path / "store")
    found = resolved(text, repo, evidence)
    memo.keep("question", found, evidence)
    write(repo, {"other": "changed\n", "pkg/other": "new\n"})
    assert memo.recall("question"), "a change elsewhere"
    change(repo)
    assert resolved(text, repo) != found
    assert memo.recall("question") is None


def test_build_follows_commits_and_edits(tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project")
    root = project.root
    git(root, "init", "--quiet")
    write(root, {"app/build.yml": "image: app\norg: test\n", "app/f": "one\n"})
    git(root, "add", "app")
    git(root, "commit", "--quiet", "--message", "one")
    project.edit('test/app:1\n    command: ["/app", "one"]', '"@pkg:./app"\n    command: ["@pkg:./app"]')
    layout(root, resolved("@pkg:./app", root))
    project.scons()
    project.scons()
    assert project.ran() == []
    write(root, {"app/new": "x\n"})
    printed = project.scons(check=False, LINUXKIT_OFFLINE="1")
    assert resolved("@pkg:./app", root) in printed
    assert "-dirty-" in printed
    git(root, "add", "app")
    git(root, "commit", "--quiet", "--message", "two")
    assert resolved("@pkg:./app", root) in project.scons(check=False, LINUXKIT_OFFLINE="1")
    layout(root, resolved("@pkg:./app", root))
    project.scons()


def layout(root: Path, reference: str) -> None:
    """Give the layout's image test/app:1 one more name."""
    path = root / "layout" / "index.json"
    index = json.loads(path.read_text())
    name = "org.opencontainers.image.ref.name"
    (app,) = [item for item in index["manifests"] if item["annotations"][name].endswith("test/app:1")]
    index["manifests"].append({**app, "annotations": {name: reference}})
    path.write_text(json.dumps(index))
