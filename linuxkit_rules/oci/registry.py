"""A registry's repository, read without an account over HTTP.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md ("Pull");
tokens: https://github.com/distribution/distribution/blob/v2.8.3/docs/spec/auth/token.md
"""

from __future__ import annotations

import ipaddress
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlencode, urljoin, urlsplit

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError, NetworkError
from linuxkit_rules.oci.manifest import (
    INDEX,
    INDEXES,
    MANIFESTS,
    SIZE_LIMIT,
    Index,
    Member,
    load_object,
    parse,
)
from linuxkit_rules.oci.reference import DEFAULT_DOMAIN, Reference
from linuxkit_rules.store.blobs import SupportsWrite

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 10
READ_SECONDS = 60
_REDIRECTS = 5
_DEFAULT_ADDRESS = "https://registry-1.docker.io"
_RETRIES = 3
_BLOCK = 1 << 18
_ACCEPT = ", ".join(INDEXES + MANIFESTS)
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"', re.IGNORECASE)


class Registry:
    """One repository of a registry, as an origin of blobs.

    ``plain_http`` names the registries (``host`` or ``host:port``) that may be asked without TLS; loopback
    always may.  ``endpoints`` gives the address of registries that do not answer under their own name.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        plain_http: Collection[str] = (),
        endpoints: Mapping[str, str] | None = None,
    ) -> None:
        self.name = reference.repository
        self._reference = reference
        self._plain = frozenset(plain_http)
        address = (endpoints or {}).get(reference.domain) or self._address()
        self.base = f"{address.rstrip('/')}/v2/{reference.path}/"
        self._token = ""
        self._lock = threading.Lock()
        self._kept: tuple[Descriptor, bytes] | None = None
        self._session = _session()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def resolve(self) -> Descriptor:
        """Give the manifest or index that the reference means.

        Raises ImageError where there is none or it is not the one asked for, NetworkError where the registry
        does not answer.
        """
        wanted = self._reference.digest
        where = str(self._reference)
        with self._get(f"manifests/{wanted or self._reference.tag}", _ACCEPT) as answer:
            data = self._read_manifest(answer)
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
            said = answer.headers.get("Docker-Content-Digest")
        digest = Digest.of(data)
        for expected in (str(wanted) if wanted else None, said):
            if expected not in (None, str(digest)):
                raise ImageError(f"the registry gave a manifest {digest}, not {expected}", where=where)
        top = Descriptor(media_type, digest, len(data))
        self._kept = (top, data)
        return top

    def manifest(self, name: str) -> tuple[Descriptor, bytes] | None:
        """Give the manifest or index with the tag or digest ``name``, or None where there is none.

        One asked for by digest is verified.  Raises ImageError or NetworkError.
        """
        found = self._document(f"manifests/{name}", _ACCEPT)
        if found and ":" in name and str(found[0].digest) != name:
            raise ImageError(f"the registry gave a manifest {found[0].digest}, not {name}", where=self.name)
        return found

    def referrers(self, subject: Digest, artifact_type: str = "") -> tuple[Member, ...]:
        """Give the manifests that refer to ``subject``, of one type or all ("Listing Referrers").

        Raises ImageError or NetworkError.
        """
        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        found = self._document(f"referrers/{subject}{query}", INDEX) or self.manifest(f"sha256-{subject.hex}")
        if found is None:
            return ()
        index = parse(found[1], None, self.name)
        if not isinstance(index, Index):
            raise ImageError("the list of referrers is no index", where=self.name)
        types = [item.get("artifactType") for item in load_object(found[1], self.name)["manifests"]]
        return tuple(
            member for member, kind in zip(index.members, types, strict=True) if artifact_type in ("", kind)
        )

    def _document(self, path: str, accept: str) -> tuple[Descriptor, bytes] | None:
        with self._get(path, accept, missing=True) as answer:
            if answer.status_code == 404:
                return None
            data = self._read_manifest(answer)
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        return Descriptor(media_type, Digest.of(data), len(data)), data

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob or manifest to ``out``, unverified; raise ImageError or NetworkError."""
        if self._kept and descriptor == self._kept[0]:
            out.write(self._kept[1])
            return
        is_manifest = descriptor.media_type in INDEXES + MANIFESTS
        kind, accept = ("manifests", descriptor.media_type) if is_manifest else ("blobs", "*/*")
        with self._get(f"{kind}/{descriptor.digest}", accept) as answer:
            for block in self._stream(answer):
                out.write(block)

    def _get(self, path: str, accept: str, missing: bool = False) -> requests.Response:
        """Ask for a path of the repository, with a token where the registry wants one."""
        url = urljoin(self.base, path)
        token = self._token
        answer = self._follow(url, accept)
        if answer.status_code == 401:
            answer.close()
            self._renew(token, answer.headers.get("WWW-Authenticate", ""))
            answer = self._follow(url, accept)
        if answer.status_code != 200 and not (missing and answer.status_code == 404):
            with answer:
                self._fail(answer, path)
        return answer

    def _renew(self, refused: str, challenge: str) -> None:
        """Get a token in the place of the one that was refused, unless another thread has done so."""
        with self._lock:
            if self._token == refused:
                self._token = self._fetch_token(challenge)

    def _follow(self, url: str, accept: str) -> requests.Response:
        """GET with redirects.  The token goes to the registry's own origin, never to another."""
        for _ in range(_REDIRECTS):
            headers = {"Accept": accept, "Accept-Encoding": "identity"}
            if self._token and _origin(url) == _origin(self.base):
                headers["Authorization"] = f"Bearer {self._token}"
            answer = self._send(url, headers)
            target = answer.headers.get("Location")
            if answer.status_code not in (301, 302, 303, 307, 308) or not target:
                return answer
            answer.close()
            url = self._allowed(target, url)
        raise NetworkError(f"more than {_REDIRECTS} redirects", where=self.name)

    def _send(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        import requests

        try:
            return self._session.get(
                url,
                headers=dict(headers),
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
        except (requests.RequestException, ValueError) as error:
            raise NetworkError(f"cannot reach {_shown(url)}: {_reason(error)}", where=self.name) from error

    def _stream(self, answer: requests.Response) -> Iterator[bytes]:
        """Give the body's bytes as sent, without undoing any content encoding."""
        from urllib3.exceptions import HTTPError

        try:
            yield from answer.raw.stream(_BLOCK, decode_content=False)
        except (HTTPError, OSError) as error:
            message = f"the connection to {_shown(answer.url)} broke: {_reason(error)}"
            raise NetworkError(message, where=self.name) from error

    def _read_manifest(self, answer: requests.Response) -> bytes:
        data = bytearray()
        for block in self._stream(answer):
            data += block
            if len(data) > SIZE_LIMIT:
                raise ImageError(
                    f"the manifest is longer than {SIZE_LIMIT} bytes", where=str(self._reference)
                )
        return bytes(data)

    def _fetch_token(self, challenge: str) -> str:
        """Get an anonymous token from the server that the challenge names (token.md, "Requesting")."""
        scheme, _, rest = challenge.partition(" ")
        fields = {name.lower(): value for name, value in _CHALLENGE.findall(rest)}
        if scheme.lower() != "bearer" or "realm" not in fields:
            raise NetworkError("the registry wants a login", where=str(self._reference))
        scope = fields.get("scope") or f"repository:{self._reference.path}:pull"
        query = {"scope": scope, **({"service": fields["service"]} if "service" in fields else {})}
        realm = self._allowed(fields["realm"], self.base)
        joint = "&" if urlsplit(realm).query else "?"
        with self._send(f"{realm}{joint}{urlencode(query)}", {"Accept": "application/json"}) as answer:
            if answer.status_code != 200:
                message = f"{_shown(realm)} gives no token without a login: status {answer.status_code}"
                raise NetworkError(message, where=str(self._reference))
            return self._read_token(answer)

    def _read_token(self, answer: requests.Response) -> str:
        try:
            value = answer.json()
            token = value.get("token") or value.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str):
            raise NetworkError(f"{_shown(answer.url)} answered without a token", where=self.name)
        return token

    def _address(self) -> str:
        domain = self._reference.domain
        if domain == DEFAULT_DOMAIN:
            return _DEFAULT_ADDRESS
        return f"{'http' if self._may_be_plain(domain) else 'https'}://{domain}"

    def _may_be_plain(self, place: str) -> bool:
        """Whether ``host`` or ``host:port`` may be asked over plain HTTP: loopback, or told by name."""
        host = urlsplit(f"//{place}").hostname or ""
        if place in self._plain or host in self._plain or host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def _allowed(self, target: str, source: str) -> str:
        """Give the address that ``source`` sends us to: never from https to http, no other scheme."""
        try:
            url = urljoin(source, target)
            parts = urlsplit(url)
        except ValueError:
            raise NetworkError(
                f"{_shown(source)} sends us to no address: {target!r}", where=self.name
            ) from None
        plain = (
            parts.scheme == "http" and urlsplit(source).scheme == "http" and self._may_be_plain(parts.netloc)
        )
        if parts.scheme != "https" and not plain:
            raise NetworkError(
                f"{_shown(source)} sends us to {_shown(url)}, which is refused", where=self.name
            )
        return url

    def _fail(self, answer: requests.Response, path: str) -> NoReturn:
        """Raise what the status of an answer means."""
        status, name = answer.status_code, str(self._reference)
        if status == 404:
            what = "image" if path.startswith("manifests/") else "blob"
            raise ImageError(f"the registry has no such {what}: {path}", where=name)
        if status in (401, 403):
            raise ImageError("there is no such image, or it needs a login", where=name)
        if status == 429:
            raise NetworkError(
                "the registry refuses more requests for now", where=name, hint="try again later"
            )
        raise NetworkError(f"{_shown(answer.url)} answered with status {status}", where=name)


def _session() -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    session.trust_env = False
    retry = Retry(
        total=_RETRIES,
        backoff_factor=0.2,
        status_forcelist=(500, 502, 503, 504),
        read=2,
        redirect=0,
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _shown(url: str) -> str:
    """The address without its query, which can hold a signature or a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(error: BaseException) -> str:
    """The innermost cause of a chain of network errors, in its own words."""
    inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
    if isinstance(inner, BaseException) and inner is not error:
        return _reason(inner)
    text = getattr(error, "strerror", None) or str(error)
    return text.rpartition(": ")[2] if "object at 0x" in text else text
