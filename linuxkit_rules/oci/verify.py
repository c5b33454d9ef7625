"""Whether an image is signed as it must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError, SignatureError, SpecError, one_line
from linuxkit_rules.oci.pattern import repository_name
from linuxkit_rules.oci.publickey import PublicKey
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.oci.signature import (
    LIMIT,
    Artefact,
    Claim,
    Place,
    Signature,
    artefacts,
    layers,
    read_payload,
    signature,
)
from linuxkit_rules.values import dataclass

_TOLD = 3
"""How many faults of signatures one message tells."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """Who must have signed an image: ``threshold`` of ``keys``.

    ``repository`` is the one that the signatures must be for, as ``repository_name`` gives it; ``""`` takes
    those for any, and those that do not say.
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1
    repository: str = ""

    def __str__(self) -> str:
        names = ", ".join(key.name for key in self.keys)
        if len(self.keys) == 1:
            return names
        return f"{'any' if self.threshold == 1 else self.threshold} of {names}"


Proof = tuple[Descriptor, bytes]
"""A blob that a signature is made of."""


def verify(place: Place, image: Digest, requirement: Requirement) -> tuple[Proof, ...]:
    """Give what proves that ``image`` is signed as ``requirement`` says.

    Of the signatures that there are, bad ones neither help nor hurt.  Raises SignatureError where the good
    ones do not suffice, NetworkError or ImageError where the place cannot be asked.
    """
    search = _Search(image, requirement)
    for artefact in artefacts(place, image):
        search.look_at(artefact)
        if len(search.signers) >= requirement.threshold:
            return tuple(dict.fromkeys(item for found in search.signers.values() for item in found))
    raise search.error()


class _Search:
    """Goes through signatures and keeps the good ones, by key, and what is wrong with the others."""

    def __init__(self, image: Digest, requirement: Requirement) -> None:
        self._image = image
        self._requirement = requirement
        self._payloads: dict[Digest, bytes] = {}
        self._seen: Counter[Place] = Counter()
        self._foreign = 0
        self._keyless = 0
        self._faults: list[str] = []
        self.signers: dict[PublicKey, tuple[Proof, ...]] = {}

    def look_at(self, artefact: Artefact) -> None:
        """Look at the signatures in an artefact."""
        with_layers = (artefact.descriptor, artefact.data)
        try:
            found = list(layers(artefact))
        except ImageError as error:
            self._fault(artefact, error)
            return
        for layer, texts in found:
            if len(self.signers) >= self._requirement.threshold:
                return
            try:
                self._count(artefact.place)
                payload = self._payload(artefact.place, layer)
                for key in self._good(signature(layer, texts, payload)):
                    self.signers.setdefault(key, (with_layers, (layer, payload)))
            except ImageError as error:
                self._fault(artefact, error)

    def error(self) -> SignatureError:
        """Give the error that tells what was found instead."""
        left = len(self.signers)
        told = "; ".join([*self._counts(), *self._faults[:_TOLD]])
        if len(self._faults) > _TOLD:
            told += f"; and {len(self._faults) - _TOLD} faults more"
        what = f"only {left} of its signatures count: " if left else ""
        message = (
            f"{self._image} is not signed by {self._requirement}: {what}{told or 'it has no signatures'}"
        )
        return SignatureError(message, hint=None if told or left else "cosign sign --key KEY makes one")

    def _counts(self) -> Iterator[str]:
        for number, what in ((self._foreign, "by another key"), (self._keyless, "keyless, by a certificate")):
            if number:
                yield f"{number} {'signature is' if number == 1 else 'signatures are'} {what}"

    def _count(self, place: Place) -> None:
        self._seen[place] += 1
        if self._seen[place] > LIMIT:
            raise ImageError(f"there are more than {LIMIT} signatures, which are not read")

    def _fault(self, artefact: Artefact, error: ImageError) -> None:
        self._faults.append(f"{artefact.name}: {error.message}")

    def _payload(self, place: Place, layer: Descriptor) -> bytes:
        """Give a payload, which many signatures may share."""
        if layer.digest not in self._payloads:
            self._payloads[layer.digest] = read_payload(place, layer)
        return self._payloads[layer.digest]

    def _good(self, found: Signature) -> list[PublicKey]:
        """Give the keys by which a signature is, if it is for the image; raise ImageError if it is not."""
        keys = [
            key
            for key in self._requirement.keys
            if any(key.verifies(value, found.message) for value in found.signatures)
        ]
        if keys:
            self._check(found.claim(), keys[0])
        elif found.keyless:
            self._keyless += 1
        else:
            self._foreign += 1
        return keys

    def _check(self, claim: Claim, key: PublicKey) -> None:
        """Raise ImageError where a signature that is genuine is for something else."""
        if str(self._image) not in claim.digests:
            raise ImageError(f"the signature by {key.name} is for another image")
        wanted = self._requirement.repository
        if not wanted:
            return
        if claim.identity is None:
            raise ImageError(f"the signature by {key.name} names no repository (identity: any takes it)")
        if _repository(claim.identity) != wanted:
            said = one_line(claim.identity)
            raise ImageError(f"the signature by {key.name} is for {said} (identity: any takes it)")


def _repository(identity: str) -> str:
    try:
        return repository_name(Reference.parse(identity))
    except SpecError:
        return ""
