"""What ``trust:`` and the site's policy ask for, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.oci.pattern import Pattern
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.verify import Requirement
from linuxkit_rules.plan.image import Parts, plan
from linuxkit_rules.plan.relocate import relocated
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.spec.emit import emit
from linuxkit_rules.spec.linuxkit import loads
from linuxkit_rules.spec.merge import merge
from linuxkit_rules.spec.trust import full_name
from linuxkit_rules.stages.image import PullImage
from tests.signing import (
    PRIVATE,
    THEM,
    US,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with keys."""
    for pair in (US, THEM):
        (tmp_path / pair.name).write_bytes(pair.pem)
    (tmp_path / "private.pem").write_bytes(PRIVATE)
    return tmp_path


def planned(folder: Path, trust: str, site: str | None = None, **changes: object) -> Parts:
    """Plan a YAML with three images and this ``trust``."""
    images = ("docker.io/linuxkit/a:1", "redis:7", "reg.example/team/app:1")
    services = "".join(f"  - {{name: s{index}, image: '{name}'}}\n" for index, name in enumerate(images))
    (folder / "f.yml").write_text(f"trust: {trust}\nservices:\n{services}")
    if site is not None:
        (folder / "site").mkdir(exist_ok=True)
        (folder / "site" / "policy.yml").write_text(site)
        changes["trust_policy"] = folder / "site" / "policy.yml"
    return plan({"f.yml": folder / "f.yml"}, "f", Settings(**changes))  # type: ignore[arg-type]


def asked(parts: Parts) -> dict[str, tuple[Requirement, ...]]:
    """What is asked of each image."""
    found = {}
    for step in parts.segments:
        for item in step.inputs:
            stage = getattr(item.source, "stage", None)
            if isinstance(stage, PullImage):
                found[stage.reference] = stage.trust
    return found


LINUXKIT, REDIS, APP = "docker.io/linuxkit/a:1", "docker.io/library/redis:7", "reg.example/team/app:1"


def test_organisations_and_images_of_2017(folder: Path) -> None:
    found = asked(planned(folder, "{org: [linuxkit], image: [redis], keys: [us.pub]}"))
    assert found[LINUXKIT] == (Requirement((US.key,), 1, "docker.io/linuxkit/a"),)
    assert found[REDIS] == (Requirement((US.key,), 1, "docker.io/library/redis"),)
    assert found[APP] == ()


def test_entries_add_up(folder: Path) -> None:
    trust = (
        "{keys: [us.pub], policy: [{images: ['reg.example/**']},"
        " {images: ['reg.example/team/*'], keys: [us.pub, them.pub], threshold: 2, identity: any}]}"
    )
    found = asked(planned(folder, trust))
    both = Requirement((US.key, THEM.key), 2, "")
    assert found[APP] == (Requirement((US.key,), 1, "reg.example/team/app"), both)
    assert found[LINUXKIT] == found[REDIS] == ()


def test_the_site_s_policy_is_not_weakened_by_a_yaml(folder: Path) -> None:
    site = "policy: [{images: ['**'], keys: [../them.pub]}]"
    own = "{policy: [{images: ['**'], type: accept}, {images: ['reg.example/**'], keys: [us.pub]}]}"
    found = asked(planned(folder, own, site, ignore_trust=True))
    assert [[key.name for item in found[name] for key in item.keys] for name in (REDIS, APP)] == [
        ["../them.pub"],
        ["us.pub", "../them.pub"],
    ]


REJECT = "{default: reject, policy: [{images: ['docker.io/**'], type: accept}]}"


def test_every_image_of_a_yaml_is_meant(folder: Path) -> None:
    """A pattern that refuses all is told of the kernel, of init, of containers and of volumes."""
    (folder / "f.yml").write_text(
        "trust: {policy: [{images: ['**'], type: reject}]}\n"
        "kernel: {image: 'k:1'}\ninit: ['i:1', '@pkg:init']\nonboot: [{name: b, image: 'b:1'}]\n"
        "services: [{name: s, image: 's:1'}]\nonshutdown: [{name: d, image: 'd:1'}]\n"
        "volumes: [{name: v, image: 'v:1'}, {name: o, image: 'o:1', format: oci}]\n"
    )
    with pytest.raises(LinuxKitError) as caught:
        plan({"f.yml": folder / "f.yml"}, "f", Settings())
    told = {line.split("library/")[1][0] for line in str(caught.value).splitlines()}
    assert told == set("kibsdvo")


def test_default_reject_is_each_policy_s_own(folder: Path) -> None:
    for own, site in ((REJECT, None), ("{policy: [{images: ['**'], type: accept}]}", REJECT[1:-1])):
        with pytest.raises(LinuxKitError, match="reg.example/team/app:1 is named by no entry") as caught:
            planned(folder, own, site and site.replace(", policy", "\npolicy"))
        assert (caught.value.where or "").startswith("f.yml:5:")
        assert "default: reject" in str(caught.value)
    with pytest.raises(LinuxKitError, match="docker.io/library/redis:7 is refused"):
        planned(folder, "{policy: [{images: ['docker.io/library/**'], type: reject}]}")


def test_patterns_that_match_nothing_are_warned_of(folder: Path) -> None:
    site = "policy: [{images: ['other.example/**'], keys: [../us.pub]}]"
    trust = "{keys: [us.pub], org: [linuxkit, linuxkti], policy: [{images: ['reg.example/*', '**']}]}"
    assert planned(folder, trust, site).warnings == (
        "f.yml:1:41: trust: no image here is docker.io/linuxkti/**",
        "f.yml:1:71: trust: no image here is reg.example/*",
    )


@pytest.mark.parametrize(
    ("trust", "fault"),
    [
        ("{org: [a]}", "f.yml:1:8: trust: a must be signed, but no keys are named (keys: [cosign.pub]"),
        ("{image: [a], policy: []}", "f.yml:1:8: trust: a must be signed, but no keys"),
        ("{keys: [us.pub]}", "f.yml:1:8: trust: keys are named, but no images that they sign"),
        ("{org: [a], keys: [no.pub]}", "f.yml:1:26: trust: there is no key file 'no.pub'"),
        ("{org: [a], keys: [.]}", "f.yml:1:26: trust: there is no key file '.'"),
        ("{org: [a], keys: [f.yml]}", "f.yml:1:26: trust: the key file 'f.yml' holds no public key"),
        (
            "{org: [a], keys: [private.pem]}",
            "f.yml:1:26: trust: the key file 'private.pem' holds a private key",
        ),
        ("{policy: [{images: [a.b/c]}]}", "f.yml:1:18: trust: no keys are named"),
        ("{policy: [{images: [], keys: [us.pub]}]}", "f.yml:1:27: trust: no images are named"),
        ("{policy: [{images: [redis], keys: [us.pub]}]}", "f.yml:1:28: trust: 'redis' is no full name"),
        ("{policy: [{images: [''], keys: [us.pub]}]}", "f.yml:1:28: trust.policy[0].images[0]"),
        ("{org: [''], keys: [us.pub]}", "f.yml:1:15: trust: 'docker.io//**' is no full name"),
        ("{image: [A], keys: [us.pub]}", "f.yml:1:17: trust: 'A' is not an image reference"),
        (
            "{policy: [{images: ['**'], keys: [us.pub, us.pub], threshold: 2}]}",
            "f.yml:1:70: trust: 2 keys must have signed, and 1 are named",
        ),
        (
            "{policy: [{images: ['**'], keys: [us.pub], threshold: 0}]}",
            "f.yml:1:62: trust.policy[0].threshold",
        ),
        (
            "{policy: [{images: ['**'], keys: [us.pub], type: accept}]}",
            "f.yml:1:41: trust: keys have no meaning with type: accept",
        ),
        ("{policy: [{images: ['**'], kind: x}]}", "f.yml:1:35: trust.policy[0]: unknown key 'kind'"),
        ("{default: deny}", "f.yml:1:18: trust.default: must be one of accept, reject"),
    ],
)
def test_faults_are_told_with_their_place(folder: Path, trust: str, fault: str) -> None:
    with pytest.raises(LinuxKitError) as caught:
        planned(folder, trust)
    assert fault in str(caught.value)
    assert "ENCRYPTED" not in str(caught.value)


@pytest.mark.parametrize(
    ("site", "fault"),
    [
        ("org: [a]", "policy.yml:1:1: trust: a must be signed, but no keys are named"),
        ("policy: 7", "policy.yml:1:9: policy: must be a list"),
        ("trust: {}", "policy.yml:1:1: unknown key 'trust'"),
        ("", "policy.yml:1:1: the document is empty"),
        ("org: [a]\nkeys: [us.pub]", "policy.yml:2:8: trust: there is no key file 'us.pub'"),
    ],
)
def test_faults_of_the_site_s_policy(folder: Path, site: str, fault: str) -> None:
    """Its paths count from its folder; --ignore-trust is not for it."""
    with pytest.raises(LinuxKitError) as caught:
        planned(folder, "{}", site, ignore_trust=True)
    assert fault in str(caught.value)


def test_a_site_s_policy_that_is_not_there(folder: Path) -> None:
    with pytest.raises(LinuxKitError, match="no.yml: there is no trust policy"):
        planned(folder, "{}", trust_policy=folder / "no.yml")


def test_yamls_are_merged_with_the_places_and_folders_of_their_keys(folder: Path) -> None:
    first = loads("trust: {org: [a], keys: [x.pub]}\n", "1.yml", "one")
    second = loads(
        "trust:\n  org: [b]\n  keys: [y.pub]\n  default: reject\n  policy:\n  - images: ['**']\n",
        "2.yml",
        "two",
    )
    third = loads("trust: {org: [c]}\n", "3.yml")
    trust = merge([loads("{}", "0.yml"), first, second, third]).trust
    assert [policy.base for policy in trust.policy] == ["one", "two", "two"]
    assert [policy.keys for policy in trust.policy] == [("x.pub",), ("y.pub",), ("y.pub",)]
    keys = ["1.yml:1:26", "2.yml:3:10", "2.yml:3:10"]
    assert [policy.place("keys[0]") for policy in trust.policy] == keys
    images = ["1.yml:1:15", "2.yml:2:9", "2.yml:6:14"]
    assert [policy.place("images[0]") for policy in trust.policy] == images
    assert (trust.org, trust.keys, trust.place("org[0]")) == (("c",), (), "3.yml:1:15")
    assert (trust.where, trust.default, trust.policy[2].where) == ("3.yml:1:8", "reject", "2.yml:6:5")


def merged(folder: Path, *trusts: str, **changes: object) -> Parts:
    """Plan YAMLs of images of two organisations, each YAML with this ``trust``."""
    files = {}
    for index, trust in enumerate(trusts):
        path = files[f"{index}.yml"] = folder / f"{index}.yml"
        service = f"{{name: s{index}, image: 'team{index}/app:1'}}"
        path.write_text(f"trust: {trust}\nservices: [{service}]\n")
    return plan(files, "f", Settings(**changes))  # type: ignore[arg-type]


def signers(parts: Parts) -> dict[str, list[list[str]]]:
    """The names of the keys by which each image must be signed."""
    return {
        name.split("/")[1]: [[pair.name for pair in item.keys] for item in wanted]
        for name, wanted in asked(parts).items()
    }


@pytest.mark.parametrize(
    "trusts",
    [
        ("{keys: [us.pub], org: [team0]}", "{keys: [them.pub], org: [team1]}"),
        ("{keys: [us.pub], image: [team0/app]}", "{keys: [them.pub], image: ['team1/app:1']}"),
        (
            "{keys: [us.pub], policy: [{images: ['docker.io/team0/*']}]}",
            "{keys: [them.pub], policy: [{images: ['docker.io/team1/*']}]}",
        ),
    ],
)
def test_the_keys_of_one_yaml_sign_nothing_of_another(folder: Path, trusts: tuple[str, str]) -> None:
    parts = merged(folder, *trusts)
    assert signers(parts) == {"team0": [["us.pub"]], "team1": [["them.pub"]]}
    (folder / "printed.yml").write_text(emit(relocated(parts.spec)))
    printed = plan({"printed.yml": folder / "printed.yml"}, "f", Settings())
    assert asked(printed) == asked(parts)


def test_keys_of_another_yaml_are_no_keys(folder: Path) -> None:
    for trusts, told in (
        (("{keys: [us.pub], org: [team0]}", "{org: [team1]}"), "1.yml:1:8: trust: team1 must be signed"),
        (("{org: [team0]}", "{keys: [us.pub], org: [team1]}"), "0.yml:1:8: trust: team0 must be signed"),
        (("{keys: [us.pub]}", "{policy: [{images: ['**'], type: accept}]}"), "no images are named"),
    ):
        with pytest.raises(LinuxKitError, match=told):
            merged(folder, *trusts)
    parts = merged(folder, "{keys: [us.pub], org: [team0]}", "{org: [team1]}", ignore_trust=True)
    assert signers(parts) == {"team0": [["us.pub"]], "team1": []}
    assert parts.warnings == ("1.yml:1:8: trust: the signatures of team1 are not checked",)


@pytest.mark.parametrize(
    "text",
    [
        *("redis", "redis:7", "team/app", "team/app:1@sha256:" + "0" * 64, "redis@sha256:" + "0" * 64),
        *("localhost/a", "localhost:5000/a:1", "a.b/c/d", "index.docker.io/redis", "docker.io/redis:7"),
    ],
)
def test_a_name_in_full_means_the_same_image(text: str) -> None:
    any_tag = ":" not in text.partition("@")[0].rpartition("/")[2]
    wanted = Pattern.of(Reference.parse(text), any_tag=any_tag)
    assert Pattern.parse(full_name(text)) == wanted


def test_a_policy_is_written_as_it_is_read() -> None:
    text = (
        "trust:\n  org:\n  - a\n  keys:\n  - x.pub\n  policy:\n  - images:\n    - '**'\n    threshold: 2\n"
        "    identity: any\n  default: reject\n"
    )
    assert emit(loads(text, "f.yml")) == text
