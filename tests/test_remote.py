"""The remote cache by Bazel's HTTP protocol, against nginx."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import DamagedError, SignatureError, UsageError
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.oci.credentials import DockerConfig
from linuxkit_rules.oci.verify import Requirement
from linuxkit_rules.remote.action_result import decode
from linuxkit_rules.scons.progress import Display
from linuxkit_rules.stages.image import PullImage
from linuxkit_rules.stages.stage import key
from linuxkit_rules.stages.verify import VerifySignature
from linuxkit_rules.store.gc import Policy, collect
from linuxkit_rules.store.memory import Result
from linuxkit_rules.store.verify import verify
from tests.builds import SUFFIXES
from tests.caching import machine
from tests.images import Blobs, tar
from tests.project import Project
from tests.servers.certificates import Authority
from tests.servers.dav import DavServer, dav_server
from tests.servers.processes import serving
from tests.servers.registry import push
from tests.signing import signer

OUTPUTS = tuple(f"out/tiny{suffix}" for suffix in SUFFIXES)


@pytest.fixture
def dav(tmp_path: Path) -> Iterator[DavServer]:
    with dav_server(tmp_path) as server:
        yield server


def counted(asked: list[tuple[str, str, int]]) -> dict[tuple[str, str, int], int]:
    """How often each method, kind and status occurs."""
    found: dict[tuple[str, str, int], int] = {}
    for method, path, status in asked:
        key = method, path.split("/")[-2], status
        found[key] = found.get(key, 0) + 1
    return found


def test_second_machine_runs_nothing_and_fetches_what_is_read(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    assert one.read(b"a") == b"A"
    assert one.finish() == 0
    asked = dav.asked()
    assert asked[0][0] == "GET"
    assert counted(asked) == {
        ("GET", "ac", 404): 1,
        ("HEAD", "cas", 404): 2,
        ("PUT", "cas", 201): 2,
        ("PUT", "ac", 201): 1,
    }
    assert asked[-1][1].startswith("/ac/")  # the blobs before the result that names them
    assert two.read(b"a") == b"A"
    assert counted(dav.asked()) == {("GET", "ac", 200): 1, ("GET", "cas", 200): 1}
    assert (one.events, two.events) == (["run"], ["remote"])
    assert one.warnings + two.warnings == []


def test_what_came_is_known_to_the_store_like_what_was_made(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    one.read(b"a")
    one.finish()
    two.read(b"a")
    dav.asked()
    assert machine(tmp_path / "2", dav.url).read(b"a") == b"A"
    assert dav.asked() == []


def test_large_blobs_are_seen_coming(
    dav: DavServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url, watch=Display())
    one.shout(b"a", times=2_000_000)
    one.finish()
    assert two.read(b"a", times=2_000_000) == b"A" * 2_000_000
    name = Digest.of(b"A" * 2_000_000).hex[:12]
    assert capsys.readouterr().out == f"  fetched {dav.url} {name} (2.0 MB)\n"


def test_promise_belongs_to_the_cache_that_gave_it(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    one.read(b"a")
    one.finish()
    two.shout(b"a")
    for url in (f"{dav.url}/other", ""):
        other = machine(tmp_path / "2", url, write=False)
        if not url:
            other.engine.remote = other.store.promises = None
        assert other.read(b"a") == b"A"
        assert other.events == ["run"]
        for path in (tmp_path / "2" / "store" / "blobs" / "sha256").iterdir():
            path.unlink()


def test_prefix_of_the_url(dav: DavServer, tmp_path: Path) -> None:
    url = f"{dav.url}/some/where/"
    one, two = machine(tmp_path / "1", url), machine(tmp_path / "2", url)
    one.read(b"a")
    one.finish()
    assert two.read(b"a") == b"A"
    assert len(list((dav.data / "some" / "where" / "ac").iterdir())) == 1


def test_empty_blobs_travel_too(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    one.read(b"")
    assert one.finish() == 0
    assert two.read(b"") == b""
    assert two.events == ["remote"]


def test_reading_only_sends_nothing(dav: DavServer, tmp_path: Path) -> None:
    assert machine(tmp_path / "1", dav.url, write=False).read(b"a") == b"A"
    assert counted(dav.asked()) == {("GET", "ac", 404): 1}


def test_hits_and_blobs_that_are_there_are_not_sent(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    one.read(b"a")
    one.finish()
    dav.asked()
    two.read(b"a")
    two.read(b"A")  # another recipe with the same output
    two.finish()
    assert counted(dav.asked()) == {
        ("GET", "ac", 200): 1,
        ("GET", "ac", 404): 1,
        ("GET", "cas", 200): 1,
        ("HEAD", "cas", 200): 2,
        ("PUT", "ac", 201): 1,
    }


BASIC = 'auth_basic "tests"; auth_basic_user_file {file};'


@pytest.mark.parametrize("way", ["url", "docker", "token", "none", "wrong"])
def test_login(way: str, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("me:{PLAIN}pa%ss w\n")
    rules = BASIC.format(file=tmp_path / "users")
    if way == "token":
        rules = 'if ($http_authorization != "Bearer sesame") { return 401; }'
    with dav_server(tmp_path, rules) as dav:
        account = {"url": "me:pa%25ss%20w@", "wrong": "me:other@"}.get(way, "")
        url = f"http://{account}{dav.host}"
        auth = base64.b64encode(b"me:pa%ss w").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {dav.host: {"auth": auth}}}))
        files = (tmp_path / "config.json",) if way == "docker" else ()
        given = {"credentials": DockerConfig(files), "token": "sesame" if way == "token" else ""}
        one, two = (machine(tmp_path / name, url, **given) for name in "12")
        assert [one.read(b"a"), one.finish(), two.read(b"a"), two.finish()] == [b"A", 0, b"A", 0]
        if way in ("none", "wrong"):
            assert two.events == ["run"]
            assert len(one.warnings) == len(two.warnings) == 1
            assert "LINUXKIT_REMOTE_CACHE_TOKEN" in one.warnings[0]
            assert "other" not in one.warnings[0]
            assert {status for _, _, status in dav.asked()} == {401}
        else:
            assert two.events == ["remote"]
            assert one.warnings + two.warnings == []


def test_tls(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    with dav_server(tmp_path, authority=authority) as dav:
        one, two = (machine(tmp_path / name, dav.url, ca_files=(authority.file,)) for name in "12")
        assert [one.read(b"a"), one.finish(), two.read(b"a")] == [b"A", 0, b"A"]
        assert (two.events, two.warnings) == (["remote"], [])
        stranger = machine(tmp_path / "3", dav.url)
        assert [stranger.read(b"a"), stranger.read(b"b")] == [b"A", b"B"]
        assert stranger.events == ["run", "run"]
        (warning,) = stranger.warnings
        assert "CERTIFICATE_VERIFY_FAILED" in warning
        assert "LINUXKIT_CA_FILES" in warning


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://x/", "is no URL of a cache"),
        ("https://", "is no URL of a cache"),
        ("https://x:y/", "is no URL"),
        ("https://me:secret@x/?a=b", "has a query"),
        ("http://me:secret@example.com/", "without TLS"),
        ("oci://", "is not an image reference"),
        ("oci://localhost/a:1", "names a tag"),
        ("oci://localhost/a@sha256:" + "0" * 64, "names a tag or digest"),
    ],
)
def test_url_that_cannot_be(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        machine(tmp_path, url).read(b"a")
    assert "secret" not in str(caught.value)


def test_blob_that_the_cache_has_dropped_is_made_again(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    one.read(b"a")
    one.finish()
    for path in dav.files("cas"):
        path.unlink()
    output = two.shout(b"a")
    with pytest.raises(DamagedError, match="is not in the store"):
        two.store.read(output.digest)
    assert two.read(b"a") == b"A"
    assert two.events == ["remote", "run"]
    two.finish()
    assert len(dav.files("cas")) == 2
    assert two.warnings == []


def test_blob_that_has_rotted_in_the_cache_is_sent_anew(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    output = one.shout(b"a")
    one.finish()
    rotten = dav.data / "cas" / output.digest.hex
    rotten.write_bytes(b"B")
    assert two.read_anew(b"a") == b"A"
    two.finish()
    assert rotten.read_bytes() == b"A"


def test_promised_blob_has_a_size_and_comes_when_it_is_copied(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    output = one.shout(b"abc")
    one.finish()
    two.shout(b"abc")
    assert not two.store.has(output)
    assert two.store.can_have(output)
    assert two.store.size(output.digest) == 3
    for start, size in ((0, 3), (1, 2)):
        out = io.BytesIO()
        two.store.copy(Slice(output.digest, start, size), out)
        assert out.getvalue() == b"ABC"[start:]
    assert two.store.has(output)
    with pytest.raises(DamagedError):
        two.store.size(Digest.of(b"nothing of this name"))


def test_gc_and_verify_know_promises(dav: DavServer, tmp_path: Path) -> None:
    one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    one.shout(b"a")
    one.finish()
    two.shout(b"a")
    root = two.store.root
    assert collect(root, Policy()).entries == 0
    found = verify(root)
    assert (found.incomplete, found.is_sound) == (0, True)
    del two
    later = collect(root, Policy(), clock=lambda: 2e10)
    assert (later.entries, later.notes) == (0, 2)
    assert collect(root, Policy(), clock=lambda: 2e10).entries == 1
    again = machine(tmp_path / "2", dav.url)
    assert again.read(b"a") == b"A"
    assert again.events == ["remote"]


def test_what_is_not_the_same_everywhere_is_not_shared() -> None:
    digest = Digest("0" * 64)
    requirement = Requirement((), 1, "docker.io/library/a")
    assert not VerifySignature(digest, requirement, lambda: None).is_shared()  # type: ignore[arg-type, return-value]
    assert not PullImage("docker.io/library/a:1", "amd64").is_shared()
    assert PullImage(f"docker.io/library/a@{digest}", "amd64").is_shared()
    assert not PullImage(f"docker.io/library/a@{digest}", "amd64", trust=(requirement,)).is_shared()


def test_no_cache_says_that_an_image_is_signed(dav: DavServer, registry: str, tmp_path: Path) -> None:
    """Not even one that has been told so, under the very keys that are looked for."""
    blobs = Blobs()
    top, name = blobs.image([tar(a=b"1")]), f"{registry}/team/unsigned"
    push(registry, blobs, top, "team/unsigned", "1")
    wanted = Requirement((signer().key,), 1, name)
    pulled = PullImage(f"{name}@{top.digest}", "amd64", trust=(wanted,))
    verified = VerifySignature(top.digest, wanted, lambda: pulled.signatures(two.engine))
    liar, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
    assert liar.engine.uploads
    for stage in (pulled, verified):
        liar.engine.uploads.add(key(stage, {}), Result(liar.store.put(b"{}")))
    liar.finish()
    assert len(dav.files("ac")) == 2
    dav.asked()
    for stage in (pulled, verified):
        with pytest.raises(SignatureError):
            two.engine.run(stage, {})
    assert dav.asked() == []


def sharing(root: Path, dav: DavServer, **more: str) -> tuple[Project, dict[str, str]]:
    """A project with a store of its own, and the variables of its builds."""
    return Project.make(root), {"LINUXKIT_REMOTE_CACHE": dav.url, **more}


def outputs(project: Project) -> dict[str, bytes]:
    return {name: (project.root / name).read_bytes() for name in OUTPUTS}


def test_builds_on_a_fresh_machine_take_all_from_the_cache(
    dav: DavServer, tmp_path: Path, count: Callable[..., None]
) -> None:
    one, variables = sharing(tmp_path / "1", dav)
    one.scons(**variables, LINUXKIT_REMOTE_CACHE_MODE="rw")
    ran = len(one.ran())
    sent = counted(dav.asked())
    assert sent["PUT", "ac", 201] == len(dav.files("ac")) >= ran
    for path in dav.files("ac"):
        assert all((dav.data / "cas" / blob.digest.hex).is_file() for blob in decode(path.read_bytes()).blobs)

    two, variables = sharing(tmp_path / "2", dav)
    printed = two.scons(**variables)
    assert two.ran() == []
    assert "(from the remote cache)" in printed
    assert outputs(two) == outputs(one)
    got = counted(dav.asked())
    fetched = got.pop(("GET", "cas", 200))
    assert got == {("GET", "ac", 200): ran}
    assert len(OUTPUTS) <= fetched < len(dav.files("cas"))
    count("steps taken from a remote cache", ran)
    count("blobs fetched for them", fetched)

    two.scons(**variables)
    assert two.events == []
    assert dav.asked() == []


def test_change_on_a_fresh_machine_costs_what_the_changed_part_needs(dav: DavServer, tmp_path: Path) -> None:
    one, variables = sharing(tmp_path / "1", dav)
    one.scons(**variables, LINUXKIT_REMOTE_CACHE_MODE="rw")
    two, variables = sharing(tmp_path / "2", dav)
    two.scons(**variables)
    two.edit("contents: hello", "contents: bye")
    two.scons(**variables)
    one.edit("contents: hello", "contents: bye")
    one.scons()
    assert two.ran() == one.ran()
    assert outputs(two) == outputs(one)


def test_promises_that_are_not_kept_are_made_again_in_the_same_build(dav: DavServer, tmp_path: Path) -> None:
    one, variables = sharing(tmp_path / "1", dav)
    one.scons(**variables, LINUXKIT_REMOTE_CACHE_MODE="rw")
    for path in dav.files("cas"):
        path.unlink()
    two, variables = sharing(tmp_path / "2", dav)
    assert "is made again" in two.scons(**variables)
    assert outputs(two) == outputs(one)
    two.scons(**variables)
    assert two.events == []


def test_promises_of_a_server_that_has_gone(tmp_path: Path) -> None:
    with dav_server(tmp_path) as dav:
        one, variables = sharing(tmp_path / "1", dav)
        one.scons(**variables, LINUXKIT_REMOTE_CACHE_MODE="rw")
        two, variables = sharing(tmp_path / "2", dav)
        two.scons(**variables)
    for project in (one, two):
        project.edit("contents: hello", "contents: bye")
    printed = two.scons(**variables)
    assert printed.count("warning: the remote cache") == 1
    one.scons()
    assert outputs(two) == outputs(one)


def test_nothing_is_imported_or_asked_where_nothing_is_to_be_done(dav: DavServer, tmp_path: Path) -> None:
    project, variables = sharing(tmp_path / "1", dav)
    project.scons(**variables, LINUXKIT_REMOTE_CACHE_MODE="rw")
    dav.asked()
    heavy = ("requests", "http.client", "google.protobuf")
    probe = "import sys, runpy; sys.argv = ['scons', '-Q']\n"
    probe += "try: runpy.run_module('SCons', run_name='__main__')\n"
    probe += f"finally: print(*(name for name in {heavy} if name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=project.root,
        env={**project.environment(), **variables},
        capture_output=True,
        text=True,
    )
    assert result.stdout.splitlines()[-1] == "", result.stdout + result.stderr
    assert dav.asked() == []


def test_offline_asks_nothing(dav: DavServer, tmp_path: Path) -> None:
    project, variables = sharing(tmp_path / "1", dav, LINUXKIT_REMOTE_CACHE_MODE="rw", LINUXKIT_OFFLINE="1")
    project.scons(**variables)
    assert dav.asked() == []


def test_unknown_mode(dav: DavServer, tmp_path: Path) -> None:
    project, variables = sharing(tmp_path / "1", dav, LINUXKIT_REMOTE_CACHE_MODE="w")
    assert "LINUXKIT_REMOTE_CACHE_MODE='w' is unknown (ro or rw)" in project.scons(check=False, **variables)


def test_builders_at_once(dav: DavServer, tmp_path: Path) -> None:
    pairs = [sharing(tmp_path / name, dav, LINUXKIT_REMOTE_CACHE_MODE="rw") for name in "123"]
    threads = [threading.Thread(target=project.scons, kwargs=variables) for project, variables in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs(pairs[0][0]) == outputs(pairs[1][0]) == outputs(pairs[2][0])
    for path in dav.files("cas"):
        assert Digest.of(path.read_bytes()).hex == path.name
    four, variables = sharing(tmp_path / "4", dav)
    four.scons(**variables)
    assert four.ran() == []


def test_moby_build_and_a_build_that_fails_finish_what_they_send(dav: DavServer, tmp_path: Path) -> None:
    project, variables = sharing(tmp_path / "1", dav, LINUXKIT_REMOTE_CACHE_MODE="rw")
    layer = max(
        (project.root / "layout" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size
    )
    data = layer.read_bytes()
    layer.write_bytes(data[:-1])
    project.scons("-k", check=False, **variables)
    entries = len(dav.files("ac"))
    assert entries > 0
    layer.write_bytes(data)
    command = [sys.executable, "-m", "linuxkit_rules", "build", "--format=kernel+initrd", "tiny.yml"]
    environment = {**os.environ, **project.environment(), **variables}
    subprocess.run(command, cwd=project.root, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert len(dav.files("ac")) > entries


def test_interrupt_gives_up_what_is_being_sent(tmp_path: Path) -> None:
    held = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_HEAD(self) -> None:
            held.wait(600)

        def log_message(self, *args: object) -> None:
            pass

    project = Project.make(tmp_path)
    with serving(Handler) as server:
        environment = {
            **project.environment(),
            "LINUXKIT_REMOTE_CACHE": f"http://127.0.0.1:{server.server_port}",
            "LINUXKIT_REMOTE_CACHE_MODE": "rw",
            "LINUXKIT_REMOTE_CACHE_TIMEOUT": "600",
        }
        command = [sys.executable, "-m", "SCons", "-Q"]
        with subprocess.Popen(
            command, cwd=project.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith(b"sending "):
                    process.send_signal(signal.SIGINT)
                    break
            rest = process.stdout.read()
        held.set()
    assert b"results were not sent to the remote cache" in rest
    assert b"Traceback" not in rest
    assert (project.root / OUTPUTS[0]).exists()
