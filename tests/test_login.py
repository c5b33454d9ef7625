"""Logins: tokens from the server that a registry names, and who never gets to see one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from linuxkit_rules.errors import ImageError, NetworkError
from linuxkit_rules.oci.challenges import Challenge, parse_challenges
from linuxkit_rules.oci.credentials import Credential
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.retry import ATTEMPTS
from linuxkit_rules.stages.stage import Engine
from tests.servers.fixed import Answer, Fixed, fixed_server
from tests.servers.pulling import LOWER, Image, engine_in, pull, served


class Account:
    """Knows one account, for every registry that asks, and keeps who did."""

    def __init__(self, credential: Credential | None) -> None:
        self.credential = credential
        self.asked: list[str] = []

    def find(self, domain: str, path: str) -> Credential | None:
        self.asked.append(f"{domain}/{path}")
        return self.credential


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_in(tmp_path)


@pytest.fixture
def image(fixed: Fixed) -> Image:
    return served(fixed)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/t",service="s"', [("bearer", {"realm": "https://a/t", "service": "s"})]),
        ('basic Realm = "a, b=\\"c\\\\"', [("basic", {"realm": 'a, b="c\\'})]),
        (
            'Negotiate, Basic realm="x", Bearer realm="y" , scope="a:b:pull,c"',
            [
                ("negotiate", {}),
                ("basic", {"realm": "x"}),
                ("bearer", {"realm": "y", "scope": "a:b:pull,c"}),
            ],
        ),
        ("Negotiate abc==, Bearer realm=plain", [("negotiate", {}), ("bearer", {"realm": "plain"})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        ('Bearer realm="never ends', [("bearer", {})]),
        ("realm=x", []),
        ("", []),
        (",,,", []),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(header) == tuple(Challenge(*item) for item in expected)


def wants_token(fixed: Fixed, realm: str) -> None:
    """Let the server answer 401 to whoever brings no token."""
    challenge = f'Bearer realm="{realm}",service="s p",scope="repository:a/b:pull"'

    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        if path.startswith("/v2/") and headers.get("Authorization") != "Bearer t0k":
            return 401, {"WWW-Authenticate": challenge}, b"{}"
        return None

    fixed.hook = hook


def test_an_anonymous_token(fixed: Fixed, image: Image, engine: Engine) -> None:
    wants_token(fixed, f"http://{fixed.host}/token?x=1")
    fixed.answers["/token"] = (200, {}, json.dumps({"token": "t0k"}).encode())
    assert pull(engine, f"{fixed.host}/a/b:1") == [LOWER]
    (asked,) = [path for path, _ in fixed.asked if path.startswith("/token")]
    assert asked == "/token?x=1&scope=repository%3Aa%2Fb%3Apull&service=s+p"


def test_a_token_that_runs_out_is_renewed(fixed: Fixed, image: Image, engine: Engine) -> None:
    _, _, layer = image
    wants_token(fixed, f"http://{fixed.host}/token")
    first = fixed.hook

    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        if path.endswith(str(layer)):
            given = headers.get("Authorization")
            challenge = {"WWW-Authenticate": f'Bearer realm="http://{fixed.host}/token"'}
            return None if given == "Bearer t1k" else (401, challenge, b"")
        if path.startswith("/token"):
            count = sum(asked.startswith("/token") for asked, _ in fixed.asked)
            return 200, {}, json.dumps({"token": f"t{count - 1}k"}).encode()
        return first(path, headers)

    fixed.hook = hook
    assert pull(engine, f"{fixed.host}/a/b:1") == [LOWER]


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        ((200, {}, b'{"token": 1}'), NetworkError, "without a token"),
        ((200, {}, b"[]"), NetworkError, "without a token"),
        ((200, {}, b"<"), NetworkError, "without a token"),
        ((401, {}, b""), ImageError, "gives no token without a login"),
        ((200, {}, b'{"access_token": "other"}'), ImageError, "needs a login"),
    ],
)
def test_no_token(
    fixed: Fixed, image: Image, engine: Engine, answer: Answer, error: type[Exception], why: str
) -> None:
    wants_token(fixed, f"http://{fixed.host}/token")
    fixed.answers["/token"] = answer
    with pytest.raises(error, match=why):
        pull(engine, f"{fixed.host}/a/b:1")


def test_a_realm_that_is_no_address(fixed: Fixed, image: Image, engine: Engine) -> None:
    for realm, why in (("http://[", "no address"), ("http://registry.invalid/", "is refused")):
        wants_token(fixed, realm)
        with pytest.raises(NetworkError, match=why):
            pull(engine, f"{fixed.host}/a/b:1")


def test_another_kind_of_login(fixed: Fixed, engine: Engine) -> None:
    fixed.answers["/v2/a/b/manifests/1"] = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    with pytest.raises(ImageError, match="wants a login") as caught:
        pull(engine, f"{fixed.host}/a/b:1")
    assert caught.value.hint == f"docker login {fixed.host}"
    fixed.answers["/v2/a/b/manifests/1"] = (401, {"WWW-Authenticate": "Negotiate"}, b"")
    with pytest.raises(NetworkError, match="a login of an unknown kind"):
        pull(engine, f"{fixed.host}/a/b:1")


def test_a_redirect_gets_no_token(fixed: Fixed, image: Image, engine: Engine) -> None:
    blobs, _, layer = image
    wants_token(fixed, f"http://{fixed.host}/token")
    fixed.answers["/token"] = (200, {}, b'{"access_token": "t0k"}')
    with fixed_server() as other:
        other.answers["/elsewhere"] = (200, {}, blobs.data[layer])
        target = f"http://{other.host}/elsewhere?signature=1"
        fixed.answers[f"/v2/a/b/blobs/{layer}"] = (307, {"Location": target}, b"")
        assert pull(engine, f"{fixed.host}/a/b:1") == [LOWER]
    ((path, headers),) = other.asked
    assert path == "/elsewhere?signature=1"
    assert "Authorization" not in headers


def test_a_token_serves_until_it_ends(fixed: Fixed, image: Image, tmp_path: Path) -> None:
    """Tokens are shared by images of one repository; one that is about to end is not sent any more."""
    now = 0.0
    wants_token(fixed, f"http://{fixed.host}/token")
    answer = {"token": "t0k", "expires_in": 100, "issued_at": "2026-01-01T00:00:00Z"}
    headers = {"Date": "Thu, 01 Jan 2026 00:00:30 GMT"}
    fixed.answers["/token"] = (200, headers, json.dumps(answer).encode())
    engine = engine_in(tmp_path, clock=lambda: now)
    _, top, _ = image
    for moment, tokens in ((0.0, 1), (60.0, 1), (64.0, 2)):
        now = moment
        with engine.access.registry(Reference.parse(f"{fixed.host}/a/b:1")) as registry:
            assert registry.resolve() == top
        assert len(fixed.paths("/token")) == tokens


def test_tokens_stay_with_registry_and_account(fixed: Fixed, image: Image, tmp_path: Path) -> None:
    """One registry names another's token server: it gets no token that was got for that one."""
    wants_token(fixed, f"http://{fixed.host}/token")
    fixed.answers["/token"] = (200, {}, b'{"token": "t0k"}')
    engine = engine_in(tmp_path)
    pull(engine, f"{fixed.host}/a/b:1")
    with fixed_server() as other:
        wants_token(other, f"http://{fixed.host}/token")
        fixed.answers["/token"] = (200, {}, b'{"token": "another"}')
        with pytest.raises(ImageError, match="needs a login"):
            pull(engine, f"{other.host}/a/b:1")
        assert {headers.get("Authorization") for _, headers in other.asked} == {None, "Bearer another"}


def test_a_password_goes_to_the_token_server_alone(fixed: Fixed, image: Image, tmp_path: Path) -> None:
    wants_token(fixed, f"http://{fixed.host}/token")
    fixed.answers["/token"] = (200, {}, b'{"token": "t0k"}')
    account = Account(Credential("me", "secret"))
    assert pull(engine_in(tmp_path, credentials=account), f"{fixed.host}/a/b:1") == [LOWER]
    assert account.asked == [f"{fixed.host}/a/b"]
    sent = {(path.partition("?")[0], headers.get("Authorization", "")) for path, headers in fixed.asked}
    assert {path for path, header in sent if header.startswith("Basic")} == {"/token"}


def test_an_identity_token_is_posted(fixed: Fixed, image: Image, tmp_path: Path) -> None:
    wants_token(fixed, f"http://{fixed.host}/token")
    fixed.answers["/token"] = (200, {}, b'{"access_token": "t0k"}')
    account = Account(Credential(identity_token="refresh"))  # noqa: S106 - opens nothing
    assert pull(engine_in(tmp_path, credentials=account), f"{fixed.host}/a/b:1") == [LOWER]
    (form,) = fixed.forms
    assert sorted(form.decode().split("&")) == [
        "client_id=linuxkit_rules",
        "grant_type=refresh_token",
        "refresh_token=refresh",
        "scope=repository%3Aa%2Fb%3Apull",
        "service=s+p",
    ]


def test_a_login_that_is_refused(fixed: Fixed, image: Image, tmp_path: Path) -> None:
    wants_token(fixed, f"http://{fixed.host}/token")
    fixed.answers["/token"] = (401, {}, b"")
    account = Account(Credential("me", "secret"))
    with pytest.raises(ImageError, match="refuses the login") as caught:
        pull(engine_in(tmp_path, credentials=account), f"{fixed.host}/a/b:1")
    assert caught.value.hint == f"docker login {fixed.host}"


def test_a_busy_token_server_is_asked_again(fixed: Fixed, image: Image, engine: Engine) -> None:
    wants_token(fixed, f"http://{fixed.host}/token")
    first = fixed.hook

    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        if path.startswith("/token"):
            busy = len(fixed.paths("/token")) == 1
            return (429, {"Retry-After": "3"}, b"") if busy else (200, {}, b'{"token": "t0k"}')
        return first(path, headers)

    fixed.hook = hook
    assert pull(engine, f"{fixed.host}/a/b:1") == [LOWER]


def test_a_token_server_that_is_away_is_waited_for_once(fixed: Fixed, image: Image, tmp_path: Path) -> None:
    wants_token(fixed, f"http://{fixed.host}/token")
    fixed.answers["/token"] = (503, {}, b"")
    with pytest.raises(NetworkError, match="/token answered with status 503"):
        pull(engine_in(tmp_path), f"{fixed.host}/a/b:1")
    assert len(fixed.paths("/token")) == ATTEMPTS


def test_public_images_need_no_account(fixed: Fixed, image: Image, tmp_path: Path) -> None:
    account = Account(Credential("me", "secret"))
    pull(engine_in(tmp_path, credentials=account), f"{fixed.host}/a/b:1")
    assert account.asked == []


def test_basic(fixed: Fixed, image: Image, tmp_path: Path) -> None:
    def hook(path: str, headers: Mapping[str, str]) -> Answer | None:
        good = headers.get("Authorization") == "Basic bWU6c2VjcmV0"
        return None if good else (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")

    fixed.hook = hook
    account = Account(Credential("me", "secret"))
    assert pull(engine_in(tmp_path, credentials=account), f"{fixed.host}/a/b:1") == [LOWER]
    for wrong in (Credential("me", "other"), None):
        with pytest.raises(ImageError, match="the login|a login"):
            pull(engine_in(tmp_path / "again", credentials=Account(wrong)), f"{fixed.host}/a/b:1")


def test_a_place_that_was_redirected_to_may_ask_for_nothing(
    fixed: Fixed, image: Image, tmp_path: Path
) -> None:
    """A challenge of another host is no reason to show it an account."""
    _, _, layer = image
    account = Account(Credential("me", "secret"))
    with fixed_server() as other:
        challenge = f'Bearer realm="http://{other.host}/token"'
        other.hook = lambda path, headers: (401, {"WWW-Authenticate": challenge}, b"")
        target = f"http://{other.host}/elsewhere"
        fixed.answers[f"/v2/a/b/blobs/{layer}"] = (307, {"Location": target}, b"")
        with pytest.raises(ImageError, match="needs a login"):
            pull(engine_in(tmp_path, credentials=account), f"{fixed.host}/a/b:1")
        assert account.asked == []
        assert [path for path, _ in other.asked] == ["/elsewhere"]


def test_who_comes_back_has_no_token(fixed: Fixed, image: Image, engine: Engine) -> None:
    """Once a redirect has left the origin, a later one that leads back gets no token either."""
    blobs, _, layer = image
    wants_token(fixed, f"http://{fixed.host}/token")
    fixed.answers["/token"] = (200, {}, b'{"token": "t0k"}')
    fixed.answers["/back"] = (200, {}, blobs.data[layer])
    with fixed_server() as other:
        other.answers["/over"] = (302, {"Location": f"http://{fixed.host}/back"}, b"")
        away = {"Location": f"http://{other.host}/over"}
        fixed.answers[f"/v2/a/b/blobs/{layer}"] = (302, away, b"")
        assert pull(engine, f"{fixed.host}/a/b:1") == [LOWER]
    (headers,) = [headers for path, headers in fixed.asked if path == "/back"]
    assert "Authorization" not in headers


@pytest.mark.parametrize("target", ["http://a:b@127.0.0.1:1/x", "http://a@127.0.0.1:1/x"])
def test_a_redirect_brings_no_account_along(fixed: Fixed, engine: Engine, target: str) -> None:
    fixed.answers["/v2/a/b/manifests/1"] = (302, {"Location": target}, b"")
    with pytest.raises(NetworkError, match="refused") as caught:
        pull(engine, f"{fixed.host}/a/b:1")
    assert "a:b" not in str(caught.value)
