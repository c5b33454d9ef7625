"""A package's files: usr-merged, chosen by globs, links followed.

Since bookworm Debian's /bin, /sbin, /lib and /lib64 are links into /usr, whatever a package's own paths say.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from linuxkit_rules.debian.globs import is_plain, matches, pattern
from linuxkit_rules.errors import PackageError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.values import dataclass

MERGED = ("bin", "lib", "lib64", "sbin")
"""Folders of the root that are links to usr/<the same>."""

KERNEL = ("boot/vmlinuz-*", "boot/vmlinux-*")
"""Where a kernel's package has the kernel, as globs."""

MODULES = "usr/lib/modules"
"""Where it has the modules."""

LEFT_OUT = (
    "etc/apparmor.d/**",
    "etc/apt/**",
    "etc/bash_completion.d/**",
    "etc/cron.*/**",
    "etc/init.d/**",
    "etc/logcheck/**",
    "etc/logrotate.d/**",
    "usr/lib/debug/**",
    "usr/lib/init/**",
    "usr/lib/sysusers.d/**",
    "usr/lib/systemd/system/**",
    "usr/lib/systemd/user/**",
    "usr/lib/tmpfiles.d/**",
    "usr/share/applications/**",
    "usr/share/apport/**",
    "usr/share/bash-completion/**",
    "usr/share/bug/**",
    "usr/share/doc-base/**",
    "usr/share/doc/**",
    "usr/share/fish/**",
    "usr/share/icons/**",
    "usr/share/info/**",
    "usr/share/lintian/**",
    "usr/share/locale/**",
    "usr/share/man/**",
    "usr/share/menu/**",
    "usr/share/metainfo/**",
    "usr/share/pixmaps/**",
    "usr/share/zsh/**",
)
"""What is not taken unless a component's globs ask for it."""

_MOST_LINKS = 40


def canonical(path: str) -> str:
    """Give ``path`` (absolute or not) as a path of the usr-merged tree, without leading slash."""
    path = posixpath.normpath("/" + path).lstrip("/")
    return f"usr/{path}" if path.split("/", 1)[0] in MERGED else path


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of the package ``name``, by usr-merged path."""

    name: str
    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, name: str, entries: Iterable[Entry]) -> Tree:
        """Merge /bin, /lib … of ``entries`` into /usr; the root and the merged folders themselves go."""
        merged = {}
        for entry in entries:
            path = canonical(entry.path)
            if entry.path and entry.path not in MERGED:
                link = canonical(entry.link) if entry.kind is Kind.HARDLINK else entry.link
                merged[path] = replace(entry, path=path, link=link)
        return cls(name, merged)

    def file(self, path: str) -> Entry | None:
        """Give the regular file that ``path`` leads to within this package, links followed."""
        found = self.entries.get(self.trail(path)[-1])
        if found is not None and found.kind is Kind.HARDLINK:
            found = self.entries.get(found.link)
        return found if found is not None and found.kind is Kind.FILE else None

    def trail(self, path: str) -> list[str]:
        """Give ``path`` and what it leads to, link after link, as far as this package goes."""
        paths = [path]
        while len(paths) <= _MOST_LINKS:
            entry = self.entries.get(paths[-1])
            if entry is None or entry.kind not in (Kind.SYMLINK, Kind.HARDLINK):
                return paths
            paths.append(entry.link if entry.kind is Kind.HARDLINK else target(entry))
        raise PackageError("symbolic links without end", where=f"package {self.name}: {path}")

    def select(self, globs: Iterable[str] | None) -> set[str]:
        """Give the paths that ``globs`` name and what their links lead to; without globs, all that is of use.

        A glob may name nothing, since suites differ; for a path without signs that raises PackageError.
        """
        if globs is None:
            return {path for path in self.entries if not matches(LEFT_OUT, path)}
        chosen: set[str] = set()
        for glob in globs:
            found = self._matching(glob)
            if not found and is_plain(glob):
                raise PackageError(f"package {self.name} has no file {glob}", hint=self._advice(glob))
            chosen |= {step for path in found for step in self.trail(path) if step in self.entries}
        return chosen

    def _matching(self, glob: str) -> list[str]:
        if is_plain(glob):
            return [glob] if glob in self.entries else []
        accept = pattern(glob).fullmatch
        return [path for path in self.entries if accept(path)]

    def _advice(self, glob: str) -> str | None:
        """Name a file of the same name elsewhere."""
        name = posixpath.basename(glob)
        same = sorted(path for path in self.entries if posixpath.basename(path) == name)
        return f"it has {same[0]}" if same else None


def target(link: Entry) -> str:
    """Give the usr-merged path to which a symbolic link leads."""
    return canonical(posixpath.join(posixpath.dirname("/" + link.path), link.link))


def with_parents(tree: Tree, chosen: Iterable[str]) -> Iterator[Entry]:
    """Give the chosen entries of ``tree`` with the directories above them, sorted by path."""
    wanted = set(chosen)
    for path in tuple(wanted):
        while path := posixpath.dirname(path):
            wanted.add(path)
    for path in sorted(wanted):
        yield tree.entries.get(path) or Entry(path, Kind.DIRECTORY, 0o755)
