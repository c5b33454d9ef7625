"""Docker's registry with a login: by password and by token."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxkit_rules.errors import ImageError
from linuxkit_rules.oci.credentials import Anonymous, Credential, DockerConfig
from linuxkit_rules.oci.reference import Reference
from tests.images import Blobs
from tests.servers.pulling import LOWER, UPPER, engine_in, pull
from tests.servers.registry import (
    PASSWORD,
    USER,
    RegistryServer,
    by_token,
    docker_registry,
    htpasswd,
    push,
)
from tests.servers.tokens import IDENTITY, TokenServer, token_server


@pytest.fixture(scope="module")
def blobs(registry_server: RegistryServer) -> Blobs:
    """Images in a registry's files, which the registries with a login share."""
    made = Blobs()
    push(registry_server.host, made, made.image([LOWER, UPPER]), "private/app", "1")
    return made


@pytest.fixture(scope="module")
def with_password(tmp_path_factory: pytest.TempPathFactory, registry_server: RegistryServer) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("htpasswd")
    with docker_registry(folder, htpasswd(folder), registry_server.data) as server:
        yield server.host


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with token_server(tmp_path_factory.mktemp("tokens")) as server:
        yield server


@pytest.fixture(scope="module")
def with_token(
    tmp_path_factory: pytest.TempPathFactory, registry_server: RegistryServer, tokens: TokenServer
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("token")
    with docker_registry(folder, by_token(tokens), registry_server.data) as server:
        yield server.host


@pytest.fixture
def fresh(tokens: TokenServer) -> TokenServer:
    tokens.accounts, tokens.life = {}, 300
    tokens.asked.clear()
    return tokens


def docker_config(tmp_path: Path, host: str, **entry: str) -> DockerConfig:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    return DockerConfig((tmp_path / "config.json",))


def test_a_password_of_docker_s_config(blobs: Blobs, with_password: str, tmp_path: Path) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    engine = engine_in(tmp_path, credentials=docker_config(tmp_path, with_password, auth=auth))
    assert pull(engine, f"{with_password}/private/app:1") == [LOWER, UPPER]


def test_a_wrong_password_or_none(blobs: Blobs, with_password: str, tmp_path: Path) -> None:
    wrong = docker_config(tmp_path, with_password, username=USER, password="wrong-one")  # noqa: S106
    for credentials in (wrong, Anonymous()):
        with pytest.raises(ImageError, match="login") as caught:
            pull(engine_in(tmp_path, credentials=credentials), f"{with_password}/private/app:1")
        assert caught.value.hint == f"docker login {with_password}"
        assert "wrong-one" not in str(caught.value)


def test_an_anonymous_token(blobs: Blobs, with_token: str, fresh: TokenServer, tmp_path: Path) -> None:
    """All blobs, from several threads, with one token."""
    assert pull(engine_in(tmp_path), f"{with_token}/private/app:1") == [LOWER, UPPER]
    assert fresh.asked == [("GET", "")]


def test_a_token_for_a_password(blobs: Blobs, with_token: str, fresh: TokenServer, tmp_path: Path) -> None:
    fresh.accounts[USER] = PASSWORD
    account = docker_config(tmp_path, with_token, username=USER, password=PASSWORD)
    engine = engine_in(tmp_path, credentials=account)
    assert pull(engine, f"{with_token}/private/app:1") == [LOWER, UPPER]
    assert [method for method, _ in fresh.asked] == ["GET"]
    with pytest.raises(ImageError, match="gives no token without a login"):
        pull(engine_in(tmp_path / "other"), f"{with_token}/private/app:1")


def test_a_token_for_an_identity(blobs: Blobs, with_token: str, fresh: TokenServer, tmp_path: Path) -> None:
    account = docker_config(tmp_path, with_token, identitytoken=IDENTITY)
    assert pull(engine_in(tmp_path, credentials=account), f"{with_token}/private/app:1") == [LOWER, UPPER]
    assert fresh.asked == [("POST", "refresh_token")]


def test_a_token_that_has_run_out_is_renewed(
    blobs: Blobs, with_token: str, fresh: TokenServer, tmp_path: Path
) -> None:
    """The server's token is over (docker-registry allows a minute), though it said nothing of the kind."""
    fresh.life = -120
    engine = engine_in(tmp_path)
    with engine.access.registry(Reference.parse(f"{with_token}/private/app:1")) as registry:
        with pytest.raises(ImageError, match="login"):
            registry.resolve()
        fresh.life = 300
        assert registry.resolve().digest in blobs.data
    assert [method for method, _ in fresh.asked] == ["GET", "GET"]


def test_secrets_are_in_no_error(blobs: Blobs, with_token: str, fresh: TokenServer, tmp_path: Path) -> None:
    fresh.accounts["other"] = "x"
    account = docker_config(tmp_path, with_token, username=USER, password=PASSWORD)
    with pytest.raises(ImageError, match="refuses the login") as caught:
        pull(engine_in(tmp_path, credentials=account), f"{with_token}/private/app:1")
    link: BaseException | None = caught.value
    while link is not None:
        assert PASSWORD not in repr(link) + repr(vars(link))
        link = link.__cause__ or link.__context__
    assert Credential(USER, PASSWORD) == account.find(with_token, "private/app")
