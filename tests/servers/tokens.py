"""A token server: it signs what docker-registry's ``auth: token`` trusts (JWT, RFC 7519; ES256, RFC 7518)."""

import base64
import contextlib
import http.server
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.servers.certificates import Authority
from tests.servers.processes import serving

ISSUER, SERVICE = "tests' issuer", 'tests, "quoted"'
IDENTITY = "refresh me"


@dataclass
class TokenServer:
    """``accounts`` are user names with passwords; without any, everyone gets tokens."""

    key: ec.EllipticCurvePrivateKey
    certificate: Path
    accounts: dict[str, str] = field(default_factory=dict)
    life: int = 300
    host: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)

    @property
    def realm(self) -> str:
        return f"http://{self.host}/token"

    def knows(self, authorization: str) -> bool:
        """Whether a header is a known account's, or none is needed."""
        expected = {
            "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
            for user, password in self.accounts.items()
        }
        return not self.accounts or authorization in expected

    def issue(self, scope: str) -> str:
        """A token for what ``scope`` asks (``repository:NAME:ACTIONS``)."""
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        self.scopes.append(scope)
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": "",
            "aud": SERVICE,
            "exp": now + self.life,
            "nbf": now - 10,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        der = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        chain = [base64.b64encode(der.public_bytes(serialization.Encoding.DER)).decode()]
        text = f"{_encoded({'alg': 'ES256', 'typ': 'JWT', 'x5c': chain})}.{_encoded(claims)}"
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encoded(value: Any) -> str:
    return _base64(json.dumps(value).encode())


@contextlib.contextmanager
def token_server(folder: Path) -> Iterator[TokenServer]:
    authority = Authority.make(folder, "tokens")
    tokens = TokenServer(authority.key, authority.file)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"

        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization", "")
            query = parse_qs(urlsplit(self.path).query)
            tokens.asked.append(("GET", authorization))
            self._give(tokens.knows(authorization), query, "token")

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            tokens.asked.append(("POST", form["grant_type"][0]))
            self._give(form["refresh_token"] == [IDENTITY], form, "access_token")

        def _give(self, allowed: bool, query: dict[str, list[str]], name: str) -> None:
            good = allowed and query["service"] == [SERVICE]
            value = {name: tokens.issue(query["scope"][0]), "expires_in": tokens.life} if good else {}
            body = json.dumps(value).encode()
            self.send_response(200 if good else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as server:
        tokens.host = f"127.0.0.1:{server.server_port}"
        yield tokens
