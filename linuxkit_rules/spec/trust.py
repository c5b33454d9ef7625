"""Whose images must be signed, by which keys: the section ``trust`` of a YAML, or a file of the same form.

``org`` and ``image`` are LinuxKit's of 2017; ``policy`` says the same of any images.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import Decoder, NotedError, hidden, key
from linuxkit_rules.spec.yamlfile import Node, parse


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of some images; ``base`` is the folder from which the paths of ``keys`` count."""

    images: tuple[str, ...] = key(
        check=checks.image,
        doc="Full names of the images, with a tag or for all tags; * stands for a part of a name between"
        " slashes, ** for any part.",
    )
    keys: tuple[str, ...] = key(
        (), doc="Files with public keys that sign these images. Default: the keys of the section."
    )
    threshold: int = key(1, check=checks.threshold, doc="How many of the keys must have signed. Default: 1.")
    identity: Literal["repository", "any"] = key(
        "repository",
        doc="repository: a signature must name the image's repository; any: it need not, as cosign 3's does"
        " not. Default: repository.",
    )
    type: Literal["signed", "accept", "reject"] = key(
        "signed",
        doc="signed: the images must be signed; accept: nothing is asked by this entry; reject: they are"
        " refused. Default: signed.",
    )
    where: str = hidden("")
    base: str = hidden("")
    places: tuple[tuple[str, str], ...] = hidden(())

    def place(self, path: str) -> str:
        """Give ``file:line:column`` of ``path`` in this entry, or of the entry."""
        return dict(self.places).get(path, self.where)


def _policies(decoder: Decoder, node: Node, path: str) -> tuple[Policy, ...]:
    return tuple(decoder.each(node, path, lambda item, below: _policy(decoder, item, below)))


def _policy(decoder: Decoder, node: Node, path: str) -> Policy:
    policy = decoder.record(Policy, node, path, where=node.where, base=decoder.base)
    return dataclasses.replace(policy, places=_places(decoder, path))


def _places(decoder: Decoder, path: str) -> tuple[tuple[str, str], ...]:
    """Give the places below ``path``, by what follows it."""
    before = f"{path}." if path else ""
    return tuple(
        (name.removeprefix(before), where)
        for name, where in decoder.places.items()
        if name != path and name.startswith(before)
    )


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose images must be signed.

    ``key_bases`` are the folders from which the paths of ``keys`` count; ``places`` pairs paths in the
    section (``keys[1]``) with their ``file:line:column``, as it does in a policy.
    """

    org: tuple[str, ...] = key((), doc="Organisations all of whose images must be signed by one of the keys.")
    image: tuple[str, ...] = key((), doc="Images that must be signed by one of the keys.")
    keys: tuple[str, ...] = key(
        (), doc="Files with public keys in PEM, as cosign.pub, for org, image and policies without their own."
    )
    policy: tuple[Policy, ...] = key(
        (),
        read=_policies,
        doc="Which images must be signed by which keys. An image must satisfy all that name it.",
    )
    default: Literal["accept", "reject"] = key(
        "accept", doc="What becomes of references that nothing here names. Default: accept."
    )
    where: str = hidden("")
    key_bases: tuple[str, ...] = hidden(())
    places: tuple[tuple[str, str], ...] = hidden(())

    def place(self, path: str) -> str:
        """Give ``file:line:column`` of ``path`` in the section, or of the section."""
        return dict(self.places).get(path, self.where)

    def joined(self, other: Trust) -> Trust:
        """Give the section that asks for all that the two ask for."""
        if other == Trust():
            return self
        lengths = {name: len(getattr(self, name)) for name in ("org", "image", "keys")}
        moved = tuple((_moved(path, lengths), where) for path, where in other.places)
        return Trust(
            org=self.org + other.org,
            image=self.image + other.image,
            keys=self.keys + other.keys,
            policy=self.policy + other.policy,
            default="reject" if "reject" in (self.default, other.default) else "accept",
            where=other.where if self == Trust() else self.where,
            key_bases=self.key_bases + other.key_bases,
            places=self.places + moved,
        )


def _moved(path: str, lengths: dict[str, int]) -> str:
    """Give the path ``keys[1]`` as it is after as many keys as ``lengths`` says."""
    name, bracket, index = path.rstrip("]").partition("[")
    return f"{name}[{int(index) + lengths[name]}]" if bracket and name in lengths else path


def read_trust(decoder: Decoder, node: Node, path: str) -> Trust:
    """Read ``trust``, or a document that is one."""
    trust = decoder.record(Trust, node, path, where=node.where)
    bases = (decoder.base,) * len(trust.keys)
    return dataclasses.replace(trust, key_bases=bases, places=_places(decoder, path))


def load_trust(path: Path, name: str) -> Trust:
    """Read the policy file ``path``, shown as ``name``; raise SpecError or ErrorList.

    Relative paths in it count from its folder.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"the trust policy cannot be read: {error.strerror}", where=name) from None
    node, decoder = parse(data, name), Decoder(str(path.parent))
    trust: Trust | None = None
    with contextlib.suppress(NotedError):
        trust = read_trust(decoder, node, "")
    decoder.finish()
    if trust is None:
        raise SpecError("cannot be read", where=name)
    return trust
