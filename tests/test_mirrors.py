"""Mirrors of registries: nginx with TLS before Docker's registry, certificates, proxies, fall-through."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from linuxkit_rules.errors import ImageError, NetworkError, UsageError
from linuxkit_rules.host import access
from linuxkit_rules.oci.credentials import Credential
from linuxkit_rules.oci.dial import Proxies
from linuxkit_rules.oci.mirrors import Mirror
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.stages.image import PullImage
from linuxkit_rules.stages.stage import Engine, key
from tests.images import Blobs
from tests.servers.certificates import Authority
from tests.servers.fixed import Fixed
from tests.servers.nginx import tls_mirror
from tests.servers.processes import free_port
from tests.servers.proxy import Fault, FaultProxy, corrupt, cut, fault_proxy, header, silent, status
from tests.servers.pulling import LOWER, UPPER, Slept, Warnings, engine_in, pull
from tests.servers.registry import RegistryServer, push


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def mirror(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, registry_server: RegistryServer
) -> Iterator[str]:
    """A mirror with TLS, below a path; gives its URL."""
    folder = tmp_path_factory.mktemp("mirror")
    upstream = registry_server.host
    with tls_mirror(folder, authority, upstream, "registry.test", prefix="/some/path") as host:
        yield f"https://{host}/some/path"


@pytest.fixture(scope="module")
def blobs(registry_server: RegistryServer) -> Blobs:
    made = Blobs()
    push(registry_server.host, made, made.image([LOWER, UPPER]), "a/mirrored", "1")
    push(registry_server.host, made, made.image([LOWER]), "library/alone", "latest")
    return made


@pytest.mark.parametrize("name", ["registry.invalid/a/mirrored:1", "a/mirrored:1", "alone"])
def test_a_mirror_stands_for_a_registry_that_is_away(
    mirror: str, authority: Authority, blobs: Blobs, tmp_path: Path, name: str
) -> None:
    registry = "registry.invalid" if name.startswith("registry") else "docker.io"
    warnings = Warnings()
    engine = engine_in(
        tmp_path, mirrors=(Mirror(registry, mirror),), ca_files=(authority.file,), progress=warnings
    )
    assert pull(engine, name)[0] == LOWER
    assert warnings.texts == []


def test_a_recipe_keeps_the_registry_s_name(tmp_path: Path, mirror: str, authority: Authority) -> None:
    """What comes from a mirror is remembered as the registry's; mirrors are no part of the key."""
    stage = PullImage("registry.invalid/a/mirrored:1", "amd64")
    mirrors = (Mirror("registry.invalid", mirror),)
    engine = engine_in(tmp_path, mirrors=mirrors, ca_files=(authority.file,))
    output = engine.run(stage, {}).output
    assert engine_in(tmp_path, offline=True).run(stage, {}).output == output
    assert mirror not in repr(stage) + key(stage, {})


def test_mirrors_are_for_their_registry_alone(
    fixed: Fixed, registry: str, blobs: Blobs, tmp_path: Path
) -> None:
    engine = engine_in(tmp_path, mirrors=(Mirror("docker.io", f"http://{fixed.host}"),))
    assert pull(engine, f"{registry}/a/mirrored:1") == [LOWER, UPPER]
    assert fixed.asked == []


def test_the_first_mirror_that_has_it_serves(
    fixed: Fixed, mirror: str, authority: Authority, blobs: Blobs, tmp_path: Path
) -> None:
    """One that is down, one that has nothing, one that is right: each of the first is told of once."""
    down = f"http://127.0.0.1:{free_port()}"
    urls = (down, f"http://{fixed.host}", mirror)
    warnings = Warnings()
    engine = engine_in(
        tmp_path,
        mirrors=tuple(Mirror("docker.io", url) for url in urls),
        ca_files=(authority.file,),
        progress=warnings,
    )
    assert pull(engine, "a/mirrored:1") == [LOWER, UPPER]
    assert len(warnings.texts) == 2
    assert warnings.texts[0].startswith(f"docker.io/a/mirrored: the mirror {down} is left out: cannot reach")
    assert "no such image" in warnings.texts[1]
    assert fixed.paths() == ["/v2/a/mirrored/manifests/1"]
    assert pull(engine, "alone") == [LOWER]
    assert [text for text in warnings.texts if down in text] == warnings.texts[:1]


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ([status(500)] * 2, "status 500"),
        ([status(404)], "no such blob"),
        ([status(403)], "needs a login"),
        ([cut(0)] * 2, "broke"),
        ([corrupt(20)], "wrong content"),
        ([header("Content-Length", "1")], "ends after 1 bytes"),
    ],
)
def test_a_mirror_that_fails_at_a_blob(
    proxy: FaultProxy, registry: str, blobs: Blobs, tmp_path: Path, faults: list[Fault], why: str
) -> None:
    layer = next(iter(blobs.data)).hex
    for fault in faults:
        proxy.inject(layer, fault)
    warnings = Warnings()
    mirrors = (Mirror(registry, f"http://{proxy.host}"),)
    engine = engine_in(tmp_path, mirrors=mirrors, progress=warnings)
    assert pull(engine, f"{registry}/a/mirrored:1") == [LOWER, UPPER]
    (text,) = warnings.texts
    assert text.startswith(f"{registry}/a/mirrored: the mirror http://{proxy.host} is left out: ")
    assert why in text


def test_the_registry_goes_on_where_a_mirror_broke_off(
    proxy: FaultProxy, registry: str, blobs: Blobs, tmp_path: Path
) -> None:
    layer = next(iter(blobs.data)).hex
    with fault_proxy(registry) as home:
        proxy.inject(layer, cut(50))
        proxy.inject(layer, cut(0))
        mirrors = (Mirror(home.host, f"http://{proxy.host}"),)
        assert pull(engine_in(tmp_path, mirrors=mirrors), f"{home.host}/a/mirrored:1") == [LOWER, UPPER]
        assert home.ranges() == ["bytes=50-"]


def test_a_mirror_that_falls_silent(proxy: FaultProxy, registry: str, blobs: Blobs, tmp_path: Path) -> None:
    done = threading.Event()
    proxy.inject("/manifests/", silent(0, done), 2)
    warnings = Warnings()
    mirrors = (Mirror(registry, f"http://{proxy.host}"),)
    engine = engine_in(tmp_path, read_seconds=0.5, mirrors=mirrors, progress=warnings)
    try:
        assert pull(engine, f"{registry}/a/mirrored:1") == [LOWER, UPPER]
    finally:
        done.set()
    assert len(warnings.texts) == 1


def test_a_mirror_s_account_is_its_own(fixed: Fixed, registry: str, blobs: Blobs, tmp_path: Path) -> None:
    class Accounts:
        asked: ClassVar[list[str]] = []

        def find(self, domain: str, path: str) -> Credential | None:
            self.asked.append(domain)
            return None

    fixed.hook = lambda path, headers: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    mirrors = (Mirror(registry, f"http://{fixed.host}"),)
    engine = engine_in(tmp_path, mirrors=mirrors, credentials=Accounts())
    assert pull(engine, f"{registry}/a/mirrored:1") == [LOWER, UPPER]
    assert Accounts.asked == [fixed.host]


def test_what_no_place_has_is_the_registry_s_error(
    fixed: Fixed, registry: str, blobs: Blobs, tmp_path: Path
) -> None:
    engine = engine_in(tmp_path, mirrors=(Mirror(registry, f"http://{fixed.host}"),))
    with pytest.raises(ImageError, match=f"{registry}/a/mirrored:nosuch: .*no such image"):
        pull(engine, f"{registry}/a/mirrored:nosuch")


def test_a_manifest_that_a_mirror_lacks_is_asked_of_the_registry(
    fixed: Fixed, registry: str, blobs: Blobs, tmp_path: Path
) -> None:
    """A signature that the mirror does not have is no reason to leave it out, nor is there none then."""
    warnings = Warnings()
    mirrors = (Mirror(registry, f"http://{fixed.host}"),)
    engine = engine_in(tmp_path, mirrors=mirrors, progress=warnings)
    with engine.access.registry(Reference.parse(f"{registry}/a/mirrored")) as repository:
        found = repository.manifest("1")
        assert found is not None
        assert repository.manifest("nosuch") is None
    assert (len(fixed.asked), warnings.texts) == (2, [])


def test_an_unknown_authority_is_named(mirror: str, blobs: Blobs, tmp_path: Path) -> None:
    host = urlsplit(mirror).netloc
    slept = Slept()
    with pytest.raises(NetworkError, match="certificate verify failed") as caught:
        pull(engine_in(tmp_path, slept, endpoints=(("registry.test", mirror),)), "registry.test/a/mirrored:1")
    assert f"https://{host}/" in str(caught.value)
    assert "LINUXKIT_CA_FILES" in str(caught.value.hint)
    assert slept.seconds == []


def test_a_certificate_is_for_the_host_that_was_asked(
    mirror: str, authority: Authority, blobs: Blobs, tmp_path: Path
) -> None:
    elsewhere = mirror.replace("127.0.0.1", "localhost")
    engine = engine_in(tmp_path, ca_files=(authority.file,), endpoints=(("registry.test", elsewhere),))
    with pytest.raises(NetworkError, match=r"localhost.*[Hh]ostname"):
        pull(engine, "registry.test/a/mirrored:1")


def test_a_server_without_tls_is_named(fixed: Fixed, tmp_path: Path) -> None:
    slept = Slept()
    with pytest.raises(NetworkError, match="cannot reach https://") as caught:
        endpoints = (("registry.test", f"https://{fixed.host}"),)
        pull(engine_in(tmp_path, slept, endpoints=endpoints), "registry.test/a/b:1")
    assert "LINUXKIT_PLAIN_HTTP" in str(caught.value.hint)
    assert slept.seconds == []


def test_further_authorities_stand_beside_the_others(
    mirror: str, authority: Authority, blobs: Blobs, tmp_path: Path
) -> None:
    other = Authority.make(tmp_path, "other").file
    for trust, files in ((None, (other, authority.file)), (authority.file, (other,)), (authority.file, ())):
        engine = engine_in(
            tmp_path / f"{len(files)}{trust}",
            trust=trust,
            ca_files=files,
            endpoints=(("registry.test", mirror),),
        )
        assert pull(engine, "registry.test/a/mirrored:1") == [LOWER, UPPER]


def test_a_ca_file_that_is_none_is_named(mirror: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for file, why in ((empty, "holds no certificates"), (tmp_path / "nosuch", "No such file")):
        engine = engine_in(tmp_path, ca_files=(file,), endpoints=(("registry.test", mirror),))
        with pytest.raises(NetworkError, match=f"{file}: .*{why}"):
            pull(engine, "registry.test/a/mirrored:1")


def test_https_never_leads_to_http(authority: Authority, registry: str, blobs: Blobs, tmp_path: Path) -> None:
    layer = next(iter(blobs.data))
    rules = f"location ~ /blobs/ {{ return 307 http://{registry}/v2/a/mirrored/blobs/{layer}; }}"
    with tls_mirror(tmp_path, authority, registry, rules=rules) as host:
        engine = engine_in(tmp_path, ca_files=(authority.file,))
        with pytest.raises(NetworkError, match=r"https://.* sends us to http://.*, which is refused"):
            pull(
                Engine(
                    engine.store, access=replace(engine.access, endpoints=(("x.test", f"https://{host}"),))
                ),
                "x.test/a/mirrored:1",
            )


@pytest.mark.parametrize("bypass", ["", "other.test"])
def test_through_a_proxy_with_tls(
    mirror: str, authority: Authority, blobs: Blobs, tmp_path: Path, bypass: str
) -> None:
    """CONNECT to a name that only the proxy knows; the certificate is still that name's."""
    with fault_proxy(urlsplit(mirror).netloc) as proxy:
        engine = engine_in(
            tmp_path,
            proxies=Proxies(https=f"http://user:secret@{proxy.host}", bypass=bypass),
            ca_files=(authority.file,),
            endpoints=(("registry.test", "https://registry.test/some/path"),),
        )
        assert pull(engine, "registry.test/a/mirrored:1") == [LOWER, UPPER]
        assert {path for path, _ in proxy.asked} == {"registry.test:443"}
        assert {headers["Proxy-Authorization"] for _, headers in proxy.asked} == {"Basic dXNlcjpzZWNyZXQ="}


def test_through_a_proxy_without_tls(registry: str, blobs: Blobs, tmp_path: Path) -> None:
    with fault_proxy(registry) as proxy:
        proxies = Proxies(http=f"http://{proxy.host}")
        engine = engine_in(tmp_path, proxies=proxies, plain_http=("registry.test",))
        assert pull(engine, "registry.test/a/mirrored:1") == [LOWER, UPPER]
        assert all(path.startswith("http://registry.test/v2/a/mirrored/") for path, _ in proxy.asked)


@pytest.mark.parametrize(
    ("text", "registry", "url"),
    [
        ("https://m.test", "docker.io", "https://m.test"),
        ("m.test:5000/path/", "docker.io", "https://m.test:5000/path"),
        ("ghcr.io=http://m.test/x", "ghcr.io", "http://m.test/x"),
        ("r.test:5000=https://[::1]:5000", "r.test:5000", "https://[::1]:5000"),
        ("index.docker.io=m.test", "docker.io", "https://m.test"),
    ],
)
def test_how_mirrors_are_written(text: str, registry: str, url: str) -> None:
    assert Mirror.parse(text) == Mirror(registry, url)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no mirror"),
        ("ftp://m.test", "no mirror"),
        ("a.test=", "no mirror"),
        ("https://m.test:x", "no mirror"),
        ("https://m.test/?q", "no mirror"),
        ("https://m.test,https://n.test", "no mirror"),
        ("https://me:secret@m.test", "holds no account"),
    ],
)
def test_what_is_no_mirror(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        Mirror.parse(text)
    assert "secret" not in str(caught.value)


def test_variables_say_how_to_fetch(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    variables = {
        "LINUXKIT_MIRRORS": "https://m.test, ghcr.io=https://n.test/x",
        "LINUXKIT_CA_FILES": f"/a.pem{os.pathsep}/b.pem",
        "LINUXKIT_PLAIN_HTTP": "r.test:5000",
    }
    environment = {
        "SSL_CERT_FILE": str(bundle),
        "https_proxy": "http://small",
        "HTTPS_PROXY": "http://large",
        "NO_PROXY": "x.test",
    }
    made = access(variables, environment)
    assert made.mirrors == (Mirror("docker.io", "https://m.test"), Mirror("ghcr.io", "https://n.test/x"))
    assert made.network.ca_files == (Path("/a.pem"), Path("/b.pem"))
    assert made.network.plain_http == ("r.test:5000",)
    assert made.network.trust == bundle
    assert made.network.proxies == Proxies("", "http://small", "x.test")
