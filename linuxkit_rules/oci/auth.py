"""Logins: from a server's challenge to the header Authorization.

https://github.com/distribution/distribution/blob/v2.8.3/docs/spec/auth/token.md, oauth.md; RFC 7617 (Basic).

The account of a registry goes to that registry, and to the token server that it names: as with Docker's own
client, that may be another host.  A registry wins nothing by naming a foreign one, for it could have asked
for the password itself.  The token server has to be reached by https, unless the registry itself is asked
over plain HTTP and so may the token server be, and is subject to the rule who may send us where.  Only
challenges of the registry's own origin are answered, never those of a place that it redirects to.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from cachetools import TLRUCache

from linuxkit_rules.errors import ImageError, NetworkError
from linuxkit_rules.oci.addresses import less_trusted
from linuxkit_rules.oci.challenges import Challenge, parse_challenges
from linuxkit_rules.oci.credentials import Credential, Credentials
from linuxkit_rules.oci.retry import PASSING, PassingError, date_of, retry_after
from linuxkit_rules.oci.transport import Transport, drop, origin, shown
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    import requests

CLIENT_ID = "linuxkit_rules"
_LIFE = 60.0
"""How long a token lives that does not say so (token.md), in seconds."""
_MARGIN = 0.9
_KEPT = 512
_LIMIT = 1 << 20
_JSON = {"Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Token:
    """A header Authorization, and when it is not to be used any more, by the transport's clock."""

    header: str
    ends: float


class Tokens:
    """Tokens until they end, shared by all threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._cache: TLRUCache[Hashable, Token] = TLRUCache(
            _KEPT, ttu=lambda key, token, now: token.ends, timer=clock
        )
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Token | None:
        """Give the token, None where there is none that is still good."""
        with self._lock:
            return self._cache.get(key)

    def put(self, key: Hashable, token: Token) -> None:
        """Keep a token."""
        with self._lock:
            self._cache[key] = token

    def drop(self, key: Hashable, header: str) -> None:
        """Forget the token that has ``header``, which a server has refused."""
        with self._lock:
            token = self._cache.get(key)
            if token and token.header == header:
                del self._cache[key]


class Login:
    """The login for one repository at one place, as ``base`` (its URL) asks for it.

    ``domain`` is the place's name in files of accounts; ``where`` what messages call the image.
    """

    def __init__(
        self,
        *,
        base: str,
        domain: str,
        path: str,
        where: str,
        transport: Transport,
        tokens: Tokens,
        credentials: Credentials,
    ) -> None:
        self._base = base
        self.domain = domain
        self._path = path
        self._where = where
        self._transport = transport
        self._tokens = tokens
        self._credentials = credentials
        self._lock = threading.Lock()
        self._current: Token | None = None

    def header(self) -> str:
        """Give the header Authorization to send, ``""`` where none is known to be wanted, or it has ended."""
        current = self._current
        return current.header if current and current.ends > self._transport.network.clock() else ""

    def renew(self, refused: str, challenge: str) -> str:
        """Give a header in the place of the one that was refused; another thread's, if it has a new one.

        ``challenge`` is the header WWW-Authenticate of the refusal.  Raises ImageError where an account is
        needed, or the one there is counts for nothing; NetworkError where no token can be had.
        """
        with self._lock:
            known = self.header()
            if known and known != refused:
                return known
            self._current = self._answered(refused, parse_challenges(challenge))
            return self._current.header

    def _answered(self, refused: str, challenges: tuple[Challenge, ...]) -> Token:
        by_scheme = {item.scheme: item.parameters for item in reversed(challenges)}
        account = self._credentials.find(self.domain, self._path)
        bearer = by_scheme.get("bearer", {})
        if bearer.get("realm"):
            return self._bearer(refused, bearer, account)
        if "basic" not in by_scheme:
            raise NetworkError("the registry wants a login of an unknown kind", where=self._where)
        if account is None or not account.user or account.identity_token:
            raise self._needs_login("the registry wants a login")
        header = basic(account)
        if refused == header:
            raise self._needs_login("the registry refuses the login")
        return Token(header, float("inf"))

    def _bearer(self, refused: str, fields: Mapping[str, str], account: Credential | None) -> Token:
        scope = fields.get("scope") or f"repository:{self._path}:pull"
        realm = self._transport.allowed(fields["realm"], self._base)
        user = account.user or "<token>" if account else ""
        key = (origin(self._base), realm, fields.get("service", ""), scope, user)
        self._tokens.drop(key, refused)
        token = self._tokens.get(key)
        if token is None:
            query = {"scope": scope, **({"service": fields["service"]} if "service" in fields else {})}
            token = self._patiently(lambda: self._fetch(realm, query, account))
            self._tokens.put(key, token)
        return token

    def _patiently(self, fetch: Callable[[], Token]) -> Token:
        """Run ``fetch`` with a patience of its own: its last fault is no reason to ask the registry again."""
        try:
            return self._transport.patiently(fetch)
        except PassingError as error:
            raise NetworkError(error.message, where=self._where, hint=error.hint) from None

    def _fetch(self, realm: str, query: Mapping[str, str], account: Credential | None) -> Token:
        """Ask the token server once."""
        transport = self._transport
        sender = less_trusted(None, transport.kind_at(self._base))
        asked = transport.network.clock()
        if account and account.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": account.identity_token,
                "client_id": CLIENT_ID,
                **query,
            }
            answer = transport.send("POST", realm, _JSON, sender, form)
        else:
            joint = "&" if urlsplit(realm).query else "?"
            url = f"{realm}{joint}{urlencode(query)}"
            answer, _ = transport.follow(url, _JSON, basic(account) if account else "", sender)
        if answer.status_code != 200:
            self._fail(answer, realm, account)
        with answer:
            data = transport.body(answer, _LIMIT)
        return _token(data, answer.headers, asked, f"{shown(realm)} answered without a token")

    def _fail(self, answer: requests.Response, realm: str, account: Credential | None) -> None:
        status = answer.status_code
        drop(answer)
        if status in PASSING:
            message = f"{shown(realm)} answered with status {status}"
            raise PassingError(message, where=self._where, wait=retry_after(answer.headers))
        if account:
            raise self._needs_login(f"{shown(realm)} refuses the login: status {status}")
        raise self._needs_login(f"{shown(realm)} gives no token without a login: status {status}")

    def _needs_login(self, message: str) -> ImageError:
        return ImageError(message, where=self._where, hint=f"docker login {self.domain}")


def basic(account: Credential) -> str:
    """Give the header Authorization for an account (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{account.user}:{account.password}".encode()).decode()


def _token(data: bytes, headers: Mapping[str, str], asked: float, fault: str) -> Token:
    """Read a token server's answer; raise NetworkError, saying ``fault``, where it is none.

    A token that was issued a while ago (by the server's own clock, in the header Date) has less time left.
    """
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    fields = value if isinstance(value, dict) else {}
    text = fields.get("token") or fields.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise NetworkError(fault)
    life = fields.get("expires_in")
    seconds = float(life) if isinstance(life, (int, float)) and life > 0 else _LIFE
    issued, now = date_of(str(fields.get("issued_at", ""))), date_of(headers.get("Date", ""))
    age = max(0.0, (now - issued).total_seconds()) if issued and now else 0.0
    return Token(f"Bearer {text}", asked + max(0.0, seconds - age) * _MARGIN)
