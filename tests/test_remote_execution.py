"""Steps run by a remote executor: BuildGrid with PostgreSQL and workers."""

from pathlib import Path

from tests.executing import client
from tests.images import tar
from tests.servers.buildgrid import BuildGrid, worker


def test_step_is_run_by_a_worker_and_gives_the_same(executor: BuildGrid, tmp_path: Path) -> None:
    archive = tar(a=b"1", b=b"2")
    here = client(tmp_path / "here", "")
    expected = here.unpack(archive)
    with worker(tmp_path / "worker", executor) as there:
        one = client(tmp_path / "1", executor.url, platform=there.platform)
        assert one.unpack(archive) == expected
        assert one.warnings == []
        assert one.read(expected.blobs) == here.read(expected.blobs)
        assert one.events == [("executed", "unpack")]
        assert len(there.begun) == 1
