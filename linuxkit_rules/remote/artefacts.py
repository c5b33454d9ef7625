"""A repository of a registry as a remote cache: each result an artefact, tagged with its key.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md ("Guidelines for Artifact Usage");
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md ("Push").  The layers are the output,
then what it refers to.  Their media types stand in annotations: some registries look into layers that are
said to be manifests, or refuse types that they do not know.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError, NetworkError
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.auth import Login, Tokens
from linuxkit_rules.oci.credentials import Credentials
from linuxkit_rules.oci.manifest import MANIFEST
from linuxkit_rules.oci.place import Place
from linuxkit_rules.oci.registry import address_of
from linuxkit_rules.oci.transport import Transport, drop, origin
from linuxkit_rules.remote.address import RegistryAddress
from linuxkit_rules.remote.backend import ENTRY_LIMIT, MissingError, RefusedError, checked, take
from linuxkit_rules.store.blobs import OCTET_STREAM
from linuxkit_rules.store.memory import Result

if TYPE_CHECKING:
    import requests

ENTRY = "application/vnd.linuxkit-rules.entry.v1"
"""Artefact type of a result."""
MEDIA_TYPE = "linuxkit-rules.media-type"
"""Annotation of a layer."""
EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_DATA = b"{}"

_LOGINS = 2


class ArtefactCache:
    """The cache in a repository, with the accounts that pulling images from it would use."""

    def __init__(self, address: RegistryAddress, transport: Transport, credentials: Credentials) -> None:
        self.name = address.url
        self._transport = transport
        repository = address.repository
        base = f"{address_of(repository.domain, transport.network)}/v2/{repository.path}/"

        def login() -> Login:
            return Login(
                base=base,
                domain=repository.domain,
                path=repository.path,
                where=self.name,
                transport=transport,
                tokens=Tokens(transport.network.clock),
                credentials=credentials,
            )

        self._place = Place(base, self.name, transport, login())
        self._sender = login()  # it has other tokens, for pulling and pushing

    def result(self, key: str) -> Result | None:
        """Give what the recipe ``key`` gave, as ``Backend`` says."""
        answer = self._get(f"manifests/{key}", MANIFEST)
        if answer is None:
            return None
        with answer:
            return decode(self._transport.body(answer, ENTRY_LIMIT))

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob to ``out``, as ``Backend`` says."""
        answer = self._get(f"blobs/{descriptor.digest}", "*/*")
        if answer is None:
            raise MissingError(f"has no blob {descriptor.digest}", where=self.name)
        with answer:
            take(self._transport, answer, out)

    def has(self, blob: Descriptor) -> bool:
        """Whether the blob is there, or in the place that the registry sends us to for it."""
        answer = self._send("HEAD", urljoin(self._place.base, f"blobs/{blob.digest}"))
        drop(answer)
        return 200 <= answer.status_code < 400

    def put(self, blob: Descriptor, file: BinaryIO) -> None:
        """Send a blob, as ``Backend`` says: begin an upload, then send all of it at once."""
        begun = self._send("POST", urljoin(self._place.base, "blobs/uploads/"), b"")
        drop(begun)
        target = begun.headers.get("Location")
        if begun.status_code != 202 or not target:
            raise self._refused(begun, "the beginning of an upload")
        url = self._transport.allowed(target, begun.url)
        joint = "&" if "?" in url else "?"
        sent = self._send("PUT", f"{url}{joint}digest={blob.digest}", file if blob.size else b"")
        drop(sent)
        if sent.status_code != 201:
            raise self._refused(sent, "a blob")

    def put_result(self, key: str, result: Result) -> None:
        """Send a result, as ``Backend`` says, and the empty configuration that artefacts have."""
        if not self.has(_EMPTY):
            self.put(_EMPTY, io.BytesIO(EMPTY_DATA))
        url = urljoin(self._place.base, f"manifests/{key}")
        answer = self._send("PUT", url, encode(result), MANIFEST)
        drop(answer)
        if answer.status_code != 201:
            raise self._refused(answer, "a result")

    def _get(self, path: str, accept: str) -> requests.Response | None:
        answer = self._place.ask(path, accept)
        if answer.status_code == 200:
            return answer
        drop(answer)
        if answer.status_code == 404:
            return None
        raise self._place.failure(answer, path)

    def _send(
        self, method: str, url: str, body: bytes | BinaryIO | None = None, media_type: str = OCTET_STREAM
    ) -> requests.Response:
        """Ask once, or again with a login where the registry wants one.

        Twice, as another thread's login may be for pulling alone.
        """
        header = self._sender.header()
        for _ in range(_LOGINS):
            answer = self._once(method, url, body, media_type, header)
            if answer.status_code != 401 or origin(url) != origin(self._place.base):
                return answer
            drop(answer)
            header = self._sender.renew(header, answer.headers.get("WWW-Authenticate", ""))
        return self._once(method, url, body, media_type, header)

    def _once(
        self, method: str, url: str, body: bytes | BinaryIO | None, media_type: str, authorization: str
    ) -> requests.Response:
        headers = {} if body is None else {"Content-Type": media_type}
        if authorization and origin(url) == origin(self._place.base):
            headers["Authorization"] = authorization
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        return self._transport.send(method, url, headers, body=body)

    def _refused(self, answer: requests.Response, what: str) -> NetworkError:
        return RefusedError(f"answers {what} with status {answer.status_code}", where=self.name)


_EMPTY = Descriptor(EMPTY, Digest.of(EMPTY_DATA), len(EMPTY_DATA))


def encode(result: Result) -> bytes:
    """Give the manifest, the same bytes each time."""
    layers = [
        {**blob.to_json(), "mediaType": OCTET_STREAM, "annotations": {MEDIA_TYPE: blob.media_type}}
        for blob in result.blobs
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ENTRY,
        "config": _EMPTY.to_json(),
        "layers": layers,
    }
    return canonical_json(manifest)


def decode(data: bytes) -> Result:
    """Read a manifest; raise FormatError where it is none, or none of a result."""
    try:
        value: Any = json.loads(data)
        if value["artifactType"] != ENTRY:
            raise FormatError("is a manifest of something else than a result")
        output, *refers = (_blob(item) for item in value["layers"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FormatError("is no manifest of a result") from None
    return Result(output, tuple(refers))


def _blob(layer: dict[str, Any]) -> Descriptor:
    return checked(Descriptor.from_json({**layer, "mediaType": layer["annotations"][MEDIA_TYPE]}))
