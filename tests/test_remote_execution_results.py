"""Results of a remote executor that are lost, wrong or too large, and inputs that it has lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.executing import client
from tests.servers.buildgrid import BuildGrid, Worker, worker
from tests.servers.grpc_proxy import grpc_proxy


def once(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Give what changes the first answer alone."""
    left = [change]
    return lambda data: left.pop()(data) if left else data


def test_known_result_that_is_wrong_is_made_anew(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    first = client(tmp_path / "1", executor.url, platform=workers.platform)
    expected, before = first.unpack(archive), len(workers.begun)
    with grpc_proxy(executor.host) as proxy:
        proxy.changes = {"Read": once(lambda data: data[:-1] + bytes([data[-1] ^ 1]))}
        one = client(tmp_path / "2", f"grpc://{proxy.host}", platform=workers.platform)
        assert one.unpack(archive) == expected
        assert (one.events, one.warnings) == ([("executed", "unpack")], [])
        assert one.read(expected.blobs) == first.read(expected.blobs)
        assert len(workers.begun) == before + 1
        assert proxy.called("Execute") == 2


def test_known_result_that_stays_wrong_is_none(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    client(tmp_path / "1", executor.url, platform=workers.platform).unpack(archive)
    with grpc_proxy(executor.host) as proxy:
        proxy.changes = {"Read": lambda data: data[:-1] + bytes([data[-1] ^ 1])}
        one = client(tmp_path / "2", f"grpc://{proxy.host}", platform=workers.platform)
        one.unpack(archive)
        assert one.events == [("executed", "unpack"), ("run", "unpack")]
        assert len(one.warnings) == 1
        assert one.warnings[0].endswith("the step is run here")
        assert proxy.called("Execute") == 2


def test_what_the_server_has_lost_is_sent_again(
    executor: BuildGrid, workers: Worker, tmp_path: Path, archive: bytes
) -> None:
    with grpc_proxy(executor.host) as proxy:
        proxy.changes = {"FindMissingBlobs": once(lambda data: b"")}  # it says that it has everything
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=workers.platform)
        one.unpack(archive)
        assert (one.events, one.warnings) == ([("executed", "unpack")], [])
        assert proxy.called("FindMissingBlobs") == proxy.called("Execute") == 2


def test_result_that_is_too_large_is_not_fetched(executor: BuildGrid, tmp_path: Path, archive: bytes) -> None:
    lie = '$MOBY "$@" || exit\nsed -i \'s/"size":[0-9]*/"size":99999999999999/\' out/result.json'
    with (
        worker(tmp_path / "worker", executor, lie) as there,
        grpc_proxy(executor.host) as proxy,
    ):
        one = client(tmp_path / "1", f"grpc://{proxy.host}", platform=there.platform)
        one.unpack(archive)
        assert one.events == [("executed", "unpack"), ("run", "unpack")]
        (warning,) = one.warnings
        assert "gives a blob of 99999999999999 bytes, more than the 68719476736 allowed" in warning
        assert proxy.called("Read") == 1  # of the document


SWAP = """$MOBY "$@" || exit
set -- out/blobs/sha256/*
printf '{document}' > "$1"
digest=$(sha256sum "$1" | cut -c1-64)
mv "$1" "out/blobs/sha256/$digest"
sed -i 's/"size":[0-9]*/"size":{size}/; s/'"${{1##*/}}/$digest/" out/result.json
"""


@pytest.mark.parametrize("document", ["[]", '{"tar":5}', '{"tar":"sha256:1"}', "[[[[", "5"])
def test_document_that_is_none_is_not_remembered(
    document: str, executor: BuildGrid, tmp_path: Path, archive: bytes
) -> None:
    name = "".join(character for character in document if character.isalnum()) or str(len(document))
    here = client(tmp_path / "here", "")
    swap = SWAP.format(document=document, size=len(document))
    with worker(tmp_path / name, executor, swap) as there:
        one = client(tmp_path / "1", executor.url, platform=there.platform)
        result = one.unpack(archive)
        assert result == here.unpack(archive)
        assert one.events == [("executed", "unpack"), ("run", "unpack")]
        (warning,) = one.warnings
        assert warning.endswith("the step is run here")
        assert "is not what its media type says" in warning or "is not a digest" in warning
