"""References: the grammar of distribution/reference, and this project's own schemes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import SpecError
from linuxkit_rules.oci.reference import (
    DEFAULT_DOMAIN,
    ArchiveSource,
    DirectorySource,
    LayoutSource,
    LibrarySource,
    Reference,
    Source,
    parse_source,
)

HEX = "0123456789abcdef" * 4
SHA = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:7", "docker.io/library/redis:7"),
        ("linuxkit/init:abc", "docker.io/linuxkit/init:abc"),
        ("docker.io/redis", "docker.io/library/redis:latest"),
        (f"index.{DEFAULT_DOMAIN}/a/b", "docker.io/a/b:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("reg.example.com:8443/a/b/c:v1.2.3_rc-4", "reg.example.com:8443/a/b/c:v1.2.3_rc-4"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("Upper/a", "Upper/a:latest"),
        (f"a@{SHA}", f"docker.io/library/a@{SHA}"),
        (f"a/b:1@{SHA}", f"docker.io/a/b:1@{SHA}"),
        ("a/b__c.d-e--f", "docker.io/a/b__c.d-e--f:latest"),
    ],
)
def test_full_form(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full
    assert str(Reference.parse(full)) == full


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("conformance/Reg istry:1", "lower case"),
        ("a b", "malformed"),
        ("a/B", "lower case"),
        ("Redis", "lower case"),
        ("a//b", "malformed"),
        ("/a", "malformed"),
        ("a/", "malformed"),
        ("a:", "not a tag"),
        ("a:-x", "not a tag"),
        ("a:" + "x" * 129, "not a tag"),
        ("a@sha256:1234", "not a digest"),
        ("a@", "not a digest"),
        (f"a@{SHA}@{SHA}", "not a digest"),
        (HEX, "identifier"),
        ("a_.b/c", "not a registry"),
        ("-a.example/c", "not a registry"),
        ("a/" + "x" * 255, "longer"),
        ("a\n", "malformed"),
        ("redis:7\n", "not a tag"),
    ],
)
def test_no_reference(text: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("oci:images", LayoutSource("images")),
        ("oci:../x/images:docker.io/a/b:1", LayoutSource("../x/images", "docker.io/a/b:1")),
        ("docker-archive:a.tar.gz", ArchiveSource("docker", "a.tar.gz")),
        ("oci-archive:/x/a.tar:v1", ArchiveSource("oci", "/x/a.tar", "v1")),
        ("@pkg:redis", LibrarySource("redis")),
        ("@pkg:./dir", DirectorySource("./dir")),
        ("@pkg:pkg/beta", DirectorySource("pkg/beta")),
        ("@pkg:..", DirectorySource("..")),
        ("library/oci:1", Reference("docker.io", "library/oci", "1")),
    ],
)
def test_source(text: str, source: Source) -> None:
    assert parse_source(text) == source
    assert parse_source(str(source)) == source


@pytest.mark.parametrize(
    "text", ["@nosuch:thing", "@pkg", "@pkg:", "@pkg:A", "oci:", "docker-archive::x", "oci-archive:"]
)
def test_no_source(text: str) -> None:
    with pytest.raises(SpecError, match="not an image reference"):
        parse_source(text)


def test_a_digest_pins() -> None:
    pinned = Reference.parse("redis:7").with_digest(Digest(HEX))
    assert str(pinned) == f"docker.io/library/redis:7@{SHA}"


@given(st.text(alphabet="aB0.-_/:@[] s\n", max_size=30))
def test_whatever_parses_has_one_full_form(text: str) -> None:
    try:
        full = str(Reference.parse(text))
    except SpecError:
        return
    assert str(Reference.parse(full)) == full
