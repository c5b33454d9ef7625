"""A remote cache that speaks Bazel's HTTP protocol: ``/ac/<key>`` and ``/cas/<digest>``, GET and PUT.

https://bazel.build/remote/caching#http-caching; https://github.com/buchgr/bazel-remote.  Any server does that
keeps what is put: bazel-remote, nginx with its DAV module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import NetworkError
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.auth import basic
from linuxkit_rules.oci.transport import Transport, drop
from linuxkit_rules.remote.action_result import decode, encode
from linuxkit_rules.remote.address import Account, HttpAddress
from linuxkit_rules.remote.backend import ENTRY_LIMIT, MissingError, RefusedError, take
from linuxkit_rules.store.memory import Result

if TYPE_CHECKING:
    import requests

_NOT_THERE = (404, 410)
_HINT = "an account can stand in the URL, LINUXKIT_REMOTE_CACHE_TOKEN or Docker's config.json"


class BazelCache:
    """The cache at ``address``; ``account`` is used when it asks for one."""

    def __init__(self, address: HttpAddress, transport: Transport, account: Account) -> None:
        self.name = address.url
        self._transport = transport
        self._account = account
        self._authorization = account.given()

    def result(self, key: str) -> Result | None:
        """Give what the recipe ``key`` gave, as ``Backend`` says."""
        answer = self._get(f"ac/{key}")
        if answer is None:
            return None
        with answer:
            return decode(self._transport.body(answer, ENTRY_LIMIT))

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob to ``out``, as ``Backend`` says."""
        answer = self._get(_path(descriptor))
        if answer is None:
            raise MissingError(f"has no blob {descriptor.digest}", where=self.name)
        with answer:
            take(self._transport, answer, out)

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob is there; a server that will not say so has it not."""
        answer = self._send("HEAD", _path(blob))
        drop(answer)
        return answer.status_code == 200

    def put(self, blob: Descriptor, file: BinaryIO) -> None:
        """Send a blob, as ``Backend`` says."""
        self._put(_path(blob), file if blob.size else b"")

    def put_result(self, key: str, result: Result) -> None:
        """Send a result, as ``Backend`` says."""
        self._put(f"ac/{key}", encode(result))

    def _get(self, path: str) -> requests.Response | None:
        answer = self._send("GET", path)
        if answer.status_code == 200:
            return answer
        drop(answer)
        if answer.status_code in _NOT_THERE:
            return None
        hint = _HINT if answer.status_code in (401, 403) else None
        raise NetworkError(f"answers with status {answer.status_code}", where=self.name, hint=hint)

    def _put(self, path: str, body: bytes | BinaryIO) -> None:
        answer = self._send("PUT", path, body)
        drop(answer)
        if not 200 <= answer.status_code < 300:
            raise RefusedError(f"answers PUT with status {answer.status_code}", where=self.name)

    def _send(self, method: str, path: str, body: bytes | BinaryIO | None = None) -> requests.Response:
        """Ask once, or again with the account that the user has for this server, where it wants one."""
        sent = self._authorization
        answer = self._once(method, path, body, sent)
        if answer.status_code != 401 or (sent and sent == self._authorization):
            return answer
        drop(answer)
        if not self._authorization:
            found = self._account.find()
            if found is None:
                raise NetworkError("wants a login", where=self.name, hint=_HINT)
            self._authorization = basic(found)
        return self._once(method, path, body, self._authorization)

    def _once(
        self, method: str, path: str, body: bytes | BinaryIO | None, authorization: str
    ) -> requests.Response:
        url = f"{self.name}/{path}"
        if body is None:
            return self._transport.follow(url, {"Accept": "*/*"}, authorization, method=method)[0]
        if not isinstance(body, bytes):
            body.seek(0)
        headers = {"Content-Type": "application/octet-stream"}
        if authorization:
            headers["Authorization"] = authorization
        return self._transport.send(method, url, headers, body=body)


def _path(blob: Descriptor) -> str:
    return f"cas/{blob.digest.hex}"
