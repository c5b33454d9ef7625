"""Accounts at registries, as Docker and podman keep them: config.json, auth.json, credential helpers.

https://docs.docker.com/reference/cli/docker/login/ ("Credential stores"); helper protocol:
https://github.com/docker/docker-credential-helpers; auth.json:
https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md

No message and no chain of exceptions holds a secret or a part of a file that has some.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol

from linuxkit_rules.errors import NetworkError, one_line
from linuxkit_rules.oci.reference import DEFAULT_DOMAIN, DEFAULT_DOMAINS, host_name
from linuxkit_rules.values import dataclass

HELPER_SECONDS = 60.0
"""How long a credential helper may take; one that asks its user has to be quick too."""

_DEFAULT_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = "credentials not found"
_IDENTITY_USER = "<token>"
_FILE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """An account: a user name and a password, or an identity token (a refresh token of OAuth 2)."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class Credentials(Protocol):
    """A source of accounts."""

    def find(self, domain: str, path: str) -> Credential | None:
        """Give the account for a repository of the registry ``domain`` (``host`` or ``host:port``)."""


class Anonymous:
    """No accounts at all."""

    def find(self, domain: str, path: str) -> Credential | None:
        """Give None."""
        return None


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """Accounts of the first of ``files`` that knows the registry; they are read when one is asked for.

    ``environment`` is that of credential helpers, ``docker-credential-NAME`` on its PATH; each is asked once
    for a registry.
    """

    files: tuple[Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float = HELPER_SECONDS
    _answers: dict[tuple[str, str], Credential | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def find(self, domain: str, path: str) -> Credential | None:
        """Give the account; raise NetworkError for a malformed file, or a helper that does not work.

        In a file ``credHelpers`` go before ``credsStore`` and that before ``auths``, where the longest name
        wins: ``host/team/app``, ``host/team``, ``host``.
        """
        names = DEFAULT_DOMAINS if host_name(domain) == DEFAULT_DOMAIN else (domain,)
        for file in self.files:
            value = _read(file)
            found = self._helped(value, names, file) or _written(value, names, path, file)
            if found:
                return found
        return None

    def _helped(self, value: dict[str, Any], names: tuple[str, ...], file: Path) -> Credential | None:
        """Ask the helper that is named for the registry, or the one for all."""
        helpers = _object(value, "credHelpers", file)
        key = _DEFAULT_KEY if names == DEFAULT_DOMAINS else names[0]
        name = next((helpers[item] for item in (key, *names) if item in helpers), value.get("credsStore"))
        if name in (None, ""):
            return None
        if not isinstance(name, str) or not _HELPER.fullmatch(name):
            raise NetworkError("a credential helper's name is malformed", where=str(file))
        with self._lock:
            if (name, key) not in self._answers:
                self._answers[name, key] = self._ask(f"docker-credential-{name}", key)
            return self._answers[name, key]

    def _ask(self, helper: str, key: str) -> Credential | None:
        """Run ``helper get``; raise NetworkError, named by the helper, where it fails."""
        fault = ""
        try:
            result = subprocess.run(
                [helper, "get"],
                input=key.encode(),
                capture_output=True,
                timeout=self.seconds,
                env=dict(self.environment),
            )
        except OSError as error:
            fault = f"cannot be started: {error.strerror}"
        except subprocess.TimeoutExpired:
            fault = f"gives no answer within {self.seconds:g} seconds"
        if fault:
            hint = "install it, or take it out of Docker's config.json"
            raise NetworkError(f"the credential helper for {key} {fault}", where=helper, hint=hint)
        if result.returncode:
            said = result.stdout.decode(errors="replace") + result.stderr.decode(errors="replace")
            if _NOT_FOUND in said:
                return None
            reason = "" if "{" in said else f": {one_line(said.strip())}"
            message = f"the credential helper for {key} failed with status {result.returncode}{reason}"
            raise NetworkError(message, where=helper)
        return _answer(result.stdout, helper)


def _answer(data: bytes, helper: str) -> Credential:
    """Read what a helper printed."""
    value = _json(data)
    user, secret = (value.get(name) if isinstance(value, dict) else None for name in ("Username", "Secret"))
    if not isinstance(user, str) or not isinstance(secret, str):
        raise NetworkError("the credential helper answers no Username and Secret", where=helper)
    return Credential(identity_token=secret) if user == _IDENTITY_USER else Credential(user, secret)


def _written(value: dict[str, Any], names: tuple[str, ...], path: str, file: Path) -> Credential | None:
    """Find the account in ``auths``."""
    entries = _object(value, "auths", file)
    by_name: dict[str, Any] = {}
    for key, entry in entries.items():
        by_name.setdefault(_normal(key), entry)
    by_name |= {key: entry for key, entry in entries.items() if key == _normal(key)}
    for candidate in _candidates(names, path):
        if candidate in by_name:
            found = _entry(by_name[candidate], candidate, file)
            if found:
                return found
    return None


def _candidates(names: tuple[str, ...], path: str) -> Iterator[str]:
    """Give the names of the repository and of all above it, the longest first."""
    parts = path.split("/")
    for length in range(len(parts), -1, -1):
        for name in names:
            yield "/".join((name, *parts[:length]))


def _normal(key: str) -> str:
    """Give ``host`` for the URL of a registry; other names stay, without the ends that old tools wrote."""
    scheme, separator, rest = key.partition("://")
    if separator and scheme in ("http", "https"):
        return rest.partition("/")[0]
    return key.rstrip("/").removesuffix("/v1").removesuffix("/v2")


def _entry(value: Any, name: str, file: Path) -> Credential | None:
    """Read one entry; an empty one (as Docker leaves them beside a store) is none."""
    if not isinstance(value, dict):
        raise NetworkError(f"the entry {one_line(name)} of auths is no object", where=str(file))
    texts = [value.get(key) or "" for key in ("username", "password", "auth", "identitytoken")]
    if not all(isinstance(text, str) for text in texts):
        raise NetworkError(f"the entry {one_line(name)} of auths is malformed", where=str(file))
    user, password, auth, identity = texts
    if auth:
        user, password = _decoded(auth, name, file)
    if identity:
        return Credential(user, identity_token=identity)
    return Credential(user, password) if user or password else None


def _decoded(auth: str, name: str, file: Path) -> tuple[str, str]:
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        message = f"auth of the entry {one_line(name)} is not user:password in base64"
        raise NetworkError(message, where=str(file), hint="log in again")
    return user, password.rstrip("\0")


def _read(file: Path) -> dict[str, Any]:
    """Read a file of accounts; one that is not there is empty."""
    fault = ""
    try:
        with file.open("rb") as source:
            data = source.read(_FILE_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        fault = f"cannot be read: {error.strerror}"
    if fault:
        raise NetworkError(fault, where=str(file))
    value = _json(data) if data.strip() else {}
    if not isinstance(value, dict):
        raise NetworkError("is not the JSON object that Docker's config.json is", where=str(file))
    return value


def _object(value: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    found = value.get(name) or {}
    if not isinstance(found, dict):
        raise NetworkError(f"{name} is no object", where=str(file))
    return found


def _json(data: bytes) -> Any:
    """Read JSON; give None where it is none (the error of Python's reader would hold the whole text)."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
