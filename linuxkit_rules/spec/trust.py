"""Whose images must be signed, by which keys: the section ``trust`` of a YAML, or a file of the same form.

``org`` and ``image`` are LinuxKit's of 2017; ``policy`` says the same of any images.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Literal

from linuxkit_rules.errors import SpecError
from linuxkit_rules.spec import checks
from linuxkit_rules.spec.decode import Decoder, NotedError, hidden, key
from linuxkit_rules.spec.yamlfile import Node, parse
from linuxkit_rules.values import dataclass


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
        """Give the section that asks for all that the two ask for.

        The keys of each sign what it names itself, and nothing of the other's: they become those of policies.
        """
        if Trust() in (self, other):
            return self if other == Trust() else other
        first, second = self._with_own_keys(), other._with_own_keys()
        lengths = {name: len(getattr(first, name)) for name in ("org", "image")}
        moved = tuple((_moved(path, lengths), where) for path, where in second.places)
        return Trust(
            org=first.org + second.org,
            image=first.image + second.image,
            policy=first.policy + second.policy,
            default="reject" if "reject" in (first.default, second.default) else "accept",
            where=second.where if second.keyless and not first.keyless else first.where,
            places=first.places + moved,
        )

    @property
    def keyless(self) -> bool:
        """Whether images must be signed, and no keys are named."""
        return bool(self.org or self.image) and not self.keys

    def _with_own_keys(self) -> Trust:
        """Give the same section without keys of its own: each of its policies names them.

        What names no keys stays as it is, to be refused.
        """
        if not self.keys:
            return self
        policies = tuple(self._keyed(policy) for policy in self.policy)
        if self.org or self.image or not self.policy:
            policies = (self._of_2017(), *policies)
        return dataclasses.replace(self, org=(), image=(), keys=(), key_bases=(), policy=policies, places=())

    def _of_2017(self) -> Policy:
        """Give ``org`` and ``image`` as a policy; it names no images, a fault, where the section does not."""
        images = tuple(f"{full_name(text, organisation=True)}/**" for text in self.org)
        images += tuple(map(full_name, self.image))
        paths = [f"{name}[{index}]" for name in ("org", "image") for index in range(len(getattr(self, name)))]
        places = tuple((f"images[{index}]", self.place(path)) for index, path in enumerate(paths))
        return self._keyed(Policy(images, where=self.where, places=places))

    def _keyed(self, policy: Policy) -> Policy:
        """Give a policy with the section's keys, where it has none and needs some."""
        if policy.keys or policy.type != "signed":
            return policy
        places = ((f"keys[{index}]", self.place(f"keys[{index}]")) for index in range(len(self.keys)))
        return dataclasses.replace(
            policy, keys=self.keys, base=self.key_bases[0], places=(*policy.places, *places)
        )


def full_name(text: str, *, organisation: bool = False) -> str:
    """Give an image's name in full, as policies have it, with its tag; or an organisation's.

    The defaults are those of references (``oci/reference.py``), which say no more of a digest than this.
    """
    name = text.partition("@")[0]
    head, slash, tail = name.partition("/")
    if organisation:
        return name if "." in head or ":" in head else f"docker.io/{name}"
    if not slash or not ("." in head or ":" in head or head == "localhost" or head.lower() != head):
        head, tail = "docker.io", name
    short = head in ("docker.io", "index.docker.io") and "/" not in tail
    return f"{head}/{'library/' if short else ''}{tail}"


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
