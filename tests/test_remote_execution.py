"""Steps run by a remote executor: BuildGrid, its scheduler on PostgreSQL, and workers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from linuxkit_rules.digest import Digest
from linuxkit_rules.host import remote_executor
from linuxkit_rules.oci.dial import Proxies
from linuxkit_rules.stages.rootfs import Rootfs
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.stages.unpack import Unpack
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass
from tests.caching import machine
from tests.executing import client, counted, docker_archive, outputs, project, settings
from tests.images import tar
from tests.servers.buildgrid import BuildGrid, Database, Worker, buildgrid, worker
from tests.servers.certificates import Authority
from tests.servers.dav import dav_server
from tests.servers.grpc_proxy import grpc_proxy
from tests.servers.nginx import tls_grpc
from tests.servers.proxy import fault_proxy

SESAME = "sesame"


def test_step_is_run_by_a_worker_and_gives_the_same(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    here, before = client(tmp_path / "here", ""), len(workers.begun)
    expected = here.unpack(archive)
    one = client(tmp_path / "1", executor.url, platform=workers.platform)
    assert one.unpack(archive) == expected
    assert one.warnings == []
    assert one.read(expected.blobs) == here.read(expected.blobs)
    assert one.events == [("executed", "unpack")]
    assert len(workers.begun) == before + 1
    one.unpack(archive)
    assert one.events[1:] == [("hit", "unpack")]


def test_whole_build_gives_the_same_bytes(
    executor: BuildGrid, workers: Worker, tmp_path: Path, count: Callable[..., None]
) -> None:
    here, one, two = (project(tmp_path / name) for name in ("here", "1", "2"))
    here.scons("-j2")
    steps = {stage for _, stage, _ in here.events}
    before = len(workers.begun)
    printed = one.scons("-j8", **settings(executor, workers))
    assert outputs(one) == outputs(here)
    away = {stage for how, stage, _ in one.events if how == "executed"}
    assert away == {
        "boot",
        "container-rootfs",
        "files",
        "kernel",
        "layout-volume",
        "modules",
        "ramdisk-support",
        "rootfs",
        "volume",
    }
    assert {stage for how, stage, _ in one.events if how == "run"} == steps - away
    assert "rootfs (on another machine) " in printed
    assert "warning" not in printed
    begun = len(workers.begun)
    assert counted(one)["executed"] == begun - before
    two.scons("-j8", **settings(executor, workers))
    assert outputs(two) == outputs(here)
    assert counted(two) == counted(one)
    assert len(workers.begun) == begun  # the server's action cache knew all of them
    count("steps run by a remote executor", counted(one)["executed"])
    count("steps that an action cache had", counted(two)["executed"])


def test_instance_of_a_server(database: Database, tmp_path: Path) -> None:
    """The server has nothing that is not called so."""
    here, one = (project(tmp_path / name) for name in ("here", "1"))
    here.scons("-j2")
    with (
        buildgrid(tmp_path / "server", database, "main/tests") as server,
        worker(tmp_path / "worker", server) as there,
    ):
        said = settings(server, there)
        assert "warning" not in one.scons("-j8", **said)
        assert counted(one)["executed"] == len(there.begun) > 5
        other = client(tmp_path / "2", f"grpc://{server.host}", platform=there.platform)
        other.unpack(tar(a=b"1"))
        assert other.events == [("executed", "unpack"), ("run", "unpack")]
    assert outputs(one) == outputs(here)


def test_layered_build_has_what_can_be_done_elsewhere_done_there(
    executor: BuildGrid, workers: Worker, tmp_path: Path
) -> None:
    here, one = (project(tmp_path / name) for name in ("here", "1"))
    for made in (here, one):
        made.edit("formats=", "layered=True, formats=", "SConstruct")
    here.scons("-j2")
    printed = one.scons("-j8", **settings(executor, workers))
    assert outputs(one) == outputs(here)
    assert "warning" not in printed
    assert counted(one)["executed"] > 5
    assert ("run", "layers") in {(how, stage) for how, stage, _ in one.events}


def test_what_the_server_has_is_not_sent_again(executor: BuildGrid, workers: Worker, tmp_path: Path) -> None:
    large = tar(large=os.urandom(3 << 20))
    with grpc_proxy(executor.host) as proxy:
        one, two = (
            client(tmp_path / name, f"grpc://{proxy.host}", platform=workers.platform) for name in "12"
        )
        one.unpack(large)
        assert len(large) < proxy.sent("Write") < len(large) + 10_000
        proxy.seen.clear()
        assert two.unpack(large) == one.unpack(large)
        assert two.warnings == []
        assert proxy.called("FindMissingBlobs") == proxy.called("Execute") == 1
        assert proxy.called("Write") == proxy.called("BatchUpdateBlobs") == 0
        proxy.seen.clear()
        two.rootfs(docker_archive(large))
        assert two.events[-1] == ("executed", "rootfs")
        assert proxy.sent("BatchUpdateBlobs") < 20_000


def test_large_and_empty_blobs_travel(executor: BuildGrid, workers: Worker, tmp_path: Path) -> None:
    large = tar(large=os.urandom(9 << 20), empty=b"")
    here = client(tmp_path / "here", "")
    one = client(tmp_path / "1", executor.url, platform=workers.platform)
    for content in (large, b""):
        saved = docker_archive(content)
        assert one.read([one.rootfs(saved)]) == here.read([here.rootfs(saved)])
    assert one.warnings == []


def test_small_blobs_are_sent_together(executor: BuildGrid, workers: Worker, tmp_path: Path) -> None:
    saved = docker_archive(*(os.urandom(200 << 10) for _ in range(20)))
    here = client(tmp_path / "1", "")
    image = here.image(saved)
    with grpc_proxy(executor.host) as proxy:
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform)
        packed = one.engine.run(Rootfs(), {"image": [image]}).output
        sizes = [size for name, size in proxy.seen if name == "BatchUpdateBlobs"]
        assert sum(sizes) > 4_000_000
        assert len(sizes) == 2
        assert proxy.called("Write") == 0
    assert one.events == [("executed", "rootfs")]
    assert packed == client(tmp_path / "2", "").rootfs(saved)


def test_tls_and_token(executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes) -> None:
    authority = Authority.make(tmp_path)
    rules = f'if ($http_authorization != "Bearer {SESAME}") {{ return 401; }}'
    with tls_grpc(tmp_path, authority, executor.host, rules=rules) as host:
        url = f"grpcs://{host}"
        known = {"platform": workers.platform, "ca_files": (authority.file,)}
        one = client(tmp_path / "1", url, token=SESAME, **known)
        one.unpack(archive)
        assert (one.events, one.warnings) == ([("executed", "unpack")], [])
        stranger = client(tmp_path / "2", url, **known)
        stranger.unpack(archive)
        assert stranger.events == [("executed", "unpack"), ("run", "unpack")]
        assert "LINUXKIT_REMOTE_EXECUTOR_TOKEN" in stranger.warnings[0]
        distrusting = client(tmp_path / "3", url, token=SESAME, platform=workers.platform)
        distrusting.unpack(archive)
        assert distrusting.events == [("executed", "unpack"), ("run", "unpack")]
        assert len(distrusting.warnings) == 1
        assert SESAME not in stranger.warnings[0] + distrusting.warnings[0]
        said = {"LINUXKIT_REMOTE_EXECUTOR": url, "LINUXKIT_REMOTE_EXECUTOR_PLATFORM": workers.platform}
        said["LINUXKIT_CA_FILES"] = str(authority.file)
        user = client(tmp_path / "4", url)
        user.engine.executor = remote_executor(
            said, user.warnings.append, {"LINUXKIT_REMOTE_EXECUTOR_TOKEN": SESAME}
        )
        user.unpack(archive)
        assert (user.events, user.warnings) == ([("executed", "unpack")], [])


def test_through_a_proxy(executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes) -> None:
    """CONNECT to a name that only the proxy knows; the certificate is that name's."""
    authority = Authority.make(tmp_path)
    with (
        tls_grpc(tmp_path, authority, executor.host, "executor.test") as host,
        fault_proxy(host) as proxy,
    ):
        known = {"proxies": Proxies(https=f"http://{proxy.host}"), "ca_files": (authority.file,)}
        url = "grpcs://executor.test:443"
        one = client(tmp_path / "1", url, platform=workers.platform, **known)
        one.unpack(archive)
        assert (one.events, one.warnings) == ([("executed", "unpack")], [])
        assert {path for path, _ in proxy.asked} == {"executor.test:443"}


def test_digest_names_the_blob(executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes) -> None:
    one = client(tmp_path / "1", executor.url, platform=workers.platform)
    one.unpack(archive)
    assert executor.blob(Digest.of(archive).hex).read_bytes() == archive


def test_what_workers_make_goes_to_the_remote_cache(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    with dav_server(tmp_path) as dav:
        one, two = machine(tmp_path / "1", dav.url), machine(tmp_path / "2", dav.url)
        one.engine.executor = two.engine.executor = client(
            tmp_path, executor.url, platform=workers.platform
        ).engine.executor
        for each in (one, two):
            each.engine.run(Unpack(), {"layer": [each.store.put(archive)]})
            assert each.finish() == 0
        assert (one.events, two.events) == (["executed"], ["remote"])
        assert one.warnings + two.warnings == []


def test_step_that_a_step_here_asks_for_is_run_here(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    one = client(tmp_path / "1", executor.url, platform=workers.platform)
    layer = one.store.put(archive)
    before = len(workers.begun)
    assert one.engine.run(Asking(), {"layer": [layer]}) == one.unpack(archive)
    assert one.events == [("run", "asking"), ("hit", "unpack")]
    assert len(workers.begun) == before


@dataclass(frozen=True)
class Asking(Stage):
    """Asks for another step."""

    name: ClassVar[str] = "asking"
    version: ClassVar[int] = 1

    def run(self, inputs: Inputs, work: Engine) -> Result:
        return work.run(Unpack(), inputs)
