"""Servers that lie: what they say is refused, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import ImageError, NetworkError
from linuxkit_rules.oci.manifest import INDEXES, MANIFEST, MANIFESTS
from linuxkit_rules.stages.stage import Engine
from tests.servers.fixed import Answer, Fixed
from tests.servers.pulling import LOWER, Image, engine_in, pull, served


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_in(tmp_path)


@pytest.fixture
def image(fixed: Fixed) -> Image:
    return served(fixed)


def test_the_fixed_server_serves(fixed: Fixed, image: Image, engine: Engine) -> None:
    assert pull(engine, f"{fixed.host}/a/b:1") == [LOWER]
    accept = fixed.asked[0][1]
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
    fixed: Fixed, image: Image, engine: Engine, change: Callable[[bytes], bytes], why: str
) -> None:
    blobs, _, layer = image
    fixed.answers[f"/v2/a/b/blobs/{layer}"] = (200, {}, change(blobs.data[layer]))
    with pytest.raises(ImageError, match=why) as caught:
        pull(engine, f"{fixed.host}/a/b:1")
    assert str(layer) in str(caught.value)
    assert not engine.store.path(Digest.of(LOWER)).exists()


def test_a_blob_that_breaks_off(fixed: Fixed, image: Image, engine: Engine) -> None:
    blobs, _, layer = image
    data = blobs.data[layer]
    fixed.answers[f"/v2/a/b/blobs/{layer}"] = (200, {"Content-Length": str(len(data))}, data[:-9])
    with pytest.raises((NetworkError, ImageError), match=r"broke|ends after"):
        pull(engine, f"{fixed.host}/a/b:1")


def test_a_false_manifest_is_refused(fixed: Fixed, image: Image, engine: Engine) -> None:
    blobs, top, _ = image
    text = blobs.data[top.digest] + b" "
    path = f"/v2/a/b/manifests/{top.digest}"
    fixed.answers[path] = (200, {"Content-Type": MANIFEST}, text)
    with pytest.raises(ImageError, match=f"gave a manifest {Digest.of(text)}, not {top.digest}"):
        pull(engine, f"{fixed.host}/a/b@{top.digest}")
    fixed.answers["/v2/a/b/manifests/1"] = (
        200,
        {"Content-Type": MANIFEST, "Docker-Content-Digest": str(top.digest)},
        text,
    )
    with pytest.raises(ImageError, match="gave a manifest"):
        pull(engine, f"{fixed.host}/a/b:1")


def test_a_web_page_is_no_manifest(fixed: Fixed, engine: Engine) -> None:
    fixed.answers["/v2/a/b/manifests/1"] = (200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")
    with pytest.raises(NetworkError, match="answers with a web page"):
        pull(engine, f"{fixed.host}/a/b:1")


def test_a_lying_content_type_is_refused(fixed: Fixed, image: Image, engine: Engine) -> None:
    blobs, top, _ = image
    fixed.answers["/v2/a/b/manifests/1"] = (200, {"Content-Type": INDEXES[0]}, blobs.data[top.digest])
    with pytest.raises(ImageError, match="was announced as"):
        pull(engine, f"{fixed.host}/a/b:1")


def test_an_endless_manifest_is_refused(fixed: Fixed, engine: Engine) -> None:
    fixed.answers["/v2/a/b/manifests/1"] = (200, {"Content-Type": MANIFEST}, b" " * (5 << 20))
    with pytest.raises(NetworkError, match="longer than"):
        pull(engine, f"{fixed.host}/a/b:1")


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://registry.invalid/x", "sends us to http://registry.invalid/x, which is refused"),
        ("file:///etc/passwd", "which is refused"),
        ("http://[", "cannot reach"),
        ("/v2/a/b/manifests/1", "more than 5 redirects"),
    ],
)
def test_a_redirect_that_is_refused(fixed: Fixed, engine: Engine, target: str, why: str) -> None:
    fixed.answers["/v2/a/b/manifests/1"] = (302, {"Location": target}, b"")
    with pytest.raises(NetworkError, match=why):
        pull(engine, f"{fixed.host}/a/b:1")


@pytest.mark.parametrize(
    ("status", "error", "why"),
    [
        (403, ImageError, "needs a login"),
        (429, NetworkError, "refuses more requests"),
        (500, NetworkError, "status 500"),
        (206, NetworkError, "status 206"),
    ],
)
def test_other_answers(fixed: Fixed, engine: Engine, status: int, error: type[Exception], why: str) -> None:
    fixed.answers["/v2/a/b/manifests/1"] = (status, {}, b"")
    with pytest.raises(error, match=why):
        pull(engine, f"{fixed.host}/a/b:1")
    assert len(fixed.asked) == (5 if status in (429, 500) else 1)


def test_a_busy_server_is_asked_again(fixed: Fixed, image: Image, engine: Engine) -> None:
    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        return (503, {}, b"") if len(fixed.asked) == 1 else None

    fixed.hook = hook
    assert pull(engine, f"{fixed.host}/a/b:1") == [LOWER]


def test_a_blob_of_another_length_is_refused_unread(fixed: Fixed, image: Image, engine: Engine) -> None:
    _, _, layer = image
    fixed.answers[f"/v2/a/b/blobs/{layer}"] = (200, {"Content-Length": str(1 << 40)}, b"")
    with pytest.raises(ImageError, match="longer than"):
        pull(engine, f"{fixed.host}/a/b:1")


def test_an_endless_blob_is_cut(fixed: Fixed, image: Image, engine: Engine) -> None:
    """Without a length, the server may send for ever: more than one byte too many is not read."""
    _, _, layer = image
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    headers = {"Transfer-Encoding": "chunked", "Content-Length": ""}
    fixed.answers[f"/v2/a/b/blobs/{layer}"] = (200, headers, chunk * 100)
    with pytest.raises(ImageError, match="longer than"):
        pull(engine, f"{fixed.host}/a/b:1")


def test_an_encoded_answer_is_refused(fixed: Fixed, image: Image, engine: Engine) -> None:
    blobs, _, layer = image
    fixed.answers[f"/v2/a/b/blobs/{layer}"] = (200, {"Content-Encoding": "gzip"}, blobs.data[layer])
    with pytest.raises(NetworkError, match="encodes its answer as gzip"):
        pull(engine, f"{fixed.host}/a/b:1")


@pytest.mark.parametrize("said", ["", "application/octet-stream", "application/json"])
def test_a_vague_content_type_leaves_it_to_the_manifest(
    fixed: Fixed, image: Image, engine: Engine, said: str
) -> None:
    blobs, top, _ = image
    fixed.answers["/v2/a/b/manifests/1"] = (200, {"Content-Type": said}, blobs.data[top.digest])
    assert pull(engine, f"{fixed.host}/a/b:1") == [LOWER]


def test_schema_1_is_named(fixed: Fixed, engine: Engine) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    fixed.answers["/v2/a/b/manifests/1"] = (200, {"Content-Type": kind}, b"{}")
    with pytest.raises(ImageError, match="schema 1"):
        pull(engine, f"{fixed.host}/a/b:1")


def test_no_cookie_is_kept(fixed: Fixed, image: Image, engine: Engine) -> None:
    blobs, top, _ = image
    given = {"Content-Type": MANIFEST, "Set-Cookie": "a=b; Path=/"}
    fixed.answers["/v2/a/b/manifests/1"] = (200, given, blobs.data[top.digest])
    pull(engine, f"{fixed.host}/a/b:1")
    assert len(fixed.asked) > 1
    assert not any("Cookie" in headers for _, headers in fixed.asked)
