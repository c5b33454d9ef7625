"""What maintainer scripts would have made: accounts, directories, links, the CA bundle."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.tree import canonical
from linuxkit_rules.errors import PackageError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.spec.component import Component, Group, User

CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"

_CERTIFICATES = "usr/share/ca-certificates/"
_ROOT = User("root", 0, 0, "/root", "/bin/sh", "root")
_NSSWITCH = b"""passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
"""


def generated(
    component: Component, given: Mapping[str, Entry], there: set[str], contents: Contents
) -> Iterator[Entry]:
    """Give the layer's entries, each directory before what it holds.

    ``given`` is what the component's globs name (before its exclusions), ``there`` the paths that lower
    layers hold.  Directories that are only needed above others appear where no lower layer has them.
    """
    entries: dict[str, Entry] = {}
    if component.users is not None:
        entries |= {f"etc/{name}": item for name, item in _accounts(component.users, component.groups)}
    if "ca-bundle" in component.generate:
        entries[CA_BUNDLE] = _file(CA_BUNDLE, _bundle(given, contents))
    for path, target in component.links.items():
        path = canonical(path)
        entries[path] = Entry(path, Kind.SYMLINK, 0o777, link=target)
    for entry in _directories(component):
        entries[entry.path] = entry
    for path in list(entries):
        for above in _above(path):
            if above not in there:
                entries.setdefault(above, Entry(above, Kind.DIRECTORY, 0o755))
    return (entries[path] for path in sorted(entries))


def _above(path: str) -> Iterator[str]:
    """Give the directories above ``path``; those of the base layer are there already."""
    while (path := posixpath.dirname(path)) and path != "usr":
        yield path


def _accounts(users: tuple[User, ...], groups: tuple[Group, ...]) -> Iterator[tuple[str, Entry]]:
    """Give passwd(5), shadow(5) without passwords, group(5) and nsswitch.conf(5); root is always in."""
    everyone = sorted(
        {user.name: user for user in (_ROOT, *users)}.values(), key=lambda user: (user.uid, user.name)
    )
    own = {user.name: Group(user.name, _gid(user)) for user in everyone}
    named = {**own, **{group.name: group for group in groups}}
    everybody = sorted(named.values(), key=lambda group: (group.gid, group.name))
    passwd = "".join(
        f"{user.name}:x:{user.uid}:{_gid(user)}:{user.gecos}:{user.home}:{user.shell}\n" for user in everyone
    )
    shadow = "".join(f"{user.name}:*:17274:0:99999:7:::\n" for user in everyone)
    group = "".join(f"{group.name}:x:{group.gid}:{','.join(group.members)}\n" for group in everybody)
    yield "passwd", _file("etc/passwd", passwd.encode())
    yield "group", _file("etc/group", group.encode())
    yield "shadow", _file("etc/shadow", shadow.encode(), 0o600)
    yield "nsswitch.conf", _file("etc/nsswitch.conf", _NSSWITCH)


def _gid(user: User) -> int:
    return user.uid if user.gid is None else user.gid


def _directories(component: Component) -> Iterator[Entry]:
    users = {"root": 0, **{user.name: user.uid for user in component.users or ()}}
    groups = {"root": 0, **{user.name: _gid(user) for user in component.users or ()}}
    groups |= {group.name: group.gid for group in component.groups}
    for item in component.directories:
        uid = users[item.user] if isinstance(item.user, str) else item.user
        gid = groups[item.group] if isinstance(item.group, str) else item.group
        yield Entry(canonical(item.path), Kind.DIRECTORY, item.mode, uid, gid)


def _bundle(given: Mapping[str, Entry], contents: Contents) -> bytes:
    """Join the certificates as update-ca-certificates(8) does; raise PackageError where there are none."""
    files = [
        entry
        for path, entry in sorted(given.items())
        if path.startswith(_CERTIFICATES) and path.endswith(".crt") and entry.kind is Kind.FILE
    ]
    if not files:
        raise PackageError(
            "there are no certificates for generate: [ca-bundle]",
            hint='add - ca-certificates: ["usr/share/ca-certificates/**"] to packages:',
        )
    return b"".join(bytes(contents.view(entry)).rstrip(b"\n") + b"\n" for entry in files)


def _file(path: str, content: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, Kind.FILE, mode, content=content)
