"""What git knows of a folder, asked of the program ``git`` in the words made for programs.

Commands: https://git-scm.com/docs/git#_low_level_commands_plumbing; output is split at NUL (``-z``), so that
names may hold anything.  Nothing is written (not even a refreshed index) and nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
from functools import cached_property
from pathlib import Path

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.host import git_environment

_TIMEOUT = 60
_SUBMODULE = "160000"


class GitError(LinuxKitError):
    """git is missing, or says that it cannot answer."""


class Checkout:
    """A folder of a work tree; ``folder`` is an existing folder, absolute and without symbolic links.

    Every answer raises GitError where git cannot give it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def top(self) -> Path:
        """The top folder of the work tree."""
        return Path(self._line("rev-parse", "--show-toplevel"))

    def tree(self) -> str | None:
        """Give the id of the folder's tree in the commit HEAD; None where HEAD does not have it."""
        done = _git(self.folder, "rev-parse", "--verify", "--quiet", "HEAD:./")
        return None if done.returncode else _text(done.stdout)

    def is_changed(self) -> bool:
        """Whether the folder differs from HEAD: contents, modes, files that are gone or untracked."""
        options = ("--porcelain=v1", "--untracked-files=all", "--ignore-submodules=none", "--no-renames")
        return bool(self._run("status", "-z", *options, "--", "."))

    def names(self) -> list[str]:
        """Give the tracked files, there or not, and the untracked ones that are not ignored.

        Names are relative to the folder, sorted.  Raises GitError for a submodule or another repository.
        """
        tracked = [row.partition("\t")[::2] for row in self._rows("ls-files", "-z", "--stage", "--", ".")]
        others = self._rows("ls-files", "-z", "--others", "--exclude-standard", "--", ".")
        inner = [name for row, name in tracked if row.startswith(_SUBMODULE)]
        inner += [name for name in others if name.endswith("/")]
        if inner:
            raise GitError(
                f"{inner[0].rstrip('/')!r} in it is a repository of its own",
                where=str(self.folder),
                hint="a package holds no submodules; for an empty one: git submodule update --init",
            )
        return sorted({name for _, name in tracked} | set(others), key=os.fsencode)

    def deciding(self) -> list[Path]:
        """Give the files outside the folder's own that decide these answers, there or not.

        They are HEAD and what it refers to, the index, git's settings, and rules on what is ignored.
        """
        own = self.folder / self._line("rev-parse", "--absolute-git-dir")
        common = self.folder / self._line("rev-parse", "--git-common-dir")
        done = _git(self.folder, "symbolic-ref", "--quiet", "HEAD")
        names = ["HEAD", "index", "packed-refs", "reftable/tables.list", "info/exclude", "info/attributes"]
        names += [] if done.returncode else [_text(done.stdout)]
        found = [folder / name for folder in (own, common) for name in names]
        between = (self.folder, *self.folder.parents)
        for folder in between[: between.index(self.top) + 1]:
            rules = (".gitignore", ".gitattributes", ".git", ".git/HEAD")
            found += [folder / name for name in rules]
        return sorted({*found, *self._settings()})

    def _settings(self) -> list[Path]:
        """Give git's configuration files for this folder, and the user's file of what is ignored."""
        rows = self._rows("config", "--list", "--show-origin", "--name-only", "-z")
        origins = {row.removeprefix("file:") for row in rows if row.startswith("file:")}
        environment = git_environment()
        home = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
        for key, default in (("core.excludesFile", "ignore"), ("core.attributesFile", "attributes")):
            done = _git(self.folder, "config", "--type=path", "--get", key)
            origins.add(f"{home}/git/{default}" if done.returncode else _text(done.stdout))
        return [self.top / name for name in origins]

    def _rows(self, *arguments: str) -> list[str]:
        return [os.fsdecode(row) for row in self._run(*arguments).split(b"\0") if row]

    def _line(self, *arguments: str) -> str:
        return _text(self._run(*arguments))

    def _run(self, *arguments: str) -> bytes:
        done = _git(self.folder, *arguments)
        if not done.returncode:
            return done.stdout
        said = os.fsdecode(done.stderr).strip().partition("\n")[0].removeprefix("fatal: ")
        if "not a git repository" in said:
            raise GitError("it lies in no git repository", where=str(self.folder))
        raise GitError(f"git says: {said or 'nothing'}", where=str(self.folder))


def is_empty_submodule(folder: Path) -> bool:
    """Whether ``folder``, or the nearest folder above that exists, is a submodule that is not checked out."""
    there = next(item for item in (folder, *folder.parents) if item.is_dir())
    done = _git(there, "ls-files", "-z", "--stage", "--", ".")
    return done.returncode == 0 and done.stdout.startswith(_SUBMODULE.encode()) and not any(there.iterdir())


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in ``folder``; raise GitError where it cannot be run at all."""
    # A file system monitor is a program that the repository names; it would be started, and stay.
    command = ["git", "-c", "core.fsmonitor=false", *arguments]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT,
        )
    except FileNotFoundError:
        raise GitError("git is not on the PATH", hint="install git, or name the image in full") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git cannot be run: {error}") from None


def _text(line: bytes) -> str:
    return os.fsdecode(line.removesuffix(b"\n"))
