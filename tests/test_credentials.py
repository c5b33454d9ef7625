"""Accounts as Docker and podman keep them, and what no message may say of them."""

from __future__ import annotations

import base64
import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from linuxkit_rules.errors import NetworkError
from linuxkit_rules.host import account_files
from linuxkit_rules.oci.credentials import Credential, DockerConfig

SECRET = "s3cr3t"  # noqa: S105 - opens nothing
HOST = "registry.test:5000"


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def config(tmp_path: Path, value: Any, name: str = "config.json") -> DockerConfig:
    (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return DockerConfig((tmp_path / name,), {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, 10)


def helper(tmp_path: Path, name: str, script: str) -> None:
    """A credential helper; it writes down what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    file = folder / f"docker-credential-{name}"
    file.write_text(f'#!/bin/sh\necho "{name} $1 $(cat)" >> {tmp_path}/asked\n{script}\n')
    file.chmod(0o755)


def answer(user: str, secret: str) -> str:
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': user, 'Secret': secret})}'"


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        (HOST, HOST),
        (f"https://{HOST}", HOST),
        (f"http://{HOST}/v1/", HOST),
        (f"{HOST}/v2/", HOST),
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("docker.io", "Index.docker.io:443"),
        (f"{HOST}/team", HOST),
        (f"{HOST}/team/app", HOST),
        ("docker.io/team", "docker.io"),
    ],
)
def test_names_of_registries(tmp_path: Path, key: str, domain: str) -> None:
    found = config(tmp_path, {"auths": {key: auth("me", SECRET)}})
    assert found.find(domain, "team/app") == Credential("me", SECRET)


@pytest.mark.parametrize(
    "key", ["registry.test", "registry.test:5001", f"{HOST}/tea", f"{HOST}/team/ap", f"{HOST}/team/app/more"]
)
def test_other_registries_and_repositories(tmp_path: Path, key: str) -> None:
    assert config(tmp_path, {"auths": {key: auth("me", SECRET)}}).find(HOST, "team/app") is None


def test_the_longest_name_wins(tmp_path: Path) -> None:
    names = {HOST: "host", f"{HOST}/team": "team", f"{HOST}/team/app": "app"}
    found = config(tmp_path, {"auths": {name: auth(user, SECRET) for name, user in names.items()}})
    for path, user in (("team/app", "app"), ("team/other", "team"), ("x", "host")):
        assert found.find(HOST, path) == Credential(user, SECRET)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("me", "pa:ss wörd"), Credential("me", "pa:ss wörd")),
        (auth("me", "x\0\0"), Credential("me", "x")),
        ({"username": "me", "password": "x"}, Credential("me", "x")),
        ({**auth("me", ""), "identitytoken": "t"}, Credential("me", identity_token="t")),  # noqa: S106
        ({}, None),
        ({"auth": ""}, None),
    ],
)
def test_entries(tmp_path: Path, entry: dict[str, str], expected: Credential | None) -> None:
    assert config(tmp_path, {"auths": {HOST: entry}}).find(HOST, "a") == expected


def test_a_helper_for_one_registry_goes_before_that_for_all(tmp_path: Path) -> None:
    helper(tmp_path, "one", answer("one", SECRET))
    helper(tmp_path, "all", answer("<token>", SECRET))
    value = {"credHelpers": {HOST: "one"}, "credsStore": "all", "auths": {HOST: auth("plain", SECRET)}}
    found = config(tmp_path, value)
    assert found.find(HOST, "a") == Credential("one", SECRET)
    assert found.find("docker.io", "library/a") == Credential(identity_token=SECRET)
    assert found.find(HOST, "another") == Credential("one", SECRET)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [f"one get {HOST}", "all get https://index.docker.io/v1/"]


def test_a_helper_that_knows_nothing_leaves_it_to_the_file(tmp_path: Path) -> None:
    helper(tmp_path, "all", "echo 'credentials not found in native keychain'; exit 1")
    found = config(tmp_path, {"credsStore": "all", "auths": {HOST: auth("me", SECRET), "empty.test": {}}})
    assert found.find(HOST, "a") == Credential("me", SECRET)
    assert found.find("empty.test", "a") is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo broken keychain >&2; exit 3", "failed with status 3: broken keychain"),
        (f'echo \'{{"Secret": "{SECRET}"}}\'; exit 1', "failed with status 1"),
        (f"echo {SECRET}", "answers no Username and Secret"),
        (f'echo \'{{"Username": 1, "Secret": "{SECRET}"}}\'', "answers no Username and Secret"),
    ],
)
def test_a_helper_that_fails(tmp_path: Path, script: str, why: str) -> None:
    helper(tmp_path, "all", script)
    fails(config(tmp_path, {"credsStore": "all"}), f"docker-credential-all: .*{why}")


def test_a_helper_that_is_missing_or_hangs(tmp_path: Path) -> None:
    fails(config(tmp_path, {"credsStore": "nosuch"}), "docker-credential-nosuch: .*cannot be started")
    helper(tmp_path, "slow", "exec sleep 60")
    slow = DockerConfig((tmp_path / "config.json",), {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, 0.1)
    (tmp_path / "config.json").write_text('{"credsStore": "slow"}')
    fails(slow, "docker-credential-slow: .*no answer within 0.1 seconds")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'{{"auths": "{SECRET}", ', "is not the JSON object"),
        (f'["{SECRET}"]', "is not the JSON object"),
        (f'{{"auths": ["{SECRET}"]}}', "auths is no object"),
        (f'{{"auths": {{"{HOST}": "{SECRET}"}}}}', f"entry {HOST} of auths is no object"),
        (f'{{"auths": {{"{HOST}": {{"auth": ["{SECRET}"]}}}}}}', f"entry {HOST} of auths is malformed"),
        (f'{{"auths": {{"{HOST}": {{"auth": "{SECRET}"}}}}}}', "not user:password in base64"),
        ('{"credsStore": "../x"}', "helper's name is malformed"),
        (f'{{"credHelpers": {{"{HOST}": 1}}}}', "helper's name is malformed"),
    ],
)
def test_a_malformed_file_is_named_and_not_shown(tmp_path: Path, text: str, why: str) -> None:
    fails(config(tmp_path, text), f"config.json: .*{why}")


def fails(source: DockerConfig, why: str) -> None:
    with pytest.raises(NetworkError, match=why) as caught:
        source.find(HOST, "a")
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    link: BaseException | None = caught.value
    while link is not None:
        assert SECRET not in repr(link.args) + repr(vars(link))
        link = link.__cause__ or link.__context__


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(NetworkError, match="config.json: cannot be read: Is a directory"):
        DockerConfig((tmp_path / "config.json",)).find(HOST, "a")


def test_a_secret_is_in_no_representation() -> None:
    assert SECRET not in repr(Credential("me", SECRET, SECRET))
    assert SECRET not in repr(DockerConfig((), {"TOKEN": SECRET}))


def test_several_files(tmp_path: Path) -> None:
    config(tmp_path, {"auths": {"a.test": auth("first", SECRET)}}, "1.json")
    config(tmp_path, {"auths": {"a.test": auth("x", SECRET), "b.test": auth("second", SECRET)}}, "2.json")
    files = tuple(tmp_path / name for name in ("0.json", "1.json", "2.json"))
    for domain, user in (("a.test", "first"), ("b.test", "second")):
        assert DockerConfig(files).find(domain, "a") == Credential(user, SECRET)


@pytest.mark.parametrize(
    ("environment", "files"),
    [
        ({"HOME": "/h"}, ["/h/.docker/config.json", "/h/.config/containers/auth.json"]),
        (
            {"HOME": "/h", "DOCKER_CONFIG": "/d", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c"},
            ["/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json"],
        ),
        ({"HOME": "/h", "DOCKER_CONFIG": "/d", "REGISTRY_AUTH_FILE": "/a.json"}, ["/a.json"]),
    ],
)
def test_where_accounts_are_kept(environment: dict[str, str], files: list[str]) -> None:
    assert [str(path) for path in account_files(environment)] == files
