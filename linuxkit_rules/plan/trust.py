"""From what ``trust:`` and the site's policy say to what each reference must fulfil."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from linuxkit_rules.errors import ErrorList, FormatError, LinuxKitError, SpecError, one_line
from linuxkit_rules.oci.pattern import Pattern, repository_name
from linuxkit_rules.oci.publickey import PublicKey, parse_key
from linuxkit_rules.oci.reference import DEFAULT_DOMAIN, Reference
from linuxkit_rules.oci.verify import Requirement
from linuxkit_rules.plan.memo import Evidence
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.spec.trust import Policy, Trust, load_trust
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """What one pattern asks for; ``where`` is its place."""

    pattern: Pattern
    type: Literal["signed", "accept", "reject"]
    keys: tuple[PublicKey, ...]
    threshold: int
    identity: Literal["repository", "any"]
    where: str

    def requirement(self, reference: Reference) -> Requirement:
        """Give what ``reference`` must fulfil."""
        repository = repository_name(reference) if self.identity == "repository" else ""
        return Requirement(self.keys, self.threshold, repository)


class Document:
    """One policy; it stands alone: what another allows does not count here."""

    def __init__(self, rules: Sequence[Rule], trust: Trust) -> None:
        self._rules = rules
        self._default = trust.default
        self._where = trust.where
        self._used: set[Rule] = set()

    def requirements(self, reference: Reference) -> Iterator[Requirement]:
        """Give what ``reference`` must fulfil; raise SpecError where it is refused."""
        found = [rule for rule in self._rules if rule.pattern.matches(reference)]
        self._used.update(found)
        for rule in found:
            if rule.type == "reject":
                raise SpecError(f"{reference} is refused", hint=f"{rule.pattern} at {rule.where}")
            if rule.type == "signed":
                yield rule.requirement(reference)
        if not found and self._default == "reject":
            hint = f"the policy at {self._where} has default: reject"
            raise SpecError(f"{reference} is named by no entry of the policy", hint=hint)

    def warnings(self) -> Iterator[str]:
        """Tell the patterns that have matched nothing."""
        for rule in self._rules:
            if rule not in self._used:
                yield f"{rule.where}: trust: no image here is {rule.pattern}"


class Policies:
    """The policies that count: what a YAML says, and what the site says; a reference must fulfil both."""

    def __init__(self, own: Document, site: Document | None) -> None:
        self._own = own
        self._documents = (own, site) if site else (own,)

    def requirements(self, reference: Reference) -> tuple[Requirement, ...]:
        """Give what ``reference`` must fulfil; raise SpecError where it is refused."""
        found = (item for document in self._documents for item in document.requirements(reference))
        return tuple(dict.fromkeys(found))

    def warnings(self) -> tuple[str, ...]:
        """Give what the user is to be told of the YAML once all references are known."""
        return tuple(self._own.warnings())


Keys = tuple[PublicKey | None, ...]
"""Keys as they are named; None for one that could not be read."""

_KEYLESS = (
    "keys: [cosign.pub] names them; moby build --ignore-trust, or LINUXKIT_IGNORE_TRUST=1, builds a YAML that"
    " names none"
)


class Reader:
    """Reads the keys of policies, each file once, notes them in ``evidence``, and gathers ``faults``."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._keys: dict[Path, PublicKey | None] = {}
        self.faults: list[LinuxKitError] = []

    def document(self, trust: Trust) -> Document:
        """Give the policy that a section or file says."""
        own = self._all(trust.keys, trust.key_bases, trust)
        rules = [*self._old(trust, own)]
        for policy in trust.policy:
            rules += self._rules(policy, own)
        if trust.keys and not (trust.org or trust.image or trust.policy):
            hint = "policy: [{images: ['**']}] names all"
            self._fault(trust.where, "keys are named, but no images that they sign", hint)
        return Document(rules, trust)

    def _all(self, texts: Sequence[str], bases: Sequence[str], part: Trust | Policy) -> Keys:
        """Read the ``keys`` of a part of the document."""
        return tuple(
            self._key(text, base, part.place(f"keys[{index}]"))
            for index, (text, base) in enumerate(zip(texts, bases, strict=True))
        )

    def _old(self, trust: Trust, keys: Keys) -> Iterator[Rule]:
        """Give the rules of ``org`` and ``image``."""
        if trust.keyless:
            message = f"{_names(trust)} must be signed, but no keys are named"
            self._fault(trust.where, message, _KEYLESS)
            return
        for kind, texts in (("org", trust.org), ("image", trust.image)):
            for index, text in enumerate(texts):
                where = trust.place(f"{kind}[{index}]")
                pattern = self._pattern(text, where, kind)
                if pattern:
                    yield Rule(pattern, "signed", _known(keys), 1, "repository", where)

    def _rules(self, policy: Policy, section: Keys) -> Iterator[Rule]:
        keys = self._all(policy.keys, (policy.base,) * len(policy.keys), policy) or section
        self._check(policy, keys)
        signers = _known(keys) if policy.type == "signed" else ()
        for index, text in enumerate(policy.images):
            where = policy.place(f"images[{index}]")
            pattern = self._pattern(text, where, "policy")
            if pattern:
                yield Rule(pattern, policy.type, signers, policy.threshold, policy.identity, where)

    def _check(self, policy: Policy, keys: Keys) -> None:
        """Note what the values of a policy say about each other."""
        number = len(_known(keys))
        if not policy.images:
            self._fault(policy.place("images"), "no images are named")
        if policy.type != "signed":
            if policy.keys:
                self._fault(policy.place("keys"), f"keys have no meaning with type: {policy.type}")
        elif not keys:
            self._fault(policy.where, "no keys are named", "keys: [cosign.pub] names one")
        elif policy.threshold > number and None not in keys:
            message = f"{policy.threshold} keys must have signed, and {number} are named"
            self._fault(policy.place("threshold"), message)

    def _pattern(self, text: str, where: str, kind: str) -> Pattern | None:
        try:
            if kind == "org":
                return Pattern.parse(f"{_organisation(text)}/**")
            if kind == "image":
                reference = Reference.parse(text)
                return Pattern.of(reference, any_tag=":" not in text.rpartition("/")[2].partition("@")[0])
            return Pattern.parse(text)
        except SpecError as error:
            self._fault(where, error.message, error.hint)
            return None

    def _key(self, text: str, base: str, where: str) -> PublicKey | None:
        path = Path(base) / text
        if path not in self._keys:
            self._keys[path] = self._read(path, text, where)
        return self._keys[path]

    def _read(self, path: Path, text: str, where: str) -> PublicKey | None:
        """Read a key's file; None, noting why, where that cannot be done."""
        try:
            if path.is_file():
                return parse_key(self._evidence.file(path).read_bytes(), one_line(text))
            self._fault(where, f"there is no key file {text!r}")
        except OSError as error:
            self._fault(where, f"the key file {text!r} cannot be read: {error.strerror}")
        except FormatError as error:
            self._fault(where, f"the key file {text!r} {error.message}", error.hint)
        return None

    def _fault(self, where: str, message: str, hint: str | None = None) -> None:
        self.faults.append(SpecError(f"trust: {one_line(message)}", where=where, hint=hint))


def policies(trust: Trust, site: Path | None, evidence: Evidence) -> Policies:
    """Give what a YAML's ``trust`` and the ``site``'s file ask for.

    That file and those of keys are noted in ``evidence``.  Raises SpecError or ErrorList with all faults.
    """
    reader = Reader(evidence)
    own = reader.document(trust)
    found = Policies(own, reader.document(_site(site, evidence)) if site else None)
    if reader.faults:
        raise reader.faults[0] if len(reader.faults) == 1 else ErrorList(reader.faults)
    return found


def policies_of(trust: Trust, settings: Settings, evidence: Evidence) -> tuple[Policies, tuple[str, ...]]:
    """Give what a YAML's ``trust`` and the settings ask for, and warnings; raise as ``policies`` does."""
    warnings: tuple[str, ...] = ()
    if settings.ignore_trust:
        trust, warnings = without_keyless(trust)
    return policies(trust, settings.trust_policy, evidence), warnings


def _site(path: Path, evidence: Evidence) -> Trust:
    if not path.is_file():
        raise SpecError("there is no trust policy", where=str(path))
    return load_trust(evidence.file(path), str(path))


def without_keyless(trust: Trust) -> tuple[Trust, tuple[str, ...]]:
    """Give ``trust`` without what it asks for and names no keys of, as all YAMLs of 2017; and warnings."""
    if not trust.keyless:
        return trust, ()
    warning = f"{trust.where}: trust: the signatures of {_names(trust)} are not checked"
    return replace(trust, org=(), image=()), (warning,)


def _names(trust: Trust) -> str:
    return ", ".join((*trust.org, *trust.image))


def _known(keys: Keys) -> tuple[PublicKey, ...]:
    """Give the keys that could be read, each once."""
    return tuple(dict.fromkeys(key for key in keys if key is not None))


def _organisation(text: str) -> str:
    """Give the full name of an organisation: Docker Hub's, where no registry is named."""
    domain = text.partition("/")[0]
    return text if "." in domain or ":" in domain else f"{DEFAULT_DOMAIN}/{text}"
