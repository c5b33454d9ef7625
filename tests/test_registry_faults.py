"""Networks that fail: a proxy between the client and Docker's registry cuts, corrupts, refuses and delays."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import ImageError, NetworkError
from linuxkit_rules.oci.retry import ATTEMPTS, PassingError, Patience, Pauses, date_of, retry_after
from linuxkit_rules.stages.image import PullImage
from linuxkit_rules.stages.whole import WholeImage, read_whole
from tests.images import Blobs, tar
from tests.servers.proxy import (
    FaultProxy,
    corrupt,
    cut,
    header,
    nothing,
    page,
    silent,
    status,
    without_range,
)
from tests.servers.pulling import Slept, engine_in, layers_of, pull
from tests.servers.registry import RegistryServer, push

NOISE = tar(noise=random.Random(1).randbytes(700_000))
SIZE = len(NOISE)
LAYER = "/blobs/sha256"


@pytest.fixture(scope="module")
def layer(registry_server: RegistryServer) -> Descriptor:
    """The layer, of SIZE bytes, of an image that the registry has as a/noise:1."""
    blobs = Blobs()
    top = blobs.image([NOISE], "")
    push(registry_server.host, blobs, top, "a/noise", "1")
    (found,) = layers_of(blobs, top)
    return found


def pulled(proxy: FaultProxy, tmp_path: Path, slept: Slept | None = None) -> bool:
    return pull(engine_in(tmp_path, slept), f"{proxy.host}/a/noise:1") == [NOISE]


def test_a_blob_goes_on_where_it_broke_off(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    """Each byte comes once: what arrived before the break is not asked for again."""
    for count in (300_000, 200_000, 1):
        proxy.inject(str(layer.digest), cut(count))
    assert pulled(proxy, tmp_path)
    assert proxy.ranges() == ["bytes=300000-", "bytes=500000-", "bytes=500001-"]


def test_progress_is_what_keeps_patience(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    breaks = 2 * ATTEMPTS
    proxy.inject(str(layer.digest), cut(10_000), breaks)
    slept = Slept()
    assert pulled(proxy, tmp_path, slept)
    assert slept.seconds == [0.5] * breaks


def test_without_progress_it_ends(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    proxy.inject(str(layer.digest), cut(1000))
    proxy.inject(str(layer.digest), cut(0), ATTEMPTS - 1)
    slept = Slept()
    with pytest.raises(NetworkError, match="broke") as caught:
        pulled(proxy, tmp_path, slept)
    assert slept.seconds == [0.5, 1.0, 2.0, 4.0]
    assert f"{proxy.host}/a/noise" in str(caught.value)


def test_a_server_without_ranges_sends_it_again(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    proxy.inject(str(layer.digest), cut(300_000))
    proxy.inject(str(layer.digest), nothing, before=without_range)
    assert pulled(proxy, tmp_path)
    assert proxy.ranges() == ["bytes=300000-"]


@pytest.mark.parametrize("said", [f"bytes 5-{SIZE - 1}/{SIZE}", "bytes 300000-300001/7", "pages 1-2/3", ""])
def test_a_wrong_range_is_not_believed(
    proxy: FaultProxy, layer: Descriptor, tmp_path: Path, said: str
) -> None:
    proxy.inject(str(layer.digest), cut(300_000))
    proxy.inject(str(layer.digest), header("Content-Range", said))
    assert pulled(proxy, tmp_path)
    assert proxy.ranges() == ["bytes=300000-"]


def test_a_range_that_is_refused(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    proxy.inject(str(layer.digest), cut(300_000))
    proxy.inject(str(layer.digest), status(416))
    assert pulled(proxy, tmp_path)


def test_a_part_of_another_version_is_not_taken(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    """The strong validator of the first part goes along as If-Range."""
    proxy.inject(str(layer.digest), cut(300_000))
    assert pulled(proxy, tmp_path)
    (conditions,) = [headers["If-Range"] for _, headers in proxy.asked if "If-Range" in headers]
    assert conditions == f'"{layer.digest}"'


@pytest.mark.parametrize("at", [0, 350_000, SIZE - 1])
def test_a_corrupt_blob_is_fetched_once_more(
    proxy: FaultProxy, layer: Descriptor, tmp_path: Path, at: int
) -> None:
    proxy.inject(str(layer.digest), corrupt(at))
    assert pulled(proxy, tmp_path)
    assert proxy.count(str(layer.digest)) == 2


def test_a_corrupt_part_is_found_out(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    """The broken part joins the good one; the whole does not have the digest, and is fetched again."""
    proxy.inject(str(layer.digest), cut(300_000))
    proxy.inject(str(layer.digest), corrupt(7))
    assert pulled(proxy, tmp_path)
    assert proxy.count(str(layer.digest)) == 3


def test_what_stays_corrupt_is_refused(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    proxy.inject(str(layer.digest), corrupt(7), 2)
    engine = engine_in(tmp_path)
    with pytest.raises(ImageError, match="wrong content"):
        pull(engine, f"{proxy.host}/a/noise:1")
    assert not engine.store.path(layer.digest).exists()


def test_a_whole_image_has_a_second_chance_too(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    """A volume takes the layer's blob as it is: it comes from the proxy damaged, and then whole."""
    proxy.inject(str(layer.digest), corrupt(7))
    engine = engine_in(tmp_path)
    source = PullImage(f"{proxy.host}/a/noise:1", "amd64")
    top, found = read_whole(engine.run(WholeImage(source), {}).output, engine.store)
    assert layer.digest in {item.digest for item in found}
    assert top in found
    assert engine.store.read(layer.digest) == NOISE


@pytest.mark.parametrize("part", ["/manifests/", LAYER])
@pytest.mark.parametrize("number", [408, 429, 500, 502, 503, 504])
def test_statuses_that_pass(
    proxy: FaultProxy, layer: Descriptor, tmp_path: Path, part: str, number: int
) -> None:
    proxy.inject(part, status(number), 2)
    slept = Slept()
    assert pulled(proxy, tmp_path, slept)
    assert sorted(slept.seconds) in ([0.5, 1.0], [0.5, 0.5])


@pytest.mark.parametrize("number", [400, 403, 404, 410, 451, 501])
def test_statuses_that_stay(proxy: FaultProxy, layer: Descriptor, tmp_path: Path, number: int) -> None:
    proxy.inject(str(layer.digest), status(number))
    slept = Slept()
    with pytest.raises((NetworkError, ImageError)):
        pulled(proxy, tmp_path, slept)
    assert slept.seconds == []


def test_retry_after_is_kept(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    proxy.inject("/manifests/", status(429, Retry_After="7"))
    proxy.inject("/manifests/", status(503, Retry_After="0"))
    slept = Slept()
    assert pulled(proxy, tmp_path, slept)
    assert slept.seconds == [7.0, 1.0]


def test_a_longer_wait_than_a_minute_is_an_error(
    proxy: FaultProxy, layer: Descriptor, tmp_path: Path
) -> None:
    proxy.inject("/manifests/", status(429, Retry_After="3600"))
    slept = Slept()
    with pytest.raises(NetworkError, match=r"refuses more requests .*try again in 3600 seconds, or log in"):
        pulled(proxy, tmp_path, slept)
    assert slept.seconds == []


def test_a_silent_server_is_asked_again(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    """It sends some bytes and then nothing, with the connection open."""
    done = threading.Event()
    proxy.inject(str(layer.digest), silent(1000, done))
    try:
        engine = engine_in(tmp_path, read_seconds=0.5)
        assert pull(engine, f"{proxy.host}/a/noise:1") == [NOISE]
    finally:
        done.set()
    assert proxy.ranges() == ["bytes=1000-"]


def test_a_dripping_server_is_left(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    """By a clock on which each look is a minute later, what comes is too slow to be waited for."""
    times = iter(range(0, 10**9, 3600))
    with pytest.raises(NetworkError, match="sends only"):
        pull(engine_in(tmp_path, clock=lambda: next(times)), f"{proxy.host}/a/noise:1")


def test_a_captive_portal_is_named(proxy: FaultProxy, layer: Descriptor, tmp_path: Path) -> None:
    proxy.inject("/manifests/", page)
    with pytest.raises(NetworkError, match="web page, not as a registry"):
        pulled(proxy, tmp_path)


@pytest.mark.parametrize(("length", "why"), [(SIZE + 1, "longer than"), (SIZE - 1, "ends after")])
def test_a_wrong_length_is_refused(
    proxy: FaultProxy, layer: Descriptor, tmp_path: Path, length: int, why: str
) -> None:
    proxy.inject(str(layer.digest), header("Content-Length", str(length)), 2)
    with pytest.raises(ImageError, match=why):
        pulled(proxy, tmp_path)


def test_a_redirect_is_followed_and_resumed(
    proxy: FaultProxy, layer: Descriptor, registry: str, tmp_path: Path
) -> None:
    target = f"http://{registry}/v2/a/noise/blobs/{layer.digest}"
    proxy.inject(str(layer.digest), cut(300_000))
    proxy.inject(str(layer.digest), status(307, Location=target))
    assert pulled(proxy, tmp_path)


def test_patience_has_an_end_in_seconds() -> None:
    slept: list[float] = []
    patience = Patience(Pauses(slept.append, lambda: 0.5), attempts=100)
    with pytest.raises(PassingError, match="x"):
        while True:
            patience.pause(PassingError("x"))
    assert slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "5"}, 5.0),
        ({"Retry-After": " 0 "}, 0.0),
        (
            {"Retry-After": "Thu, 01 Jan 2026 00:01:00 GMT", "Date": "Thu, 01 Jan 2026 00:00:30 GMT"},
            30.0,
        ),
        (
            {"Retry-After": "Thu, 01 Jan 2026 00:00:00 GMT", "Date": "Thu, 01 Jan 2026 00:00:30 GMT"},
            0.0,
        ),
        ({"Retry-After": "Thu, 01 Jan 2026 00:01:00 GMT"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon", "Date": "now"}, None),
        ({"Retry-After": "²"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_dates_of_both_kinds_are_the_same() -> None:
    assert date_of("Thu, 01 Jan 2026 00:00:00 GMT") == date_of("2026-01-01T01:00:00.000+01:00")
    assert date_of("2026-01-01T00:00:00Z") == date_of("2026-01-01T00:00:00")
