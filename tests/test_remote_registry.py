"""A repository of a registry as the remote cache, against Docker's registry."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from linuxkit_rules.oci.credentials import DockerConfig
from linuxkit_rules.oci.dial import Dialer
from linuxkit_rules.remote.artefacts import ENTRY, decode
from tests.builds import SUFFIXES
from tests.caching import machine
from tests.project import Project
from tests.servers.certificates import Authority
from tests.servers.nginx import tls_mirror
from tests.servers.processes import free_port
from tests.servers.registry import PASSWORD, USER, RegistryServer, by_token, docker_registry, htpasswd, skopeo
from tests.servers.sockets import answering
from tests.servers.tokens import token_server


def tags(host: str, repository: str) -> list[str]:
    found = requests.get(f"http://{host}/v2/{repository}/tags/list", timeout=60)
    return list(found.json()["tags"]) if found.status_code == 200 else []


def test_second_machine_runs_nothing(registry: str, tmp_path: Path) -> None:
    url = f"oci://{registry}/team/second"
    one, two = machine(tmp_path / "1", url), machine(tmp_path / "2", url)
    assert [one.read(b"a"), one.read(b""), one.finish()] == [b"A", b"", 0]
    assert [two.read(b"a"), two.read(b""), two.finish()] == [b"A", b"", 0]
    assert two.events == ["remote", "remote"]
    assert one.warnings + two.warnings == []


def test_entry_is_an_artefact_that_others_can_copy(registry: str, tmp_path: Path) -> None:
    one = machine(tmp_path / "1", f"oci://{registry}/team/artefact")
    one.read(b"a")
    one.finish()
    (tag,) = tags(registry, "team/artefact")
    assert len(tag) == 64
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = requests.get(f"http://{registry}/v2/team/artefact/manifests/{tag}", headers=accept, timeout=60)
    assert answer.json()["artifactType"] == ENTRY
    assert answer.json()["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert [blob.media_type for blob in decode(answer.content).blobs] == ["text/plain", "text/x-count"]
    options = "--src-tls-verify=false", "--dest-tls-verify=false"
    source, target = f"docker://{registry}/team/artefact:{tag}", f"docker://{registry}/team/copied:{tag}"
    skopeo("copy", *options, source, target)
    two = machine(tmp_path / "2", f"oci://{registry}/team/copied")
    assert two.read(b"a") == b"A"
    assert two.events == ["remote"]


def test_builds_on_a_fresh_machine_take_all_from_the_registry(
    registry: str, tmp_path: Path, count: Callable[..., None]
) -> None:
    variables = {"LINUXKIT_REMOTE_CACHE": f"oci://{registry}/team/project"}
    one, two = Project.make(tmp_path / "1"), Project.make(tmp_path / "2")
    one.scons(**variables, LINUXKIT_REMOTE_CACHE_MODE="rw")
    assert len(tags(registry, "team/project")) >= len(one.ran())
    two.scons(**variables)
    assert two.ran() == []
    for suffix in SUFFIXES:
        name = f"out/tiny{suffix}"
        assert (two.root / name).read_bytes() == (one.root / name).read_bytes()
    count("steps taken from a remote cache", len(one.ran()))


@pytest.mark.parametrize("known", [True, False])
def test_login(known: bool, tmp_path: Path) -> None:
    with docker_registry(tmp_path, htpasswd(tmp_path)) as server:
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: {"auth": auth}}}))
        credentials = DockerConfig((tmp_path / "config.json",) if known else ())
        url = f"oci://{server.host}/team/cache"
        one, two = (machine(tmp_path / name, url, credentials=credentials) for name in "12")
        assert [one.read(b"a"), one.finish(), two.read(b"a"), two.finish()] == [b"A", 0, b"A", 0]
        assert two.events == ["remote" if known else "run"]
        if not known:
            assert len(one.warnings) == 1
            assert "docker login" in one.warnings[0]


def test_blob_that_the_registry_has_lost_is_made_again(tmp_path: Path) -> None:
    with docker_registry(tmp_path) as server:
        url = f"oci://{server.host}/team/cache"
        one, two = machine(tmp_path / "1", url), machine(tmp_path / "2", url)
        output = one.shout(b"a")
        one.finish()
        lost = server.data / "docker/registry/v2/blobs/sha256" / output.digest.hex[:2] / output.digest.hex
        (lost / "data").write_bytes(b"B")
        assert two.read_anew(b"a") == b"A"
        assert two.events == ["remote", "run"]


class Here(Dialer):
    """Finds every name on this machine."""

    def addresses(self, host: str, port: int) -> list[str]:
        return ["127.0.0.1"]


def test_over_tls(registry_server: RegistryServer, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    rules = f"client_max_body_size 0; proxy_redirect http://{registry_server.host} https://$http_host;"
    with tls_mirror(tmp_path, authority, registry_server.host, "cache.example", rules=rules) as host:
        url = f"oci://cache.example:{host.rpartition(':')[2]}/team/tls"
        network = {"ca_files": (authority.file,), "dialer": Here()}
        one, two = (machine(tmp_path / name, url, **network) for name in "12")
        assert [one.read(b"a"), one.finish(), two.read(b"a"), two.finish()] == [b"A", 0, b"A", 0]
        assert two.events == ["remote"]
        assert one.warnings + two.warnings == []


def test_tokens_for_pulling_and_pushing(tmp_path: Path) -> None:
    with token_server(tmp_path) as tokens, docker_registry(tmp_path, by_token(tokens)) as server:
        url = f"oci://{server.host}/team/cache"
        one, two = machine(tmp_path / "1", url), machine(tmp_path / "2", url)
        for text in (b"a", b"b", b"c"):
            one.read(text)
        assert one.finish() == 0
        assert two.read(b"a") == b"A"
        assert (one.warnings, two.events) == ([], ["remote"])
        actions = {frozenset(scope.rpartition(":")[2].split(",")) for scope in tokens.scopes}
        assert actions == {frozenset(["pull"]), frozenset(["pull", "push"])}


def test_dead_registry(tmp_path: Path) -> None:
    one = machine(tmp_path, f"oci://127.0.0.1:{free_port()}/team/cache")
    assert [one.read(text) for text in (b"a", b"b")] == [b"A", b"B"]
    one.finish()
    assert len(one.warnings) == 1


def test_silent_registry_costs_one_time_out(tmp_path: Path) -> None:
    with answering() as server:
        one = machine(tmp_path, f"oci://{server.host}/team/cache", seconds=0.2)
        assert [one.read(text) for text in (b"a", b"b")] == [b"A", b"B"]
        one.finish()
        assert len(server.connections) == 1
        assert len(one.warnings) == 1
