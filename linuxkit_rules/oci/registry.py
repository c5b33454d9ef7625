"""A registry's repository, read over HTTP: from its mirrors first, then from the registry itself.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md ("Pull", "Listing Referrers"); Docker
schema 2 manifests: https://github.com/distribution/distribution/blob/v2.8.3/docs/spec/manifest-v2-2.md
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import TypeVar
from urllib.parse import quote

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError, LinuxKitError, NetworkError
from linuxkit_rules.formats.streams import SupportsWrite
from linuxkit_rules.oci.auth import Login, Tokens
from linuxkit_rules.oci.credentials import Anonymous, Credentials
from linuxkit_rules.oci.download import Download
from linuxkit_rules.oci.manifest import CONFIGS, INDEX, INDEXES, MANIFESTS, Index, Member, parse
from linuxkit_rules.oci.mirrors import Mirror, mirrors_of
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.place import Place
from linuxkit_rules.oci.progress import Progress, Silent
from linuxkit_rules.oci.reference import DEFAULT_DOMAIN, Reference
from linuxkit_rules.oci.transport import Transport
from linuxkit_rules.values import dataclass

T = TypeVar("T")

_DEFAULT_ADDRESS = "https://registry-1.docker.io"
_PAGES = 100


@dataclass(frozen=True, slots=True)
class Clients:
    """What registries share while a program runs: connections, tokens, and mirrors that are of no use."""

    transport: Transport
    tokens: Tokens
    left_out: set[str] = field(default_factory=set)
    guard: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def on(cls, network: Network) -> Clients:
        """Give fresh ones."""
        return cls(Transport(network), Tokens(network.clock))


class Registry:
    """One repository of a registry, as an origin of blobs.

    ``mirrors`` are those of all registries; ``endpoints`` gives the address of registries that do not answer
    under their own name.  A mirror that cannot be reached is left out for as long as ``clients`` lives, one
    that has nothing or something wrong for this repository only; each is told to ``progress`` once.
    """

    def __init__(
        self,
        reference: Reference,
        clients: Clients | None = None,
        *,
        mirrors: Iterable[Mirror] = (),
        endpoints: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.name = reference.repository
        self._reference = reference
        self._clients = clients or Clients.on(Network())
        self._credentials = credentials or Anonymous()
        self._progress = progress or Silent()
        self._endpoints = endpoints or {}
        address = self._endpoints.get(reference.domain) or address_of(
            reference.domain, self._clients.transport.network
        )
        self._home = self._place(address, reference.domain)
        self.base = self._home.base
        self._mirrors = tuple(
            self._place(item.url, item.domain, item.url) for item in mirrors_of(reference.domain, mirrors)
        )
        self._kept: tuple[Descriptor, bytes] | None = None
        self._gave: dict[Digest, Place] = {}
        self._doubted: set[Digest] = set()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept = None

    def resolve(self) -> Descriptor:
        """Give the manifest or index that the reference means; what a tag means, a mirror may say.

        Raises ImageError where there is none or it is not the one asked for, NetworkError where the registry
        does not answer.
        """
        self._kept = self._anywhere(self._resolved)
        return self._kept[0]

    def manifest(self, name: str) -> tuple[Descriptor, bytes] | None:
        """Give a manifest of the repository by tag or digest, verified where it is a digest.

        None where the registry says that there is none.  Raises as ``resolve`` does.
        """
        return self._anywhere(lambda place: place.manifest(name))

    def referrers(self, subject: Digest, artifact_type: str = "") -> tuple[Member, ...]:
        """Give what refers to a manifest, such as signatures; with ``artifact_type``, those of this type.

        Where the registry has no such interface, the index of the tag ``sha256-<hex>`` says it.  A mirror's
        word counts where it knows some, for it may not have them all.  Raises as ``resolve`` does.
        """
        found = self._anywhere(lambda place: self._referrers(place, subject, artifact_type) or None) or ()
        return tuple(item for item in found if artifact_type in ("", item.artifact_type))

    def views(self) -> Iterator[Registry]:
        """Give this repository, and where it has mirrors, then the registry alone.

        A tag at a mirror may be older than at the registry, and its list of referrers shorter.
        """
        yield self
        if self._mirrors:
            yield Registry(
                self._reference,
                self._clients,
                endpoints=self._endpoints,
                credentials=self._credentials,
                progress=self._progress,
            )

    def copy(self, descriptor: Descriptor, out: SupportsWrite) -> None:
        """Write a blob or manifest to ``out``, unverified; raise ImageError or NetworkError.

        What has come stays where a place breaks off, and the next one goes on from there.
        """
        if descriptor.media_type in INDEXES + MANIFESTS:
            out.write(self._manifest(descriptor))
            return
        watching = Silent() if descriptor.media_type in CONFIGS else self._progress
        with watching.blob(f"{self.name} {descriptor.digest.hex[:12]}", descriptor.size) as advance:
            download = Download(descriptor, out, advance)

            def fetch(place: Place) -> bool:
                self._gave[descriptor.digest] = place
                download.fetch(place)
                return True

            self._anywhere(fetch)

    def doubt(self, descriptor: Descriptor) -> bool:
        """Hear that a blob had the wrong content; say whether it is worth while to fetch it again.

        A mirror that gave it is left out; the registry itself is asked once more.
        """
        place = self._gave.get(descriptor.digest, self._home)
        if place.mirror:
            self._leave_out(place, ImageError(f"{descriptor.digest} has the wrong content"))
            return True
        first = descriptor.digest not in self._doubted
        self._doubted.add(descriptor.digest)
        return first

    def _anywhere(self, ask: Callable[[Place], T]) -> T:
        """Ask the mirrors in their order, and last the registry, until one gives something.

        A mirror that fails is left out from then on.
        """
        for place in self._mirrors:
            if not self._clients.left_out.isdisjoint((place.mirror, place.base)):
                continue
            try:
                found = ask(place)
            except (NetworkError, ImageError) as error:
                self._leave_out(place, error)
                continue
            if found is not None:
                return found
        return ask(self._home)

    def _leave_out(self, place: Place, error: LinuxKitError) -> None:
        """Ask a mirror no more: for nothing where it does not answer, else for this repository."""
        what = place.mirror if isinstance(error, NetworkError) else place.base
        with self._clients.guard:
            known = what in self._clients.left_out
            self._clients.left_out.add(what)
        if not known:
            self._progress.warn(f"{self.name}: the mirror {place.mirror} is left out: {error.message}")

    def _resolved(self, place: Place) -> tuple[Descriptor, bytes]:
        path = str(self._reference.digest or self._reference.tag)
        found = place.manifest(path)
        if found is None:
            raise ImageError(f"the registry has no such image: manifests/{path}", where=str(self._reference))
        return found

    def _manifest(self, descriptor: Descriptor) -> bytes:
        """Give a manifest that is known by its descriptor."""
        if self._kept and descriptor == self._kept[0]:
            return self._kept[1]

        def ask(place: Place) -> bytes:
            found = place.manifest(str(descriptor.digest), descriptor.media_type)
            if found is None:
                message = f"the registry has no such image: manifests/{descriptor.digest}"
                raise ImageError(message, where=str(self._reference))
            return found[1]

        return self._anywhere(ask)

    def _referrers(self, place: Place, subject: Digest, artifact_type: str) -> tuple[Member, ...]:
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        path = f"referrers/{subject}{query}"
        members: list[Member] = []
        for _ in range(_PAGES):
            found = place.document(path, INDEX)
            if found is None:
                break
            members += self._members(found[1])
            following = place.next_page(found[0])
            if following is None:
                return tuple(members)
            path = following
        if members:
            raise NetworkError(f"the list of referrers to {subject} does not end", where=self.name)
        tagged = place.manifest(str(subject).replace(":", "-"))
        return self._members(tagged[1]) if tagged else ()

    def _members(self, data: bytes) -> tuple[Member, ...]:
        index = parse(data, None, f"{self.name}: referrers")
        if not isinstance(index, Index):
            raise ImageError("the list of referrers is no index", where=self.name)
        return index.members

    def _place(self, address: str, domain: str, mirror: str = "") -> Place:
        base = f"{address.rstrip('/')}/v2/{self._reference.path}/"
        login = Login(
            base=base,
            domain=domain,
            path=self._reference.path,
            where=str(self._reference),
            transport=self._clients.transport,
            tokens=self._clients.tokens,
            credentials=self._credentials,
        )
        return Place(base, str(self._reference), self._clients.transport, login, mirror)


def address_of(domain: str, network: Network) -> str:
    """Give the URL under which a registry answers, without a slash at the end."""
    if domain == DEFAULT_DOMAIN:
        return _DEFAULT_ADDRESS
    return f"{'http' if network.may_be_plain(domain) else 'https'}://{domain}"
