"""What can go wrong with a remote executor: nothing of it makes a build fail or the image another."""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from linuxkit_rules.errors import DamagedError, ImageError, UsageError
from linuxkit_rules.host import remote_cache, remote_executor
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.progress import Silent
from linuxkit_rules.remote import execution
from linuxkit_rules.remote.channel import connected
from linuxkit_rules.remote.endpoint import parse, properties
from linuxkit_rules.stages.unpack import Unpack
from tests.executing import WAITING, client, counted, holding, outputs, project, settings
from tests.images import tar
from tests.servers.buildgrid import PROPERTY, BuildGrid, Database, Worker, buildgrid, worker
from tests.servers.grpc_proxy import grpc_proxy
from tests.servers.processes import PATIENCE, end, free_port
from tests.servers.sockets import answering


def test_step_that_fails_there_fails_here_with_its_error(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    broken = archive[:100] + b"x" + archive[101:]
    here, before = client(tmp_path / "here", ""), len(workers.begun)
    with pytest.raises(ImageError) as expected:
        here.unpack(broken)
    one = client(tmp_path / "1", executor.url, platform=workers.platform)
    with pytest.raises(ImageError) as raised:
        one.unpack(broken)
    assert str(raised.value) == str(expected.value)
    assert one.events == [("executed", "unpack"), ("run", "unpack")]
    assert one.warnings == []
    assert len(workers.begun) == before + 1
    one.unpack(archive)
    assert one.events[2:] == [("executed", "unpack")]


OTHER = """exec {python} -c 'import linuxkit_rules.stages.unpack as unpack
unpack.Unpack.version = 99
from linuxkit_rules.cli.main import main
raise SystemExit(main())' "$@"
"""


def test_worker_of_another_version_is_left_alone(executor: BuildGrid, tmp_path: Path, archive: bytes) -> None:
    with worker(tmp_path / "worker", executor, OTHER.format(python=sys.executable)) as there:
        one = client(tmp_path / "1", executor.url, platform=there.platform)
        one.unpack(archive)
        one.unpack(tar(c=b"3"))
        assert one.events == [("executed", "unpack"), ("run", "unpack"), ("run", "unpack")]
        (warning,) = one.warnings
        assert warning.startswith(
            f"the remote executor {executor.url}: a worker's command ended with status 3"
        )
        assert "use the same versions" in warning
        assert warning.endswith("everything is run here from now on")
        assert len(there.begun) == 1


def test_worker_without_the_package_is_left_alone_soon(executor: BuildGrid, tmp_path: Path) -> None:
    with worker(tmp_path / "worker", executor, "echo moby: not found >&2; exit 127") as there:
        one = client(tmp_path / "1", executor.url, platform=there.platform)
        for number in range(5):
            one.unpack(tar(a=b"%d" % number))
        assert [how for how, _ in one.events] == ["executed", "run"] * 3 + ["run"] * 2
        assert len(one.warnings) == 2
        assert "status 127: moby: not found" in one.warnings[0]
        assert one.warnings[0].endswith("the step is run here")
        assert one.warnings[1].endswith("everything is run here from now on")
        assert len(there.begun) == 3


LIES = {
    "another key": 'sed -i \'s/"key":"..../"key":"ffff/\' out/result.json',
    "another blob": "sed -i 's/sha256:..../sha256:ffff/' out/result.json",
    "another size": 'sed -i \'s/"size":[0-9]*/"size":7/\' out/result.json',
    "no result": "rm out/result.json",
    "no document": "echo '[]' > out/result.json",
    "no blobs": "rm -r out/blobs",
}


@pytest.mark.parametrize("lie", LIES)
def test_result_that_cannot_be_is_none(lie: str, executor: BuildGrid, tmp_path: Path, archive: bytes) -> None:
    here = client(tmp_path / "here", "")
    name = lie.replace(" ", "-")
    with worker(tmp_path / name, executor, f'$MOBY "$@" || exit\n{LIES[lie]}') as there:
        one = client(tmp_path / "1", executor.url, platform=there.platform)
        assert one.unpack(archive) == here.unpack(archive)
        assert one.events == [("executed", "unpack"), ("run", "unpack")]
        assert len(one.warnings) == 1
        assert one.warnings[0].endswith("the step is run here")


def test_blob_that_has_rotted_on_the_server_is_not_taken(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    one, two = (client(tmp_path / name, executor.url, platform=workers.platform) for name in "12")
    result = one.unpack(archive)
    kept = executor.blob(result.output.digest.hex)
    right = kept.read_bytes()
    kept.chmod(0o644)
    kept.write_bytes(bytes([right[0] ^ 1]) + right[1:])
    try:
        assert two.unpack(archive) == result
    finally:
        kept.write_bytes(right)
    assert two.read(result.blobs) == one.read(result.blobs)
    assert two.events == [("executed", "unpack"), ("run", "unpack")]
    assert len(two.warnings) == 1


def test_build_goes_on_here_when_the_server_is_killed(
    database: Database, tmp_path: Path, count: Callable[..., None]
) -> None:
    here, one = project(tmp_path / "here"), project(tmp_path / "1")
    here.scons("-j2")
    waiting = WAITING.format(folder=tmp_path)
    with (
        buildgrid(tmp_path / "server", database) as server,
        worker(tmp_path / "worker", server, waiting) as there,
        holding(tmp_path, f"kill -9 {server.process.pid}") as killer,
    ):
        printed = one.scons("-j4", **settings(server, there))
        assert killer.wait(PATIENCE) == 0
        assert server.process.wait(PATIENCE) == -signal.SIGKILL
    assert outputs(one) == outputs(here)
    assert printed.count("warning: the remote executor ") == 1
    assert "everything is run here from now on" in printed
    assert {stage for how, stage, _ in one.events if how == "run"} == {stage for _, stage, _ in here.events}
    count("servers killed under a build")


@pytest.mark.parametrize("jobs", ["-j1", "-j4"])
def test_interrupt_does_not_wait_for_workers(jobs: str, executor: BuildGrid, tmp_path: Path) -> None:
    made = project(tmp_path / "1")
    waiting = WAITING.format(folder=tmp_path)
    with worker(tmp_path / "worker", executor, waiting) as there, holding(tmp_path) as waits:
        build = subprocess.Popen(
            [sys.executable, "-m", "SCons", "-Q", jobs],
            cwd=made.root,
            env={**made.environment(), **settings(executor, there)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert waits.wait(PATIENCE) == 0
            build.send_signal(signal.SIGINT)
            printed, _ = build.communicate(timeout=PATIENCE)
        finally:
            end(build, signal.SIGKILL)
    assert build.returncode != 0
    assert "Traceback" not in printed
    assert "Build interrupted." in printed
    assert "warning" not in printed


def test_server_that_is_not_there_costs_a_warning(tmp_path: Path) -> None:
    host = f"127.0.0.1:{free_port()}"
    one = client(tmp_path / "1", f"grpc://{host}")
    for number in range(3):
        one.unpack(tar(a=b"%d" % number))
    assert one.events == [("executed", "unpack"), *[("run", "unpack")] * 3]
    (warning,) = one.warnings
    assert warning.startswith(f"the remote executor grpc://{host}: cannot be reached: ")


def test_silent_server_costs_one_time_out(tmp_path: Path) -> None:
    with answering() as server:
        one = client(tmp_path / "1", f"grpc://{server.host}", seconds=0.2)
        for number in range(3):
            one.unpack(tar(a=b"%d" % number))
        assert one.events == [("executed", "unpack"), *[("run", "unpack")] * 3]
        (warning,) = one.warnings
        assert "does not answer in time" in warning
        assert len(server.connections) == 1


def test_steps_at_once_meet_one_time_out(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    with grpc_proxy(executor.host) as proxy, ThreadPoolExecutor(8) as pool:
        proxy.holds = {"FindMissingBlobs"}
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform, seconds=1)
        list(pool.map(lambda number: one.unpack(tar(a=archive, b=b"%d" % number)), range(8)))
        assert proxy.called("FindMissingBlobs") == 1
        assert one.events.count(("run", "unpack")) == 8
        assert len(one.warnings) == 1


@pytest.mark.parametrize("answer", ["FindMissingBlobs", "Execute", "Read", "GetCapabilities"])
def test_answer_that_is_none(
    answer: str, executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    with grpc_proxy(executor.host) as proxy:
        proxy.changes = {answer: lambda data: b"\xff" + data}
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform)
        one.unpack(archive)
        assert one.events == [("executed", "unpack"), ("run", "unpack")]
        assert len(one.warnings) == 1


def test_server_without_a_worker_is_left_alone(
    executor: BuildGrid, tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "QUEUED_SECONDS", 0.5)
    one = client(tmp_path / "1", executor.url, platform=f"{PROPERTY}=nobody", seconds=0.2)
    one.unpack(archive)
    assert one.events == [("executed", "unpack"), ("run", "unpack")]
    (warning,) = one.warnings
    assert "has had no worker for" in warning


def test_server_that_knows_no_such_property(executor: BuildGrid, tmp_path: Path, archive: bytes) -> None:
    one = client(tmp_path / "1", executor.url, platform="colour=blue")
    one.unpack(archive)
    assert one.events == [("executed", "unpack"), ("run", "unpack")]
    assert len(one.warnings) == 1
    assert "colour" in one.warnings[0]


def test_server_that_hangs_while_a_step_is_run_there(
    database: Database, tmp_path: Path, archive: bytes
) -> None:
    """It was stopped, and nothing closes the connection."""
    waiting = WAITING.format(folder=tmp_path)
    with (
        buildgrid(tmp_path / "server", database) as server,
        worker(tmp_path / "worker", server, waiting) as there,
        holding(tmp_path, f"kill -STOP {server.process.pid}") as stopper,
    ):
        try:
            one = client(tmp_path / "1", server.url, platform=there.platform, seconds=2)
            one.unpack(archive)
            assert stopper.wait(PATIENCE) == 0
            assert one.events == [("executed", "unpack"), ("run", "unpack")]
            (warning,) = one.warnings
            assert "does not answer in time" in warning
        finally:
            server.process.kill()


def test_input_that_has_rotted_is_the_builds_own_matter(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    one = client(tmp_path / "1", executor.url, platform=workers.platform)
    kept = client(tmp_path / "1", "").store.put(archive)  # by another process, so to speak
    path = one.store.path(kept.digest)
    path.chmod(0o644)
    path.write_bytes(archive[:-1] + b"x")
    with pytest.raises(DamagedError):
        one.engine.run(Unpack(), {"layer": [kept]})
    assert one.warnings == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1", "is no URL of a remote executor"),
        ("127.0.0.1:1", "is no URL of a remote executor"),
        ("grpc://127.0.0.1", "is no URL of a remote executor"),
        ("grpcs://", "is no URL of a remote executor"),
        ("grpcs://x:y", "is no URL"),
        ("grpcs://me:secret@x:1", "has an account"),
        ("grpcs://x:1/a?b=c", "has an account, a query"),
        ("grpc://executor.example:1", "is asked without TLS"),
    ],
)
def test_url_that_means_nothing(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="LINUXKIT_REMOTE_EXECUTOR") as raised:
        client(tmp_path, url).unpack(tar(a=b"1"))
    assert why in str(raised.value)
    assert "secret" not in str(raised.value)


def test_hosts_that_may_be_plain(tmp_path: Path) -> None:
    network = Network(plain_http=("executor.example",))
    assert parse("grpc://executor.example:1/main", network).instance == "main"
    for host in ("localhost:1", "[::1]:1", "127.0.0.2:1"):
        assert parse(f"grpc://{host}", network).host == host


def test_properties_that_mean_nothing() -> None:
    for text in ("a", "=b", "a=1,b"):
        with pytest.raises(UsageError, match="LINUXKIT_REMOTE_EXECUTOR_PLATFORM"):
            properties(text)
    assert properties(" b = 2, a=x=y,,") == (("a", "x=y"), ("b", "2"))


def test_host_is_a_name_whatever_it_is() -> None:
    assert parse("grpcs://unix:1", Network()).target == "dns:///unix:1"


@pytest.mark.parametrize("token", ["sesame\n", "sésame", "open sesame"])
def test_token_that_means_nothing(token: str) -> None:
    with pytest.raises(UsageError, match="LINUXKIT_REMOTE_EXECUTOR_TOKEN") as raised:
        connected("grpc://127.0.0.1:1", Network(), token, "")
    assert "same" not in str(raised.value)


@pytest.mark.parametrize(("offline", "asks"), [("", True), ("no", True), ("false", True), ("1", False)])
def test_offline_means_what_it_does_elsewhere(offline: str, asks: bool) -> None:
    said = {"LINUXKIT_REMOTE_EXECUTOR": "grpc://127.0.0.1:1", "LINUXKIT_REMOTE_CACHE": "http://127.0.0.1:1"}
    said["LINUXKIT_OFFLINE"] = offline
    assert (remote_executor(said, print) is not None) is asks
    assert (remote_cache(said, Silent, {}) is not None) is asks


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "4000"])
def test_time_out_that_means_nothing(seconds: str) -> None:
    with pytest.raises(UsageError, match="LINUXKIT_REMOTE_EXECUTOR_TIMEOUT"):
        connected("grpc://127.0.0.1:1", Network(), "", seconds)


@pytest.mark.parametrize("package", ["grpc", "buildgrid"])
def test_build_says_what_is_not_installed(package: str, tmp_path: Path) -> None:
    """Without the extra there are no such packages."""
    made = project(tmp_path / "1")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / f"{package}.py").write_text(f"raise ImportError('no', name='{package}')\n")
    printed = made.scons(
        "-j1", check=False, LINUXKIT_REMOTE_EXECUTOR="grpc://127.0.0.1:1", PYTHONPATH=str(tmp_path / "none")
    )
    assert f"LINUXKIT_REMOTE_EXECUTOR needs packages that are not installed: {package}" in printed
    assert "pip install 'linuxkit_rules[remote-execution]'" in printed


def test_offline_asks_nobody(tmp_path: Path) -> None:
    made = project(tmp_path / "1")
    made.scons(LINUXKIT_REMOTE_EXECUTOR="grpc://nowhere.example:1", LINUXKIT_OFFLINE="1")
    assert set(counted(made)) == {"run"}


def test_nothing_is_imported_where_nothing_is_to_be_done(tmp_path: Path) -> None:
    made = project(tmp_path / "1")
    made.scons()
    probe = "import sys, runpy; sys.argv = ['scons', '-Q']\n"
    probe += "try: runpy.run_module('SCons', run_name='__main__')\n"
    probe += "finally: print(*(name for name in ('grpc', 'buildgrid', 'cattrs') if name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=made.root,
        env={**made.environment(), "LINUXKIT_REMOTE_EXECUTOR": f"grpc://127.0.0.1:{free_port()}"},
        capture_output=True,
        text=True,
    )
    assert result.stdout.splitlines()[-1] == "", result.stdout + result.stderr
