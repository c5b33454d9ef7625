"""Patterns of references in a policy."""

import pytest

from linuxkit_rules.errors import SpecError
from linuxkit_rules.oci.pattern import Pattern
from linuxkit_rules.oci.reference import Reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("pattern", "reference", "matches"),
    [
        ("docker.io/library/redis", "redis", True),
        ("docker.io/library/redis", "redis:7", True),
        ("docker.io/library/redis", "redis-x", False),
        ("docker.io/library/redis", "x/redis", False),
        ("docker.io/library/redis:7", "redis:7", True),
        ("docker.io/library/redis:7", "redis:70", False),
        ("docker.io/library/redis:7*", "redis:70", True),
        ("docker.io/library/redis:7", "redis", False),
        ("docker.io/library/redis:latest", "index.docker.io/library/redis", True),
        ("docker.io/library/redis:7", f"redis@{DIGEST}", True),
        ("docker.io/library/redis:7", f"redis:8@{DIGEST}", True),
        ("docker.io/*", "redis", False),
        ("docker.io/*/*", "redis", True),
        ("docker.io/linuxkit/*", "linuxkit/kernel:1", True),
        ("docker.io/linuxkit/*", "linuxkit/a/b", False),
        ("docker.io/linuxkit/**", "linuxkit/a/b", True),
        ("docker.io/linuxkit/**", "linuxkitx/a", False),
        ("docker.io/linuxkit/**", "a.b/docker.io/linuxkit/a", False),
        ("a.b/team-*/app", "a.b/team-1/app", True),
        ("a.b/team-*/app", "a.b/team/app", False),
        ("a.b/**/app", "a.b/x/y/app", True),
        ("a.b/**/app", "a.b/app", False),
        ("*.b/app", "a.b/app", True),
        ("*.b/app", "axb/app", False),
        ("a.b/app", "axb.c/app", False),
        ("**", "localhost:5000/x/y:1", True),
        ("**/app", "a.b/x/app", True),
        ("localhost:5000/*", "localhost:5000/x", True),
        ("localhost:5000/x:1", "localhost:5000/x:1", True),
        ("[::1]:5000/x", "[::1]:5000/x", True),
        ("a.b/x", "A.B/x", True),
        ("A.b/x", "a.b:443/x", True),
        ("a.b:443/x", "a.b/x", True),
        ("a.b/x", "a.b:5000/x", False),
        ("a.b:5000/x", "a.b:05000/x", True),
        ("docker.io/**", "index.docker.io:443/library/redis", True),
        ("docker.io/**", "Index.docker.io/library/redis", True),
        ("docker.io/**", "registry-1.docker.io/library/redis", True),
        ("docker.io/**", "Registry-1.Docker.IO:0443/library/redis", True),
        ("docker.io/library/redis", "Docker.io/redis", True),
        ("index.docker.io/library/redis", "redis", True),
        ("docker.io/**", "x.docker.io/library/redis", False),
    ],
)
def test_matches(pattern: str, reference: str, matches: bool) -> None:
    assert Pattern.parse(pattern).matches(Reference.parse(reference)) == matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("redis", "'redis' is no full name of images"),
        ("redis:7", "is no full name"),
        ("linuxkit/*", "does not begin with a registry's name"),
        ("*/redis", "does not begin with a registry's name"),
        ("", "is no full name"),
        ("*", "is no full name"),
        ("a.b/", "is no full name"),
        ("a.b//c", "is no full name"),
        ("a.b/c d", "is no full name"),
        (f"a.b/c@{DIGEST}", "is no full name"),
        ("a.b/c?", "is no full name"),
        ("a.b/c\n", "is no full name"),
        ("a.b/C", "matches nothing"),
    ],
)
def test_what_is_no_pattern(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        Pattern.parse(text)
    assert "\n" not in str(caught.value)
