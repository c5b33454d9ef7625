"""Many processes that build into one store at once."""

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from linuxkit_rules.store.verify import verify
from tests.builds import expected, finished, made, start
from tests.images import Blobs, tar
from tests.servers.processes import answers, free_port
from tests.servers.registry import push
from tests.tools import tool

PROCESSES = 16
APPS = 6
CONFIGURATION = """
version: 0.1
log: {{level: error, accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True)
class Server:
    """A registry that logs what it is asked for."""

    host: str
    log: Path

    def blobs(self) -> Counter[str]:
        """How often each blob was given."""
        return Counter(re.findall(r'"GET /v2/\S+/blobs/(sha256:\S+) HTTP/1.1" 200 ', self.log.read_text()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root, port = tmp_path_factory.mktemp("registry"), free_port()
    (root / "config.yml").write_text(CONFIGURATION.format(root=root / "data", port=port))
    command = tool("docker-registry", "usr/bin/docker-registry")
    with (root / "log").open("wb") as log:
        process = subprocess.Popen([*command, "serve", str(root / "config.yml")], stdout=log, stderr=log)
    try:
        while not answers(port):
            assert process.poll() is None, "the registry ended before it answered"
        yield Server(f"127.0.0.1:{port}", root / "log")
    finally:
        process.terminate()
        process.wait()


def noise(seed: str, size: int) -> bytes:
    """Bytes that no compressor makes smaller."""
    return hashlib.shake_128(seed.encode()).digest(size)


def fill(host: str) -> Blobs:
    """A kernel, an init, and applications that share layers; each is there under two names."""
    blobs = Blobs()
    base, second = (tar(**{name: noise(name, 400_000)}) for name in ("base", "second"))
    kernel = tar(**{"kernel": b"KERNEL" * 1000, "kernel.tar": tar(**{"lib/modules/1/modules.order": b""})})
    images = {"kernel": [kernel], "init": [tar(init=b"#!/bin/sh\n")]}
    for number in range(APPS):
        own = tar(**{f"app{number}": noise(f"app{number}", 100_000)})
        images[f"app{number}"] = [base, second, own] if number % 2 else [base, own]
    for name, layers in images.items():
        for repository in (name, f"other/{name}"):
            push(host, blobs, blobs.image(layers), repository, "1")
    return blobs


def yaml(host: str, number: int) -> str:
    """An image that overlaps with the others': two applications, for every second also as a volume."""
    first, second = f"app{number % APPS}", f"other/app{(number * 5 + 1) % APPS}"
    text = f"""\
kernel:
  image: {host}/kernel:1
  cmdline: number={number}
init: ["{host}/init:1"]
services:
  - {{name: first, image: "{host}/{first}:1", command: ["/a", "{number}"]}}
  - {{name: second, image: "{host}/{second}:1"}}
"""
    volume = f"""\
volumes:
  - {{name: kept, image: "{host}/{second}:1", format: oci}}
"""
    return text + volume * (number % 2)


def test_many_processes_build_overlapping_images_into_one_store(
    server: Server, tmp_path: Path, count: Callable[..., None]
) -> None:
    blobs = fill(server.host)
    yamls = []
    for number in range(PROCESSES):
        (tmp_path / str(number)).mkdir()
        yamls.append(tmp_path / str(number) / "box.yml")
        yamls[-1].write_text(yaml(server.host, number))
    store = tmp_path / "store"
    before = server.blobs()
    for process in [start(yml, store) for yml in yamls]:
        finished(process)
    asked = server.blobs() - before
    assert set(asked.values()) == {1}, "a blob was fetched twice"
    assert asked.keys() <= {str(digest) for digest in blobs.data}
    assert len(asked) > 2 * APPS
    for yml in yamls:
        assert made(yml) == expected(yml, tmp_path / "alone")
    found = verify(store)
    assert (found.is_sound, found.incomplete) == (True, 0)
    assert list((store / "tmp").iterdir()) == list((store / "locks").iterdir()) == []
    assert list((store / "leases").iterdir()) == []
    count("processes building at once", PROCESSES)
    count("blobs fetched, each once", len(asked))
