"""Stage ``verify-signature``: that an image is signed as it must be, before anything of the image is used.

What proves it, the manifests and payloads of signatures, stays in the store beside the memory of the step: a
store that has seen an image signed asks nobody again.  The output is JSON: ``{"image": digest, "repository":
text, "threshold": number, "keys": [digest of a key's DER form …], "evidence": [descriptor …]}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import field
from typing import ClassVar

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import SignatureError
from linuxkit_rules.oci.signature import Place
from linuxkit_rules.oci.verify import Requirement, verify
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

VERIFIED = "application/vnd.linuxkit-rules.verified.v1+json"
"""Media type of the stage's output."""


def read_evidence(output: Descriptor, store: Store) -> tuple[Digest, tuple[Descriptor, ...]]:
    """Give the image that ``VerifySignature`` verified, and what proved it, all in the store."""
    value = json.loads(store.read(output.digest))
    return Digest.parse(value["image"]), tuple(Descriptor.from_json(item) for item in value["evidence"])


@dataclass(frozen=True)
class VerifySignature(Stage):
    """Verifies that the image or index ``digest`` is signed as ``requirement`` says.

    No inputs.  ``place`` opens the place where signatures are looked for; ``shown`` is what messages call the
    image.
    """

    name: ClassVar[str] = "verify-signature"
    version: ClassVar[int] = 1
    digest: Digest
    requirement: Requirement
    place: Callable[[], AbstractContextManager[Place]] = field(compare=False, repr=False)
    shown: str = field(default="image", compare=False)

    def label(self) -> str:
        """What is verified, and by which keys."""
        return f"{self.shown} {self.requirement}"

    def is_shared(self) -> bool:
        """No: signatures are verified here, not where the remote cache was filled."""
        return False

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Verify; raise SignatureError where the signatures do not suffice, or ImageError or NetworkError."""
        with self.place() as place:
            try:
                evidence = verify(place, self.digest, self.requirement)
            except SignatureError as error:
                error.where = self.shown
                raise
        kept = tuple(work.store.put(data, item.media_type) for item, data in evidence)
        value = {
            "image": str(self.digest),
            "repository": self.requirement.repository,
            "threshold": self.requirement.threshold,
            "keys": [str(Digest.of(key.der)) for key in self.requirement.keys],
            "evidence": [item.to_json() for item in kept],
        }
        return Result(work.store.put(canonical_json(value), VERIFIED), kept)
