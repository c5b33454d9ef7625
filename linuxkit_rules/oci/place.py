"""One place that has a repository: the registry itself, or a mirror of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError, LinuxKitError, NetworkError, one_line
from linuxkit_rules.oci.auth import Login
from linuxkit_rules.oci.manifest import INDEXES, MANIFESTS, SIZE_LIMIT, parse
from linuxkit_rules.oci.retry import ATTEMPTS, PASSING, PassingError, retry_after
from linuxkit_rules.oci.transport import Transport, drop, origin, shown

if TYPE_CHECKING:
    import requests

ACCEPT = ", ".join(INDEXES + MANIFESTS)
_MIRROR_ATTEMPTS = 2
_VAGUE = ("", "application/octet-stream", "binary/octet-stream", "application/json", "text/plain")
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"


class Place:
    """A repository at ``base``, the URL of the distribution specification's ``/v2/<name>/``.

    ``mirror`` is the mirror's address, ``""`` for the registry itself; ``where`` is what messages call the
    image.
    """

    def __init__(self, base: str, where: str, transport: Transport, login: Login, mirror: str = "") -> None:
        self.base = base
        self.mirror = mirror
        self.where = where
        self.transport = transport
        self.attempts = _MIRROR_ATTEMPTS if mirror else ATTEMPTS
        self._login = login

    def ask(self, path: str, accept: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """GET a path of the repository once, with a login where one is wanted; give the last answer.

        Raises PassingError for faults and statuses that another try may change, NetworkError for others,
        ImageError where a login is missing.
        """
        try:
            return self._ask(urljoin(self.base, path), {"Accept": accept, **(headers or {})})
        except (NetworkError, ImageError) as error:
            error.where = error.where or self.where
            raise

    def _ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        header = self._login.header()
        answer, at_home = self.transport.follow(url, headers, header)
        if answer.status_code == 401 and at_home:
            drop(answer)
            header = self._login.renew(header, answer.headers.get("WWW-Authenticate", ""))
            answer, _ = self.transport.follow(url, headers, header)
        if answer.status_code in PASSING:
            drop(answer)
            raise self._passing(answer)
        return answer

    def document(self, path: str, accept: str) -> tuple[requests.Response, bytes] | None:
        """Give the answer and the body of a short document; None where there is none (404)."""
        return self.transport.patiently(lambda: self._document(path, accept), self.attempts)

    def _document(self, path: str, accept: str) -> tuple[requests.Response, bytes] | None:
        answer = self.ask(path, accept)
        if answer.status_code == 404:
            drop(answer)
            return None
        if answer.status_code != 200:
            drop(answer)
            raise self.failure(answer, path)
        with answer:
            self.check_encoding(answer)
            try:
                return answer, self.transport.body(answer, SIZE_LIMIT)
            except NetworkError as error:
                error.where = self.where
                raise

    def manifest(self, name: str, accept: str = ACCEPT) -> tuple[Descriptor, bytes] | None:
        """Give the manifest or index that a tag or digest names; None where there is none.

        Raises ImageError where it is not what it should be.
        """
        found = self.document(f"manifests/{name}", accept)
        if found is None:
            return None
        answer, data = found
        digest = Digest.of(data)
        media_type = self._media_type(answer, data)
        for expected in (name if ":" in name else None, answer.headers.get("Docker-Content-Digest")):
            if expected not in (None, str(digest)):
                message = f"the registry gave a manifest {digest}, not {one_line(str(expected))}"
                raise ImageError(message, where=self.where)
        return Descriptor(media_type, digest, len(data)), data

    def _media_type(self, answer: requests.Response, data: bytes) -> str:
        """Settle what a document is; one that the server announces vaguely tells itself."""
        said = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if said.startswith(_SCHEMA_1):
            message = "is an image of Docker's schema 1, which is not known any more"
            raise ImageError(message, where=self.where, hint="push it again with a newer Docker")
        if said in ("text/html", "application/xhtml+xml"):
            message = f"{shown(answer.url)} answers with a web page, not as a registry"
            raise NetworkError(message, where=self.where, hint="does this network want a login in a browser?")
        return parse(data, None, self.where).media_type if said in _VAGUE else said

    def check_encoding(self, answer: requests.Response) -> None:
        """Raise NetworkError where the body is encoded though it should not be."""
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            message = f"{shown(answer.url)} encodes its answer as {one_line(encoding)}, unasked"
            raise NetworkError(message, where=self.where)

    def next_page(self, answer: requests.Response) -> str | None:
        """Give the URL that the answer's Link names as the next page, None for the last.

        Raises NetworkError where it leads to another origin.
        """
        link = answer.links.get("next", {}).get("url")
        if link is None:
            return None
        url = self.transport.allowed(link, answer.url)
        if origin(url) != origin(self.base):
            raise NetworkError(f"the next page would be at {shown(url)}, another place", where=self.where)
        return url

    def failure(self, answer: requests.Response, path: str) -> LinuxKitError:
        """Give the error that the status of an answer means."""
        status = answer.status_code
        if status == 404:
            what = "image" if path.startswith("manifests/") else "blob"
            return ImageError(f"the registry has no such {what}: {path}", where=self.where)
        if status in (401, 403):
            hint = f"docker login {self._login.domain}"
            return ImageError("there is no such image, or it needs a login", where=self.where, hint=hint)
        return NetworkError(f"{shown(answer.url)} answered with status {status}", where=self.where)

    def _passing(self, answer: requests.Response) -> PassingError:
        wait = retry_after(answer.headers)
        if answer.status_code != 429:
            message = f"{shown(answer.url)} answered with status {answer.status_code}"
            return PassingError(message, where=self.where, wait=wait)
        later = f"try again in {wait:.0f} seconds" if wait else "try again later"
        hint = f"{later}, or log in: docker login {self._login.domain}"
        message = "the registry refuses more requests for now"
        return PassingError(message, where=self.where, hint=hint, wait=wait)
