"""HTTP as registries need it: where a request may go, who gets to see a token, what a fault means.

Redirects are followed by hand.  Authorization belongs to one origin (scheme, host and port, RFC 6454) and is
dropped for good at the first step away from it; https never leads to http; a server may not send us to an
address that only we can reach (``oci/addresses.py``).  Behind a proxy names are resolved by the proxy, so
that there only hosts written as addresses are judged.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urldefrag, urljoin, urlsplit

from linuxkit_rules.errors import NetworkError, one_line
from linuxkit_rules.oci.addresses import Kind, less_trusted, literal, may_send
from linuxkit_rules.oci.dial import adapter, dial, refused
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.retry import ATTEMPTS, PassingError, Patience, SilentError

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
_BLOCK = 1 << 18
_SMALL = 1 << 16
_TLS_FAULTS = {
    "CERTIFICATE_VERIFY_FAILED": "LINUXKIT_CA_FILES names further authorities",
    "WRONG_VERSION_NUMBER": "it speaks no TLS: LINUXKIT_PLAIN_HTTP names registries without",
}
"""Faults of TLS that do not pass, and what to do."""

_SLOWEST = 1024  # bytes a second, over the time that a read may take


class Transport:
    """Sessions with servers, shared by all threads.

    Connections that were opened under one limit are kept apart from those under another: a server that sends
    us somewhere gets no connection that its own limit would not have opened.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._sessions: dict[Kind | None, requests.Session] = {}
        self._kinds: dict[tuple[str, int], Kind] = {}
        self._context: ssl.SSLContext | None = None
        self._lock = threading.RLock()

    def patiently(self, action: Callable[[], T], attempts: int = ATTEMPTS) -> T:
        """Run ``action`` until it raises no PassingError; raise the last one where patience ends."""
        patience = Patience(self.network.pauses, attempts)
        while True:
            try:
                return action()
            except PassingError as error:
                patience.pause(error)

    def follow(
        self,
        url: str,
        headers: Mapping[str, str],
        authorization: str = "",
        sender: Kind | None = None,
        *,
        method: str = "GET",
    ) -> tuple[requests.Response, bool]:
        """GET (or HEAD) with redirects; give the answer, and whether it is from the origin that was asked.

        ``sender`` is the kind of the server that named ``url``, None where the user did.  Raises NetworkError
        where a redirect is refused, and PassingError where a server cannot be reached now.
        """
        home, at_home = origin(url), True
        for _ in range(REDIRECTS + 1):
            at_home = at_home and origin(url) == home
            sent = {**headers, "Authorization": authorization} if authorization and at_home else headers
            answer = self.send(method, url, sent, sender)
            target = answer.headers.get("Location")
            if answer.status_code not in _MOVED or not target:
                return answer, at_home
            drop(answer)
            sender = less_trusted(sender, self.kind_at(url))
            url = self.allowed(target, url)
        raise NetworkError(f"{shown(url)}: more than {REDIRECTS} redirects")

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        sender: Kind | None = None,
        body: Mapping[str, str] | bytes | BinaryIO | None = None,
    ) -> requests.Response:
        """Ask once, following nothing; the answer's body is yet to be read.  Raises as ``follow`` does.

        The request's ``body`` is a form, bytes, or a file, which is read from where it stands.
        """
        import requests

        proxy = self.network.proxies.of(url)
        self._check_literal(url, sender, proxy)
        try:
            return self._session(sender).request(
                method,
                url,
                headers={"Accept-Encoding": "identity", **headers},
                data=body,
                stream=True,
                allow_redirects=False,
                timeout=(self.network.connect_seconds, self.network.read_seconds),
                proxies={"http": proxy, "https": proxy} if proxy else {},
            )
        except (requests.RequestException, ValueError) as error:
            raise _unreachable(error, url) from None

    def blocks(self, answer: requests.Response) -> Iterator[bytes]:
        """Give the body's bytes as they come, without undoing any content encoding.

        Raises PassingError where the connection breaks, or hardly anything comes for a while.
        """
        from urllib3.exceptions import HTTPError
        from urllib3.exceptions import TimeoutError as TimeOut

        since, came = self.network.clock(), 0
        while True:
            try:
                data = answer.raw.read1(_BLOCK, decode_content=False)
            except (HTTPError, http.client.HTTPException, OSError, ValueError) as error:
                kind = SilentError if isinstance(error, (TimeOut, TimeoutError)) else PassingError
                raise kind(f"the connection to {shown(answer.url)} broke: {reason(error)}") from None
            if not data:
                return
            yield data
            came += len(data)
            if (now := self.network.clock()) - since >= self.network.read_seconds:
                if came < _SLOWEST * (now - since):
                    raise SilentError(f"{shown(answer.url)} sends only {came} bytes in {now - since:.0f} s")
                since, came = now, 0

    def body(self, answer: requests.Response, limit: int) -> bytes:
        """Give a short body whole; raise NetworkError where it is longer than ``limit`` bytes."""
        data = bytearray()
        for block in self.blocks(answer):
            data += block
            if len(data) > limit:
                raise NetworkError(f"the answer of {shown(answer.url)} is longer than {limit} bytes")
        return bytes(data)

    def kind_at(self, url: str) -> Kind:
        """Give what kind of address a server was found at; of several, the least trusted."""
        host, port = _place(url)
        found = None if self.network.proxies.of(url) else self._kinds.get((host, port))
        return found or literal(host) or Kind.PUBLIC

    def allowed(self, target: str, source: str) -> str:
        """Give the address that ``source`` sends us to; raise NetworkError where that is refused.

        It is one of https, or of http from the same server or one that may be asked so, and holds no account.
        """
        try:
            url = urldefrag(urljoin(source, target)).url
            parts = urlsplit(url)
            port_is_number = parts.port is None or parts.port > 0
        except ValueError:
            raise NetworkError(f"{shown(source)} sends us to no address: {one_line(target)!r}") from None
        before = urlsplit(source)
        named = parts.netloc == before.netloc or self.network.may_be_plain(parts.netloc)
        plain = parts.scheme == "http" and before.scheme == "http" and named
        if not (parts.scheme == "https" or plain) or not port_is_number or "@" in parts.netloc:
            raise NetworkError(f"{shown(source)} sends us to {shown(url)}, which is refused")
        return url

    def _check_literal(self, url: str, sender: Kind | None, proxy: str) -> None:
        """Judge a host that a proxy resolves, as far as that can be done."""
        host, _ = _place(url)
        target = literal(host)
        if proxy and sender and target and not may_send(sender, target):
            raise refused(host, host, sender)

    def _session(self, sender: Kind | None) -> requests.Session:
        with self._lock:
            if sender not in self._sessions:
                self._sessions[sender] = self._new_session(sender)
            return self._sessions[sender]

    def _new_session(self, sender: Kind | None) -> requests.Session:
        """Make a session that reads neither environment nor .netrc, keeps no cookies and tries once."""
        from http.cookiejar import DefaultCookiePolicy

        import requests

        def open_socket(host: str, port: int, timeout: Any) -> Any:
            connection, kind = dial(self.network.dialer, host, port, timeout, sender)
            host = host.strip("[]")
            with self._lock:
                self._kinds[host, port] = less_trusted(self._kinds.get((host, port)), kind)
            return connection

        session = requests.Session()
        session.trust_env = False
        session.headers["User-Agent"] = "linuxkit_rules"
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(open_socket, self._trusted))
        return session

    def _trusted(self) -> ssl.SSLContext:
        """Give the context with which certificates are verified; raise NetworkError for a bad CA file."""
        import certifi

        with self._lock:
            if self._context is None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                for file in (self.network.trust or Path(certifi.where()), *self.network.ca_files):
                    _load(context, file)
                self._context = context
            return self._context


def _load(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise NetworkError("holds no certificates in PEM", where=str(file)) from None
    except OSError as error:
        raise NetworkError(f"cannot read the CA file: {error.strerror}", where=str(file)) from None


def _unreachable(error: Exception, url: str) -> NetworkError:
    """Give the error for a request that got no answer; it passes, unless it is in the address or in TLS."""
    import requests

    message, text = f"cannot reach {shown(url)}: {reason(error)}", str(error)
    for sign, hint in _TLS_FAULTS.items():
        if sign in text:
            return NetworkError(message, hint=hint)
    if isinstance(error, requests.Timeout) or isinstance(_innermost(error), TimeoutError):
        return SilentError(message)
    if isinstance(error, requests.ConnectionError):
        return PassingError(message)
    return NetworkError(message)


def drop(answer: requests.Response) -> None:
    """Be done with an answer whose body does not matter; its connection is kept where the body has come."""
    from urllib3.exceptions import HTTPError

    with answer, contextlib.suppress(HTTPError, http.client.HTTPException, OSError, ValueError):
        answer.raw.read1(_SMALL, decode_content=False)


def origin(url: str) -> tuple[str, str, int]:
    """Give scheme, host and port: what authorization belongs to."""
    host, port = _place(url)
    return urlsplit(url).scheme, host, port


def shown(url: str) -> str:
    """Give the address as messages may show it: without a query, which can hold a signature or a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return one_line(url.partition("?")[0])
    return one_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def reason(error: BaseException) -> str:
    """Give the innermost cause of a chain of network errors, in its own words."""
    cause = _innermost(error)
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return one_line(text.rpartition(": ")[2] if "object at 0x" in text else text)


def _innermost(error: BaseException) -> BaseException:
    inner = getattr(error, "reason", None)
    if not isinstance(inner, BaseException):
        inner = next((item for item in error.args if isinstance(item, BaseException)), None)
    return error if inner is None or inner is error else _innermost(inner)


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)
