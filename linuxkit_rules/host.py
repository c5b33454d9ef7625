"""What this machine and its user say: architecture, where the store lies, settings of the environment."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from linuxkit_rules.errors import UsageError

if TYPE_CHECKING:
    from linuxkit_rules.oci.network import Network
    from linuxkit_rules.oci.progress import Progress
    from linuxkit_rules.remote.backend import Backend
    from linuxkit_rules.remote.cache import RemoteCache
    from linuxkit_rules.remote.executor import Executor
    from linuxkit_rules.remote.reapi import Server
    from linuxkit_rules.stages.access import Access
    from linuxkit_rules.stages.stage import Engine

_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where systems keep the certificates of the authorities that they trust."""

_GIT_KEPT = frozenset(
    f"GIT_{name}"
    for name in (
        "CEILING_DIRECTORIES",
        "CONFIG_GLOBAL",
        "CONFIG_NOSYSTEM",
        "CONFIG_SYSTEM",
        "DISCOVERY_ACROSS_FILESYSTEM",
        "EXEC_PATH",
    )
)
"""Variables of git that say something of the machine, not of one repository or one command."""


def host_arch() -> str:
    """Give this machine's architecture in Debian's and OCI's word: amd64 or arm64."""
    machine = platform.machine()
    return _ARCHES.get(machine, machine)


def checked_arch(text: str) -> str:
    """Give ``text``, or this machine's where it is empty; raise UsageError for an unknown one."""
    arch = text or host_arch()
    if arch not in _ARCHES.values():
        raise UsageError(f"the architecture {arch!r} is not supported", hint="amd64 or arm64")
    return arch


def store_root(text: str, environment: Mapping[str, str] = os.environ, base: Path = Path()) -> Path:
    """Give the store's folder: ``text``, or the user's cache folder (XDG base directory specification).

    A relative path counts from ``base``; in SCons, which changes folders, from the SConstruct's.
    """
    if text:
        return (base / Path(text).expanduser()).absolute()
    cache = environment.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "linuxkit_rules"


def engine(environment: Mapping[str, str] = os.environ) -> Engine:
    """Give the engine that the ``LINUXKIT_*`` variables of the environment describe."""
    from linuxkit_rules.formats.limits import Limits
    from linuxkit_rules.stages.stage import Engine
    from linuxkit_rules.store.blobs import Store

    store = Store(store_root(environment.get("LINUXKIT_STORE", "")))
    limits = Limits.parse(environment.get("LINUXKIT_LIMITS", ""))
    return Engine(store, access=access(environment, environment), limits=limits)


def access(
    variables: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
    progress: Progress | None = None,
) -> Access:
    """Give what the ``LINUXKIT_*`` variables that say where to fetch from mean.

    ``environment`` tells where accounts, certificates and proxies are.  Raises UsageError.
    """
    from linuxkit_rules.oci.credentials import DockerConfig
    from linuxkit_rules.oci.mirrors import Mirror
    from linuxkit_rules.oci.progress import Silent
    from linuxkit_rules.stages.access import PACKAGES, Access

    vendor = variables.get("LINUXKIT_VENDOR", "")
    return Access(
        debian_mirror=variables.get("LINUXKIT_DEBIAN_MIRROR") or None,
        offline=is_set(variables.get("LINUXKIT_OFFLINE", "")),
        packages=Path(vendor) / PACKAGES if vendor else None,
        network=_network(variables, environment),
        mirrors=tuple(Mirror.parse(text) for text in _items(variables.get("LINUXKIT_MIRRORS", ""))),
        credentials=DockerConfig(account_files(environment), environment),
        progress=progress or Silent(),
    )


def remote_cache(
    variables: Mapping[str, str], watch: Callable[[], Progress], environment: Mapping[str, str] = os.environ
) -> RemoteCache | None:
    """Give the remote cache that ``LINUXKIT_REMOTE_CACHE`` names, None where nothing may be asked.

    Whether the URL means something is seen when the cache is asked first; then UsageError is raised.
    """
    url = variables.get("LINUXKIT_REMOTE_CACHE", "")
    if not url or is_set(variables.get("LINUXKIT_OFFLINE", "")):
        return None
    from linuxkit_rules.remote.cache import RemoteCache, place_of

    def connect() -> Backend:
        from linuxkit_rules.oci.credentials import DockerConfig
        from linuxkit_rules.remote.connect import connected

        credentials = DockerConfig(account_files(environment), environment)
        token = environment.get("LINUXKIT_REMOTE_CACHE_TOKEN", "")
        seconds = variables.get("LINUXKIT_REMOTE_CACHE_TIMEOUT", "")
        return connected(url, _network(variables, environment), credentials, token, seconds)

    return RemoteCache(place_of(url), connect, watch)


def remote_executor(
    variables: Mapping[str, str],
    warn: Callable[[str], None],
    environment: MutableMapping[str, str] = os.environ,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Executor | None:
    """Give the remote executor that ``LINUXKIT_REMOTE_EXECUTOR`` names, None where nothing may be asked.

    Whether the URL means something is seen when something is to be done; then UsageError is raised.  It is
    raised here for ``LINUXKIT_REMOTE_EXECUTOR_PLATFORM`` that means nothing.  ``is_stopped`` says whether the
    build is to end.
    """
    url = variables.get("LINUXKIT_REMOTE_EXECUTOR", "")
    if not url or is_set(variables.get("LINUXKIT_OFFLINE", "")):
        return None
    from linuxkit_rules.remote.channel import connected
    from linuxkit_rules.remote.endpoint import properties
    from linuxkit_rules.remote.executor import Executor

    def connect() -> Server:
        environment.setdefault("GRPC_VERBOSITY", "NONE")  # its library prints what we say ourselves
        token = environment.get("LINUXKIT_REMOTE_EXECUTOR_TOKEN", "")
        seconds = variables.get("LINUXKIT_REMOTE_EXECUTOR_TIMEOUT", "")
        return connected(url, _network(variables, environment), token, seconds, is_stopped)

    return Executor(connect, warn, properties(variables.get("LINUXKIT_REMOTE_EXECUTOR_PLATFORM", "")))


def may_upload(variables: Mapping[str, str]) -> bool:
    """Whether the remote cache gets what is run here: ``LINUXKIT_REMOTE_CACHE_MODE`` is ``rw``.

    Raises UsageError where it is neither that nor ``ro``.
    """
    mode = variables.get("LINUXKIT_REMOTE_CACHE_MODE", "") or "ro"
    if mode not in ("ro", "rw"):
        raise UsageError(f"LINUXKIT_REMOTE_CACHE_MODE={mode!r} is unknown", hint="ro or rw")
    return mode == "rw"


def account_files(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Give the files that may hold accounts at registries, Docker's first, whether they are there or not.

    ``REGISTRY_AUTH_FILE`` names the only one.
    """
    if only := environment.get("REGISTRY_AUTH_FILE", ""):
        return (Path(only),)
    home = Path(environment.get("HOME") or Path.home())
    docker = Path(environment.get("DOCKER_CONFIG") or home / ".docker")
    run, config = environment.get("XDG_RUNTIME_DIR", ""), environment.get("XDG_CONFIG_HOME", "")
    folders = ([Path(run)] if run else []) + [Path(config) if config else home / ".config"]
    return (docker / "config.json", *(folder / "containers" / "auth.json" for folder in folders))


def _network(variables: Mapping[str, str], environment: Mapping[str, str]) -> Network:
    from linuxkit_rules.oci.dial import Proxies
    from linuxkit_rules.oci.network import Network

    def either(name: str) -> str:
        return environment.get(name.lower()) or environment.get(name) or ""

    bundles = (environment.get("SSL_CERT_FILE", ""), *_BUNDLES)
    return Network(
        plain_http=_items(variables.get("LINUXKIT_PLAIN_HTTP", "")),
        trust=next((Path(item) for item in bundles if item and Path(item).exists()), None),
        ca_files=tuple(
            Path(item) for item in variables.get("LINUXKIT_CA_FILES", "").split(os.pathsep) if item
        ),
        proxies=Proxies(either("HTTP_PROXY"), either("HTTPS_PROXY"), either("NO_PROXY")),
    )


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def is_locked(text: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether images of registries must be in the lock: as ``text`` says, else where CI=true."""
    return is_set(text or environment.get("CI", ""))


def is_set(text: str) -> bool:
    """Whether the text of a variable means yes: it is there and none of 0, false, no and off."""
    return text.strip().lower() not in ("", "0", "false", "no", "off")


def package_lock(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the lock of the library's packages: ``LINUXKIT_PACKAGE_LOCK``, or the one that comes with it."""
    from linuxkit_rules.debian.lock import LIBRARY_LOCK

    text = environment.get("LINUXKIT_PACKAGE_LOCK", "")
    return Path(text).expanduser() if text else LIBRARY_LOCK


def git_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give the environment in which git finds a folder's own repository, writes nothing and fetches nothing.

    A hook or an alias that runs a build has GIT_DIR, GIT_INDEX_FILE and their like set: those are dropped.
    """
    kept = {
        name: value for name, value in environment.items() if not name.startswith("GIT_") or name in _GIT_KEPT
    }
    return kept | {
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
    }
