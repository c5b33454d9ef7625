"""Streams of a remote executor that stand still, break, or carry something else."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from buildgrid.common.protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from buildgrid.common.protos.google.longrunning import operations_pb2 as operations

from linuxkit_rules.formats.entry import Kind
from linuxkit_rules.oci.network import Network
from linuxkit_rules.remote import execution
from linuxkit_rules.remote.action import StoppedError
from linuxkit_rules.remote.channel import connected
from linuxkit_rules.remote.endpoint import properties
from linuxkit_rules.remote.executor import Executor
from linuxkit_rules.stages.files import Files, Item
from tests.executing import WAITING, client, holding
from tests.images import tar
from tests.servers.buildgrid import BuildGrid, Worker, worker
from tests.servers.grpc_proxy import GrpcProxy, grpc_proxy
from tests.servers.processes import PATIENCE, await_

LEFT = [("executed", "unpack"), ("run", "unpack")]
WORD = "everything is run here from now on"


def hold_read(proxy: GrpcProxy) -> None:
    proxy.holds = {"Read"}


def hold_write(proxy: GrpcProxy) -> None:
    proxy.holds = {"Write"}


def flood(proxy: GrpcProxy) -> None:
    proxy.floods = {"Read"}


@pytest.mark.parametrize("fault", [hold_read, hold_write, flood])
def test_stream_that_stands_still_costs_one_time_out(
    fault: Callable[[GrpcProxy], None], executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    large = tar(a=archive, b=bytes(1 << 20))
    with grpc_proxy(executor.host) as proxy:
        fault(proxy)
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform, seconds=3)
        one.unpack(large)
        one.unpack(tar(c=b"3"))
        assert one.events == [*LEFT, ("run", "unpack")]
        (warning,) = one.warnings
        assert warning.endswith(f"does not answer in time: {WORD}")


def test_interrupt_ends_steps_that_wait_for_each_other(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    stopped = threading.Event()
    with grpc_proxy(executor.host) as proxy, ThreadPoolExecutor(4) as pool:
        proxy.holds = {"Write"}
        one, url = client(tmp_path / "1", ""), f"grpc://{proxy.host}"
        one.engine.executor = Executor(
            lambda: connected(url, Network(), "", "600", stopped.is_set),
            one.warnings.append,
            properties(workers.platform),
        )
        layers = [tar(a=archive, b=bytes(1 << 20), c=b"%d" % number) for number in range(4)]
        tasks = [pool.submit(one.unpack, layer) for layer in layers]
        await_(lambda: proxy.called("Write") and len(one.events) == 4, "one is sent")
        stopped.set()
        assert {type(task.exception(PATIENCE)) for task in tasks} == {StoppedError}
        assert proxy.called("Write") == proxy.called("FindMissingBlobs") == 1
        assert one.warnings == []


def spoil(name: str) -> Callable[[bytes], bytes]:
    """Give what makes a field of an operation nonsense, in a sound message."""

    def change(data: bytes) -> bytes:
        operation = operations.Operation.FromString(data)
        getattr(operation, name).value = b"\xff\xff"
        return operation.SerializeToString()

    return change


@pytest.mark.parametrize("name", ["metadata", "response"])
def test_operation_whose_parts_cannot_be_read(
    name: str, executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    with grpc_proxy(executor.host) as proxy:
        proxy.changes = {"Execute": spoil(name)}
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform)
        one.unpack(archive)
        assert one.events == LEFT
        (warning,) = one.warnings
        assert warning.endswith(f"gives an answer that cannot be read: {WORD}")


def test_stream_that_breaks_is_taken_up_as_long_as_it_tells_more(
    executor: BuildGrid, tmp_path: Path, archive: bytes
) -> None:
    code = grpc.StatusCode
    waiting = WAITING.format(folder=tmp_path)
    with (
        worker(tmp_path / "worker", executor, waiting) as there,
        grpc_proxy(executor.host) as proxy,
        ThreadPoolExecutor(1) as pool,
    ):
        proxy.cuts = {
            "Execute": [code.INTERNAL],
            "WaitExecution": [code.UNKNOWN, code.CANCELLED, code.UNAVAILABLE],
        }
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=there.platform)
        with holding(tmp_path):
            done = pool.submit(one.unpack, archive)
            await_(lambda: done.done() or not any(proxy.cuts.values()), "all streams are cut")
        done.result()
        assert (one.events, one.warnings) == ([("executed", "unpack")], [])
        assert (proxy.called("Execute"), proxy.called("WaitExecution")) == (1, 4)
        assert len(there.begun) == 1


def test_operation_that_the_server_has_forgotten_is_begun_anew(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    def rename(data: bytes) -> bytes:
        operation = operations.Operation.FromString(data)
        operation.name = "forgotten"
        return operation.SerializeToString()

    with grpc_proxy(executor.host) as proxy:
        proxy.changes, proxy.cuts = {"Execute": rename}, {"Execute": [grpc.StatusCode.UNAVAILABLE]}
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform)
        one.unpack(archive)
        assert (one.events, one.warnings) == ([("executed", "unpack")], [])
        assert (proxy.called("Execute"), proxy.called("WaitExecution")) == (2, 1)


def test_stream_that_breaks_before_it_tells_anything_is_begun_anew_once(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    client(tmp_path / "0", executor.url, platform=workers.platform).unpack(archive)
    with grpc_proxy(executor.host) as proxy:  # an action that is known has one answer
        for breaks, hows in ((1, ["executed"]), (2, ["executed", "run"])):
            proxy.seen.clear()
            proxy.breaks = {"Execute": breaks}
            one = client(tmp_path / str(breaks), f"grpc://{proxy.host}", platform=workers.platform)
            one.unpack(archive)
            assert [how for how, _ in one.events] == hows
            assert len(one.warnings) == len(hows) - 1
            assert (proxy.called("Execute"), proxy.called("WaitExecution")) == (2, 0)


def test_action_waits_for_workers_that_do_the_others(
    executor: BuildGrid, tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers have two long actions; the third is not without a worker for that."""
    begun: set[str] = set()

    def note(data: bytes) -> bytes:
        operation, metadata = operations.Operation.FromString(data), api.ExecuteOperationMetadata()
        operation.metadata.Unpack(metadata)
        if metadata.stage == api.ExecutionStage.EXECUTING:
            begun.add(operation.name)
        return data

    waiting = WAITING.format(folder=tmp_path)
    with (
        worker(tmp_path / "worker", executor, waiting) as there,
        grpc_proxy(executor.host) as proxy,
        ThreadPoolExecutor(3) as pool,
    ):
        proxy.changes = {"Execute": note}
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=there.platform, seconds=5)
        with holding(tmp_path), monkeypatch.context() as patched:
            tasks = [pool.submit(one.unpack, tar(a=archive, b=b"%d" % number)) for number in range(3)]
            await_(lambda: len(begun) == 2 and proxy.called("Execute") == 3, "two actions are done")
            looks = proxy.called("GetCapabilities") + 6
            await_(lambda: proxy.called("GetCapabilities") >= looks, "the first looks")
            patched.setattr(execution, "QUEUED_SECONDS", 0.0)
            await_(lambda: one.warnings or proxy.called("GetCapabilities") >= looks + 6, "some more")
        for task in tasks:
            task.result()
        assert one.events == [("executed", "unpack")] * 3
        assert one.warnings == []


def test_action_that_takes_too_long_is_run_here(
    executor: BuildGrid, tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = WAITING.format(folder=tmp_path)
    with worker(tmp_path / "worker", executor, waiting) as there:
        one = client(tmp_path / "1", executor.url, platform=there.platform, seconds=5)
        with holding(tmp_path), monkeypatch.context() as patched:
            patched.setattr(execution, "EXECUTING_SECONDS", 0.0)
            one.unpack(archive)
        one.unpack(tar(c=archive))
        assert one.events == [*LEFT, ("executed", "unpack")]
        (warning,) = one.warnings
        assert warning.endswith("has not done an action in 0 seconds: the step is run here")


def test_recipe_that_is_larger_than_a_message(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    stage = Files(items=(Item("a", Kind.FILE, 0o644, text=str(archive) * 200),))
    with grpc_proxy(executor.host) as proxy:
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform)
        made = one.engine.run(stage, {})
        assert (one.events, one.warnings) == ([("executed", "files")], [])
        assert made == client(tmp_path / "2", "").engine.run(stage, {})
        assert proxy.sent("Write") > 5_000_000


def test_server_that_takes_little_at_a_time(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    def little(data: bytes) -> bytes:
        can = api.ServerCapabilities.FromString(data)
        can.cache_capabilities.max_batch_total_size_bytes = 10_000
        return can.SerializeToString()

    with grpc_proxy(executor.host) as proxy:
        proxy.changes = {"GetCapabilities": little}
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform)
        one.unpack(tar(a=archive))
        assert (one.events, one.warnings) == ([("executed", "unpack")], [])
        assert max(size for name, size in proxy.seen if name == "BatchUpdateBlobs") < 12_000
        assert proxy.called("Write") == 1
