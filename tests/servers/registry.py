"""Docker's registry, open or with a login, and how images get into it."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.oci.manifest import Index, parse
from tests.images import Blobs
from tests.servers.processes import free_port, running
from tests.servers.tokens import ISSUER, SERVICE, TokenServer
from tests.tools import tool

USER, PASSWORD = "me", "pa:ss wörd"
HTPASSWD = "me:$2a$04$NVfsexKOe/70K5ydPBbqZeHKIIezlnjpl3q.3/TxtBndTxI4HfJ4q\n"
"""The password, as bcrypt has it at the lowest cost."""

_CONFIGURATION = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}", host: "{host}"}}
"""


@dataclass(frozen=True)
class RegistryServer:
    """A registry at ``host`` (``127.0.0.1:port``) whose files lie in ``data``."""

    host: str
    data: Path


def htpasswd(folder: Path) -> str:
    """The configuration of a registry that wants USER and PASSWORD."""
    (folder / "htpasswd").write_text(HTPASSWD)
    return f'auth: {{htpasswd: {{realm: tests, path: "{folder / "htpasswd"}"}}}}\n'


def by_token(server: TokenServer) -> str:
    """The configuration of a registry that wants tokens of ``server``."""
    token = {
        "realm": server.realm,
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(server.certificate),
    }
    return f"auth: {json.dumps({'token': token})}\n"


@contextlib.contextmanager
def docker_registry(folder: Path, auth: str = "", data: Path | None = None) -> Iterator[RegistryServer]:
    """Run a registry; ``data`` is that of another one, whose images it then has too."""
    port, data = free_port(), data or folder / "data"
    configuration = folder / f"{port}.yml"
    host = f"http://127.0.0.1:{port}"
    configuration.write_text(_CONFIGURATION.format(data=data, port=port, host=host) + auth)
    command = [*tool("docker-registry", "usr/bin/docker-registry"), "serve", str(configuration)]
    with running(command, port):
        yield RegistryServer(f"127.0.0.1:{port}", data)


def push(host: str, blobs: Blobs, top: Descriptor, repository: str, tag: str) -> None:
    """Push an image by plain HTTP, as the distribution specification says ("Push")."""
    value = parse(blobs.data[top.digest], top.media_type, "test")
    if isinstance(value, Index):
        for member in value.members:
            push(host, blobs, member.descriptor, repository, str(member.descriptor.digest))
    else:
        for item in (value.config, *value.layers):
            push_blob(host, blobs.data[item.digest], item, repository)
    requests.put(
        f"http://{host}/v2/{repository}/manifests/{tag}",
        data=blobs.data[top.digest],
        headers={"Content-Type": top.media_type},
        timeout=60,
    ).raise_for_status()


def push_blob(host: str, data: bytes, item: Descriptor, repository: str) -> None:
    begun = requests.post(f"http://{host}/v2/{repository}/blobs/uploads/", timeout=60)
    begun.raise_for_status()
    requests.put(
        begun.headers["Location"], params={"digest": str(item.digest)}, data=data, timeout=60
    ).raise_for_status()


def skopeo(*arguments: str) -> None:
    """Run skopeo, which asks only what the arguments name."""
    command = [*tool("skopeo", "usr/bin/skopeo"), "--insecure-policy", *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout
