"""Containers whose root file systems are overlays of shared layers boot and do what they are for."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linuxkit_rules.run.artefacts import find
from linuxkit_rules.run.boot import BootTest, Exchange, boot
from linuxkit_rules.run.machine import Machine, Port
from linuxkit_rules.run.qemu import Qemu
from tests.boot.test_images import HTTP, REDIS, REDIS_ANSWERS

pytestmark = pytest.mark.boot

# Redis is read-only, nginx has a layer in memory; they share the C library, OpenSSL and more with rngd.
YML = """\
kernel:
  image: "@pkg:kernel"
  cmdline: "console=tty0 console=ttyS0"
init:
  - "@pkg:init"
  - "@pkg:crun"
onboot:
  - name: dhcpcd
    image: "@pkg:dhcpcd"
    command: ["/sbin/dhcpcd", "--nobackground", "-f", "/dhcpcd.conf", "-1"]
  - name: looks
    image: "@pkg:dhcpcd"
    binds: ["/containers:/containers:ro"]
    capabilities: [all]
    command: [/bin/busybox, sh, -c, SCRIPT]
  - name: points
    image: "@pkg:dhcpcd"
    readonly: true
    binds: ["/etc:/not/there:ro"]
    runtime: {mkdir: [made]}
    command: [/bin/busybox, sh, -c, POINTS]
services:
  - {name: redis, image: "@pkg:redis"}
  - {name: nginx, image: "@pkg:nginx"}
  - {name: rngd, image: "@pkg:rngd"}
"""

# Mounts each service's layers as its runtime.json says, and tells of each path what stat(1) says.
SCRIPT = r"""
for name in redis nginx rngd; do
    lower=$(/bin/busybox grep -o 'lowerdir=[^",]*' /containers/services/$name/runtime.json)
    /bin/busybox mkdir -p /looks/$name
    /bin/busybox mount -t overlay -o $lower overlay /looks/$name
    cd /looks/$name
    /bin/busybox find . -exec /bin/busybox stat -c "$name %n %a %u %g %h %Y %F" {} +
    /bin/busybox find . -type f -exec /bin/busybox sha256sum {} + | /bin/busybox sed "s/^/$name /"
done
"""
# A read-only container has what its image lacks: a mount point, and a directory that runtime.json asks for.
POINTS = "/bin/busybox test -e /not/there/inittab -a -d /made && ! /bin/busybox touch /new && echo all there"
_KINDS = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "symbolic link"}


def said(tar: Path, name: str) -> Iterator[str]:
    """What the script is to say of a service, by the flat tree in an archive of the whole system."""
    with tarfile.open(tar) as archive:
        found = re.compile(rf"containers/services/{name}/(rootfs|lower)(/(?P<path>.+))?$")
        members = {match["path"] or "": item for item in archive if (match := found.match(item.name))}
        links = Counter(item.linkname for item in members.values() if item.islnk())
        for path, item in members.items():
            if not path:
                continue
            file = archive.getmember(item.linkname) if item.islnk() else item
            kind, count = _KINDS[file.type], 1 + links[file.name]
            if kind == "file":
                data = archive.extractfile(file)
                assert data is not None
                yield f"{name} {hashlib.sha256(data.read()).hexdigest()}  ./{path}"
                kind = "regular file" if file.size else "regular empty file"
            shown = f"{name} ./{path} {file.mode:o} {file.uid} {file.gid}"
            yield f"{shown} {count} {file.mtime} {kind}" if kind != "directory" else f"{shown} {file.mtime}"


def test_three_services_share_their_packages(qemu: Qemu, tmp_path: Path, count: Callable[..., None]) -> None:
    text = YML.replace("SCRIPT", json.dumps(SCRIPT)).replace("POINTS", json.dumps(POINTS))
    (tmp_path / "three.yml").write_text(text)
    line = [sys.executable, "-m", "linuxkit_rules", "build", "--arch=amd64", "--layered"]
    result = subprocess.run(
        [*line, "--format=kernel+initrd,tar", "three.yml"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert result.returncode == 0, result.stdout
    medium = find(str(tmp_path / "three-kernel")).medium
    steps = (*REDIS_ANSWERS, Exchange(HTTP, b"GET / HTTP/1.0\r\n\r\n", rb"^HTTP/1\.[01] 200 OK\r\n"))
    console = boot(Machine(medium, ports=(Port(0, REDIS), Port(0, HTTP))), qemu, BootTest(steps)).console
    (tmp_path / "console").write_text(console)
    assert re.search(r"^002-points: all there\s*$", console, re.MULTILINE)
    for name in ("redis", "nginx", "rngd"):
        shown = re.findall(rf"^001-looks: ({name} .*?)\s*$", console, re.MULTILINE)
        seen = {re.sub(r" \d+ (\d+) directory$", r" \1", item) for item in shown if f"{name} . " not in item}
        assert seen == set(said(tmp_path / "three.tar", name))
        count("files and attributes that a booted kernel shows as in the flat tree", len(seen))
