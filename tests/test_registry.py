"""The registry's client, against Docker's own registry: what is pulled, by which name, and from where."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import ImageError, NetworkError
from linuxkit_rules.oci.dial import CONNECTIONS
from linuxkit_rules.oci.layout import Layout
from linuxkit_rules.oci.manifest import CONFIG, DOCKER_MANIFEST, MANIFEST, Manifest, Member, Platform
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.registry import Clients, Registry
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.fetch import WORKERS
from linuxkit_rules.stages.image import PullImage
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.stages.whole import WholeImage, read_whole
from linuxkit_rules.store.blobs import Store
from tests.images import AMD64, ARM64, Blobs, tar
from tests.servers.fixed import Fixed
from tests.servers.processes import free_port
from tests.servers.proxy import FaultProxy
from tests.servers.pulling import LOWER, UPPER, engine_in, layers_of, pull
from tests.servers.registry import push, push_blob, skopeo


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_in(tmp_path)


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


def test_an_endpoint_stands_for_a_registry(fixed: Fixed, engine: Engine) -> None:
    blobs = Blobs()
    fixed.serve(blobs, blobs.image([LOWER]))
    access = Access(endpoints=(("docker.io", f"http://{fixed.host}"),))
    assert pull(Engine(engine.store, access=access), "a/b:1") == [LOWER]


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_what_skopeo_pushes(registry: str, engine: Engine, tmp_path: Path, form: str) -> None:
    blobs = Blobs()
    for name, data in blobs.files((blobs.image([LOWER, UPPER]), {})).items():
        (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "layout" / name).write_bytes(data)
    target = f"docker://{registry}/a/skopeo:{form}"
    skopeo("copy", "--format", form, "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}", target)
    assert pull(engine, f"{registry}/a/skopeo:{form}") == [LOWER, UPPER]


def test_what_skopeo_pulls_is_the_same(registry: str, tmp_path: Path) -> None:
    blobs = Blobs()
    top = blobs.image([LOWER], "zstd")
    push(registry, blobs, top, "a/both", "1")
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry}/a/both:1", f"oci:{tmp_path / 'layout'}:1")
    with Access().registry(Reference.parse(f"{registry}/a/both:1")) as repository:
        assert repository.resolve() == Layout.at(tmp_path / "layout").find_ref("1") == top


def test_a_manifest_by_tag_and_by_digest(registry: str) -> None:
    blobs = Blobs()
    top = blobs.image([LOWER])
    push(registry, blobs, top, "a/manifest", "1")
    with Access().registry(Reference.parse(f"{registry}/a/manifest")) as repository:
        for name in ("1", str(top.digest)):
            assert repository.manifest(name) == (top, blobs.data[top.digest])
        assert repository.manifest("nosuch") is None
        assert repository.manifest(f"sha256:{'0' * 64}") is None


def test_referrers_by_the_fallback_tag(registry: str) -> None:
    """Docker's registry 2.8 has no referrers: clients that push them keep an index as a tag."""
    blobs = Blobs()
    top = blobs.image([LOWER])
    push(registry, blobs, top, "a/signed", "1")
    config = blobs.add(b"{}", CONFIG)
    push_blob(registry, b"{}", config, "a/signed")
    signature = blobs.add(Manifest(config, ()).to_bytes(), MANIFEST)
    index = blobs.index(Member(signature, None, {}, "application/x.signature"))
    push(registry, blobs, index, "a/signed", f"sha256-{top.digest.hex}")
    with Access().registry(Reference.parse(f"{registry}/a/signed")) as repository:
        (found,) = repository.referrers(top.digest)
        assert (found.descriptor, found.artifact_type) == (signature, "application/x.signature")
        assert repository.referrers(top.digest, "application/x.signature") == (found,)
        assert repository.referrers(top.digest, "application/x.other") == ()
        assert repository.referrers(Digest("0" * 64)) == ()


def test_referrers_come_in_pages(fixed: Fixed) -> None:
    subject = Digest("5" * 64)
    blobs = Blobs()
    members = [Member(blobs.add(bytes([n]), MANIFEST), None, {}, f"application/x.{n % 2}") for n in range(5)]
    path = f"/v2/a/b/referrers/{subject}"

    def hook(asked: str, headers: object) -> tuple[int, dict[str, str], bytes] | None:
        number = int(asked.partition("page=")[2] or 0)
        data = blobs.data[blobs.index(*members[number : number + 2]).digest]
        more = {"Link": f'<{path}?page={number + 2}>; rel="next"'} if number < 4 else {}
        return (200, more, data) if asked.startswith(path) else None

    fixed.hook = hook
    with Access().registry(Reference.parse(f"{fixed.host}/a/b")) as repository:
        assert repository.referrers(subject) == tuple(members)
        assert repository.referrers(subject, "application/x.1") == (members[1], members[3])
    assert fixed.asked[3][0] == f"{path}?artifactType=application%2Fx.1"


@pytest.mark.parametrize("link", ["http://127.0.0.1:1/v2/", "/v2/a/b/referrers/x"])
def test_pages_that_lead_astray_or_nowhere(fixed: Fixed, link: str) -> None:
    blobs = Blobs()
    member = Member(blobs.add(b"1", MANIFEST))
    data = blobs.data[blobs.index(member).digest]
    fixed.hook = lambda path, headers: (200, {"Link": f'<{link}>; rel="next"'}, data)
    repository = Access().registry(Reference.parse(f"{fixed.host}/a/b"))
    with pytest.raises(NetworkError, match="another place|does not end"):
        repository.referrers(Digest("5" * 64))


def test_an_index_gives_the_best_variant(registry: str, engine: Engine) -> None:
    blobs = Blobs()
    layers = {"v2": [UPPER], "": [LOWER], "v3": [LOWER, UPPER]}
    members = [
        Member(blobs.image(items, platform=AMD64), Platform("linux", "amd64", variant))
        for variant, items in layers.items()
    ]
    push(registry, blobs, blobs.index(*members), "a/variants", "1")
    assert pull(engine, f"{registry}/a/variants:1") == [LOWER]


def test_connections_are_few_and_kept(proxy: FaultProxy, registry: str, tmp_path: Path) -> None:
    blobs = Blobs()
    layers = [tar(a=bytes([number])) for number in range(24)]
    push(registry, blobs, blobs.image(layers), "a/many", "1")
    assert pull(engine_in(tmp_path), f"{proxy.host}/a/many:1") == layers
    assert len(proxy.asked) == 26
    assert proxy.connections <= CONNECTIONS


def test_blobs_come_at_once(fixed: Fixed, engine: Engine) -> None:
    """Each request for a layer is answered when as many as there are workers have come."""
    blobs = Blobs()
    layers = [tar(a=bytes([number])) for number in range(WORKERS)]
    top = blobs.image(layers)
    fixed.serve(blobs, top)
    names = {str(item.digest) for item in layers_of(blobs, top)}
    together = threading.Barrier(WORKERS, timeout=60)

    def hook(path: str, headers: object) -> None:
        if path.rpartition("/")[2] in names:
            together.wait()

    fixed.hook = hook
    assert pull(engine, f"{fixed.host}/a/b:1") == layers


def test_a_volume_has_the_best_variant(registry: str, engine: Engine) -> None:
    blobs = Blobs()
    members = {
        variant: Member(
            blobs.image([tar(a=variant.encode())], platform=Platform("linux", "arm", variant)),
            Platform("linux", "arm", variant),
        )
        for variant in ("v5", "v6", "v7", "v8")
    }
    push(registry, blobs, blobs.index(*members.values()), "a/arms", "1")
    source = PullImage(f"{registry}/a/arms:1", "arm64")
    for wanted, given in (("v7", "v7"), ("v6", "v6"), ("", "v7")):
        stage = WholeImage(source, (Platform("linux", "arm", wanted),))
        _, found = read_whole(engine.run(stage, {}).output, engine.store)
        digests = {item.digest for item in found}
        assert [name for name, item in members.items() if item.descriptor.digest in digests] == [given]
