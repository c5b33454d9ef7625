"""The registry's client, against Docker's own registry and against servers that lie."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import requests

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError, NetworkError
from linuxkit_rules.oci.image import load
from linuxkit_rules.oci.manifest import DOCKER_MANIFEST, INDEXES, LAYER, MANIFEST, MANIFESTS, Member, parse
from linuxkit_rules.oci.manifest import Index as ImageIndex
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.registry import Clients, Registry
from linuxkit_rules.oci.retry import Pauses
from linuxkit_rules.oci.transport import Network
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.image import PullImage
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.store.blobs import Store
from tests.images import AMD64, ARM64, Blobs, tar
from tests.tools import tool

LOWER, UPPER = tar(a=b"1" * 100_000, b=b"2"), tar(b=b"3")


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    network = Network(pauses=Pauses(sleep=lambda seconds: None))
    return Engine(Store(tmp_path / "store"), access=Access(network=network))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


CONFIGURATION = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on loopback; gives its ``host:port``."""
    root, port = tmp_path_factory.mktemp("registry"), free_port()
    (root / "config.yml").write_text(CONFIGURATION.format(root=root / "data", port=port))
    command = tool("docker-registry", "usr/bin/docker-registry")
    server = subprocess.Popen([*command, "serve", str(root / "config.yml")])
    try:
        while not answers(port):
            assert server.poll() is None, "the registry ended before it answered"
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def push(host: str, blobs: Blobs, top: Descriptor, repository: str, tag: str) -> None:
    """Push an image by plain HTTP, as the distribution specification says ("Push")."""
    base = f"http://{host}/v2/{repository}"
    value = parse(blobs.data[top.digest], top.media_type, "test")
    if isinstance(value, ImageIndex):
        for member in value.members:
            push(host, blobs, member.descriptor, repository, str(member.descriptor.digest))
    else:
        for item in (value.config, *value.layers):
            begun = requests.post(f"{base}/blobs/uploads/", timeout=60)
            begun.raise_for_status()
            done = requests.put(
                begun.headers["Location"],
                params={"digest": str(item.digest)},
                data=blobs.data[item.digest],
                timeout=60,
            )
            done.raise_for_status()
    requests.put(
        f"{base}/manifests/{tag}",
        data=blobs.data[top.digest],
        headers={"Content-Type": top.media_type},
        timeout=60,
    ).raise_for_status()


def pull(engine: Engine, reference: str, arch: str = "amd64") -> list[bytes]:
    image = load(engine.store, engine.run(PullImage(reference, arch), {}).output)
    assert image.manifest.media_type == MANIFEST
    assert {layer.media_type for layer in image.layers} <= {LAYER}
    return [engine.store.read(layer.digest) for layer in image.layers]


@pytest.mark.parametrize("how", ["gzip", "zstd", ""])
def test_an_image_by_tag_and_by_digest(registry: str, engine: Engine, how: str) -> None:
    blobs = Blobs()
    image = blobs.image([LOWER, UPPER], how)
    push(registry, blobs, image, "a/b", f"t{how}")
    for name in (
        f"{registry}/a/b:t{how}",
        f"{registry}/a/b@{image.digest}",
        f"{registry}/a/b:x@{image.digest}",
    ):
        assert pull(engine, name) == [LOWER, UPPER]


def test_a_docker_schema_2_image(registry: str, engine: Engine) -> None:
    blobs = Blobs()
    image = blobs.image([LOWER], docker=True)
    assert image.media_type == DOCKER_MANIFEST
    push(registry, blobs, image, "a/docker", "latest")
    assert pull(engine, f"{registry}/a/docker") == [LOWER]


def test_an_index_gives_the_platform_s_image(registry: str, engine: Engine) -> None:
    blobs = Blobs()
    arm = blobs.image([UPPER], platform=ARM64)
    index = blobs.index(Member(arm, ARM64), Member(blobs.image([LOWER]), AMD64))
    push(registry, blobs, index, "a/index", "1")
    assert pull(engine, f"{registry}/a/index:1") == [LOWER]
    assert pull(engine, f"{registry}/a/index:1", "arm64") == [UPPER]
    with pytest.raises(ImageError, match="no image for linux/s390x"):
        pull(engine, f"{registry}/a/index:1", "s390x")


def test_what_is_in_the_store_is_not_asked_for_again(registry: str, tmp_path: Path) -> None:
    blobs = Blobs()
    push(registry, blobs, blobs.image([LOWER, UPPER]), "a/once", "1")
    events: list[Event] = []
    engine = Engine(Store(tmp_path / "store"), events.append)
    pull(engine, f"{registry}/a/once:1")
    events.clear()
    offline = Engine(engine.store, events.append, Access(offline=True))
    pull(offline, f"{registry}/a/once:1")
    assert [event.how for event in events] == ["hit"]
    with pytest.raises(NetworkError, match="nothing may be fetched"):
        pull(offline, f"{registry}/a/once:2")


@pytest.mark.parametrize("name", ["a/b:nosuch", "no/such:1", f"a/b@sha256:{'0' * 64}"])
def test_a_missing_image_is_named(registry: str, engine: Engine, name: str) -> None:
    with pytest.raises(ImageError, match="no such image") as caught:
        pull(engine, f"{registry}/{name}")
    assert f"{registry}/{name}" in str(caught.value)


def test_a_refused_connection(engine: Engine) -> None:
    with pytest.raises(NetworkError, match="Connection refused") as caught:
        pull(engine, f"127.0.0.1:{free_port()}/a/b")
    assert "object at 0x" not in str(caught.value)


def test_an_unknown_host(engine: Engine) -> None:
    with pytest.raises(NetworkError, match=r"cannot reach https://registry\.invalid/v2/a/b/"):
        pull(engine, "registry.invalid/a/b")


Answer = tuple[int, Mapping[str, str], bytes]


@dataclass
class Hostile:
    """A server that gives fixed answers by path and keeps the headers of what it was asked."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    host: str = ""
    hook: Callable[[str, Mapping[str, str]], Answer | None] = lambda path, headers: None

    def serve(self, blobs: Blobs, image: Descriptor) -> None:
        """Answer as a registry would for the repository ``a/b``."""
        for digest, data in blobs.data.items():
            self.answers[f"/v2/a/b/blobs/{digest}"] = (200, {}, data)
        manifest = (200, {"Content-Type": image.media_type}, blobs.data[image.digest])
        self.answers[f"/v2/a/b/manifests/{image.digest}"] = manifest
        self.answers["/v2/a/b/manifests/1"] = manifest


@contextlib.contextmanager
def serving() -> Iterator[Hostile]:
    hostile = Hostile()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"

        def do_GET(self) -> None:
            hostile.asked.append((self.path, dict(self.headers)))
            plain = self.path.partition("?")[0]
            found = hostile.hook(self.path, self.headers)
            status, headers, body = found or hostile.answers.get(plain, (404, {}, b""))
            self.send_response(status)
            always = {"Content-Length": str(len(body)), "Connection": "close"}
            for name, value in {**always, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        hostile.host = f"127.0.0.1:{server.server_port}"
        try:
            yield hostile
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with serving() as server:
        yield server


@pytest.fixture
def image(hostile: Hostile) -> tuple[Blobs, Descriptor, Digest]:
    """An image of one layer that the server has: blobs, manifest, the layer's digest."""
    blobs = Blobs()
    found = blobs.image([LOWER])
    hostile.serve(blobs, found)
    (layer,) = (digest for digest, data in blobs.data.items() if data[:2] == b"\x1f\x8b")
    return blobs, found, layer


Image = tuple[Blobs, Descriptor, Digest]


def test_the_fixed_server_serves(hostile: Hostile, image: Image, engine: Engine) -> None:
    assert pull(engine, f"{hostile.host}/a/b:1") == [LOWER]
    accept = hostile.asked[0][1]
    assert accept["Accept-Encoding"] == "identity"
    assert set(accept["Accept"].split(", ")) == {*INDEXES, *MANIFESTS}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "wrong content"),
        (lambda data: data + b"x", "longer than"),
        (lambda data: data[:-1], "ends after"),
    ],
)
def test_a_false_blob_is_refused(
    hostile: Hostile, image: Image, engine: Engine, change: Callable[[bytes], bytes], why: str
) -> None:
    blobs, _, layer = image
    hostile.answers[f"/v2/a/b/blobs/{layer}"] = (200, {}, change(blobs.data[layer]))
    with pytest.raises(ImageError, match=why) as caught:
        pull(engine, f"{hostile.host}/a/b:1")
    assert str(layer) in str(caught.value)
    assert not engine.store.path(Digest.of(LOWER)).exists()


def test_a_blob_that_breaks_off(hostile: Hostile, image: Image, engine: Engine) -> None:
    blobs, _, layer = image
    data = blobs.data[layer]
    hostile.answers[f"/v2/a/b/blobs/{layer}"] = (200, {"Content-Length": str(len(data))}, data[:-9])
    with pytest.raises((NetworkError, ImageError), match=r"broke|ends after"):
        pull(engine, f"{hostile.host}/a/b:1")


def test_a_false_manifest_is_refused(hostile: Hostile, image: Image, engine: Engine) -> None:
    blobs, top, _ = image
    text = blobs.data[top.digest] + b" "
    path = f"/v2/a/b/manifests/{top.digest}"
    hostile.answers[path] = (200, {"Content-Type": MANIFEST}, text)
    with pytest.raises(ImageError, match=f"gave a manifest {Digest.of(text)}, not {top.digest}"):
        pull(engine, f"{hostile.host}/a/b@{top.digest}")
    hostile.answers["/v2/a/b/manifests/1"] = (
        200,
        {"Content-Type": MANIFEST, "Docker-Content-Digest": str(top.digest)},
        text,
    )
    with pytest.raises(ImageError, match="gave a manifest"):
        pull(engine, f"{hostile.host}/a/b:1")


def test_a_web_page_is_no_manifest(hostile: Hostile, engine: Engine) -> None:
    hostile.answers["/v2/a/b/manifests/1"] = (200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")
    with pytest.raises(ImageError, match="JSON"):
        pull(engine, f"{hostile.host}/a/b:1")


def test_a_lying_content_type_is_refused(hostile: Hostile, image: Image, engine: Engine) -> None:
    blobs, top, _ = image
    hostile.answers["/v2/a/b/manifests/1"] = (200, {"Content-Type": INDEXES[0]}, blobs.data[top.digest])
    with pytest.raises(ImageError, match="was announced as"):
        pull(engine, f"{hostile.host}/a/b:1")


def test_an_endless_manifest_is_refused(hostile: Hostile, engine: Engine) -> None:
    hostile.answers["/v2/a/b/manifests/1"] = (200, {"Content-Type": MANIFEST}, b" " * (5 << 20))
    with pytest.raises(ImageError, match="longer than"):
        pull(engine, f"{hostile.host}/a/b:1")


def wants_token(hostile: Hostile, realm: str) -> None:
    """Let the server answer 401 to whoever brings no token."""
    challenge = f'Bearer realm="{realm}",service="s p",scope="repository:a/b:pull"'

    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        if path.startswith("/v2/") and headers.get("Authorization") != "Bearer t0k":
            return 401, {"WWW-Authenticate": challenge}, b"{}"
        return None

    hostile.hook = hook


def test_an_anonymous_token(hostile: Hostile, image: Image, engine: Engine) -> None:
    wants_token(hostile, f"http://{hostile.host}/token?x=1")
    hostile.answers["/token"] = (200, {}, json.dumps({"token": "t0k"}).encode())
    assert pull(engine, f"{hostile.host}/a/b:1") == [LOWER]
    (asked,) = [path for path, _ in hostile.asked if path.startswith("/token")]
    assert asked == "/token?x=1&scope=repository%3Aa%2Fb%3Apull&service=s+p"


def test_a_token_that_runs_out_is_renewed(hostile: Hostile, image: Image, engine: Engine) -> None:
    _, _, layer = image
    wants_token(hostile, f"http://{hostile.host}/token")
    first = hostile.hook

    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        if path.endswith(str(layer)):
            given = headers.get("Authorization")
            challenge = {"WWW-Authenticate": f'Bearer realm="http://{hostile.host}/token"'}
            return None if given == "Bearer t1k" else (401, challenge, b"")
        if path.startswith("/token"):
            count = sum(asked.startswith("/token") for asked, _ in hostile.asked)
            return 200, {}, json.dumps({"token": f"t{count - 1}k"}).encode()
        return first(path, headers)

    hostile.hook = hook
    assert pull(engine, f"{hostile.host}/a/b:1") == [LOWER]


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        ((200, {}, b'{"token": 1}'), NetworkError, "without a token"),
        ((200, {}, b"[]"), NetworkError, "without a token"),
        ((200, {}, b"<"), NetworkError, "without a token"),
        ((401, {}, b""), NetworkError, "gives no token without a login"),
        ((200, {}, b'{"access_token": "other"}'), ImageError, "needs a login"),
    ],
)
def test_no_token(
    hostile: Hostile, image: Image, engine: Engine, answer: Answer, error: type[Exception], why: str
) -> None:
    wants_token(hostile, f"http://{hostile.host}/token")
    hostile.answers["/token"] = answer
    with pytest.raises(error, match=why):
        pull(engine, f"{hostile.host}/a/b:1")


def test_a_realm_that_is_no_address(hostile: Hostile, image: Image, engine: Engine) -> None:
    for realm, why in (("http://[", "no address"), ("http://registry.invalid/", "is refused")):
        wants_token(hostile, realm)
        with pytest.raises(NetworkError, match=why):
            pull(engine, f"{hostile.host}/a/b:1")


def test_another_kind_of_login(hostile: Hostile, engine: Engine) -> None:
    hostile.answers["/v2/a/b/manifests/1"] = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    with pytest.raises(NetworkError, match="wants a login"):
        pull(engine, f"{hostile.host}/a/b:1")


def test_a_redirect_gets_no_token(hostile: Hostile, image: Image, engine: Engine) -> None:
    blobs, _, layer = image
    wants_token(hostile, f"http://{hostile.host}/token")
    hostile.answers["/token"] = (200, {}, b'{"access_token": "t0k"}')
    with serving() as other:
        other.answers["/elsewhere"] = (200, {}, blobs.data[layer])
        target = f"http://{other.host}/elsewhere?signature=1"
        hostile.answers[f"/v2/a/b/blobs/{layer}"] = (307, {"Location": target}, b"")
        assert pull(engine, f"{hostile.host}/a/b:1") == [LOWER]
    ((path, headers),) = other.asked
    assert path == "/elsewhere?signature=1"
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://registry.invalid/x", "sends us to http://registry.invalid/x, which is refused"),
        ("file:///etc/passwd", "which is refused"),
        ("http://[", "cannot reach"),
        ("/v2/a/b/manifests/1", "more than 5 redirects"),
    ],
)
def test_a_redirect_that_is_refused(hostile: Hostile, engine: Engine, target: str, why: str) -> None:
    hostile.answers["/v2/a/b/manifests/1"] = (302, {"Location": target}, b"")
    with pytest.raises(NetworkError, match=why):
        pull(engine, f"{hostile.host}/a/b:1")


@pytest.mark.parametrize(
    ("status", "error", "why"),
    [
        (403, ImageError, "needs a login"),
        (429, NetworkError, "refuses more requests"),
        (500, NetworkError, "status 500"),
        (206, NetworkError, "status 206"),
    ],
)
def test_other_answers(
    hostile: Hostile, engine: Engine, status: int, error: type[Exception], why: str
) -> None:
    hostile.answers["/v2/a/b/manifests/1"] = (status, {}, b"")
    with pytest.raises(error, match=why):
        pull(engine, f"{hostile.host}/a/b:1")
    assert len(hostile.asked) == (4 if status == 500 else 1)


def test_a_busy_server_is_asked_again(hostile: Hostile, image: Image, engine: Engine) -> None:
    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        return (503, {}, b"") if len(hostile.asked) == 1 else None

    hostile.hook = hook
    assert pull(engine, f"{hostile.host}/a/b:1") == [LOWER]


@pytest.mark.parametrize(
    ("domain", "plain", "scheme"),
    [
        ("localhost:5000", (), "http"),
        ("127.9.9.9", (), "http"),
        ("[::1]:5000", (), "http"),
        ("registry.invalid", (), "https"),
        ("localhost.invalid", (), "https"),
        ("registry.invalid:5000", ("registry.invalid:5000",), "http"),
        ("registry.invalid:5000", ("registry.invalid",), "http"),
        ("registry.invalid:5001", ("registry.invalid:5000",), "https"),
    ],
)
def test_plain_http_is_for_loopback_or_by_name(domain: str, plain: tuple[str, ...], scheme: str) -> None:
    with Registry(Reference(domain, "a", "1"), Clients.on(Network(plain_http=plain))) as registry:
        assert registry.base == f"{scheme}://{domain}/v2/a/"


def test_the_default_domain_is_answered_for_by_its_registry() -> None:
    with Registry(Reference.parse("redis:7")) as registry:
        assert registry.base == "https://registry-1.docker.io/v2/library/redis/"


def test_an_endpoint_stands_for_a_registry(hostile: Hostile, image: Image, engine: Engine) -> None:
    access = Access(endpoints=(("docker.io", f"http://{hostile.host}"),))
    assert pull(Engine(engine.store, access=access), "a/b:1") == [LOWER]
