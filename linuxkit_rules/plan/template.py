"""LinuxKit's ``@pkg:`` templates: a package's folder in a git repository stands for its image's reference.

``@pkg:`` names a folder.  ``@pkg:redis`` is the component of the library, or where it has none of that name,
the folder beside the YAML; with a slash (``@pkg:./mine``, ``@pkg:pkg/mine``) it is a path from the YAML's
folder.  A folder whose build.yml has a key that only components have is a component and is built; any other
is a LinuxKit package (docs/packages.md there) and stands for ``org/image:tag``.

The tag's hash is that of LinuxKit's pkglib: the id of the folder's git tree at HEAD; with extra sources, the
SHA-1 of it and theirs, written one after the other.  Where one of these folders differs from HEAD,
``-dirty-`` and seven digits follow: of a SHA-256 over names, modes, link targets and contents of the files.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from linuxkit_rules.errors import LinuxKitError, SpecError
from linuxkit_rules.formats.buffers import sha256_of
from linuxkit_rules.oci.reference import DirectorySource, LibrarySource, Reference, parse_source
from linuxkit_rules.plan.git import Checkout, GitError, is_empty_submodule
from linuxkit_rules.plan.memo import PACKAGE, Evidence
from linuxkit_rules.spec.linuxkit import Container, Spec
from linuxkit_rules.spec.package import Package, load_package

LIBRARY = PACKAGE
"""Where the folders ``pkg`` (components) and ``tools`` (host programs, boot loaders) lie."""


def resolved(text: str, base: Path, evidence: Evidence | None = None) -> str:
    """Give ``image: text`` with an @pkg: template of a package replaced by its reference; else as it is.

    ``base`` is the YAML's folder.  What is read is noted in ``evidence``.  Raises LinuxKitError, without the
    YAML's place, for another template, a folder that is not there, or one that git cannot name.
    """
    if not text.startswith("@"):
        return text
    source = parse_source(text)
    assert isinstance(source, LibrarySource | DirectorySource)  # noqa: S101 - nothing else begins with @
    noted = Evidence() if evidence is None else evidence
    folder = located(source, base, noted)
    if folder.is_relative_to(LIBRARY):
        return text
    package = load_package(noted.file(folder / "build.yml"))
    return _reference(package, folder, noted) if package else text


def located(source: LibrarySource | DirectorySource, base: Path, evidence: Evidence) -> Path:
    """Give the folder that a template names, without symbolic links; raise SpecError without build.yml."""
    if isinstance(source, DirectorySource):
        return _checked(base / source.directory, evidence)
    library = LIBRARY / "pkg" / source.name
    beside = base / source.name
    if not evidence.file(library / "build.yml").is_file() and evidence.file(beside / "build.yml").is_file():
        return _checked(beside, evidence)
    return _checked(library, evidence)


def with_references(spec: Spec, reference: Callable[[str, str], str]) -> Spec:
    """Give ``spec`` with the templates of all its images replaced by ``reference(text, where)``."""

    def image(text: str, where: str) -> str:
        return reference(text, where) if text.startswith("@") else text

    def container(item: Container) -> Container:
        return replace(item, image=image(item.image, item.place("image")))

    return replace(
        spec,
        kernel=replace(spec.kernel, image=image(spec.kernel.image, spec.kernel.where)),
        init=tuple(image(text, where) for text, where in zip(spec.init, spec.init_places, strict=True)),
        onboot=tuple(container(item) for item in spec.onboot),
        onshutdown=tuple(container(item) for item in spec.onshutdown),
        services=tuple(container(item) for item in spec.services),
        volumes=tuple(replace(item, image=image(item.image, item.where)) for item in spec.volumes),
    )


def _checked(path: Path, evidence: Evidence) -> Path:
    folder = evidence.place(path)
    if not evidence.file(folder / "build.yml").is_file():
        raise missing(folder)
    return folder


def missing(folder: Path) -> SpecError:
    """Give the error for a component or package that is not there: it says what could be meant."""
    if folder.is_relative_to(LIBRARY):
        names = sorted(path.parent.name for path in folder.parent.glob("*/build.yml"))
        hint = f"the library has {', '.join(names)}"
        return SpecError(f"there is no component {folder.name!r}", hint=hint)
    message, hint = f"there is no component or package {folder.name!r}", f"{folder / 'build.yml'} is missing"
    try:
        if is_empty_submodule(folder):
            hint = "the submodule is not checked out: git submodule update --init"
    except GitError:
        return SpecError(message, hint=hint)
    return SpecError(message, hint=hint)


def _reference(package: Package, folder: Path, evidence: Evidence) -> str:
    """Give the full reference of the package's image; raise LinuxKitError."""
    sources = [_source(folder, text, package.where, evidence) for text in package.sources()]
    tree = _hash([Checkout(item) for item in (folder, *sources)], evidence)
    try:
        return str(Reference.parse(package.name(tree)))
    except SpecError as error:
        error.where = package.where
        raise


def _source(folder: Path, text: str, where: str, evidence: Evidence) -> Path:
    """Give the folder of an extra source."""
    found = evidence.place(folder / text)
    if not found.is_dir():
        raise SpecError(f"extra-sources: there is no folder {text!r}", where=where)
    return found


def _hash(checkouts: Sequence[Checkout], evidence: Evidence) -> str:
    """Give the hash of a package: the first folder is its own, the others are its extra sources'."""
    trees, changed = [], False
    for checkout in checkouts:
        try:
            _note(checkout, evidence)
            trees.append(_tree(checkout))
            changed = checkout.is_changed() or changed
        except GitError as error:
            error.hint = error.hint or _HINT
            raise
    # SHA-1 is what LinuxKit takes, and names nothing but a tag here.
    joined = "".join(trees)
    found = joined if len(trees) == 1 else hashlib.sha1(joined.encode(), usedforsecurity=False).hexdigest()
    return f"{found}-dirty-{contents(checkouts)[:7]}" if changed else found


_HINT = (
    "a LinuxKit package is named by git; a component has one of its own keys in build.yml, as packages: []"
)


def _note(checkout: Checkout, evidence: Evidence) -> None:
    """Note all that decides the hash, before any of it is read."""
    for path in checkout.deciding():
        evidence.file(path)
    evidence.folder(checkout.folder)
    for name in checkout.names():
        path = checkout.folder / name
        if _is_file(path):
            evidence.file(path)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _tree(checkout: Checkout) -> str:
    tree = checkout.tree()
    if tree is None:
        raise GitError("it is not in the last commit", where=str(checkout.folder), hint="commit it first")
    return tree


def contents(checkouts: Sequence[Checkout]) -> str:
    """Give a SHA-256, as hexadecimal digits, of the files in the folders, in the order of the folders.

    Of each folder: the SHA-256 of ``mode SP sha256 TAB name NUL`` for each file; mode is git's, the inner
    sha256 that of the file's bytes or of the link's target.
    """
    whole = hashlib.sha256()
    for checkout in checkouts:
        listing = hashlib.sha256()
        for name in checkout.names():
            listing.update(_row(checkout.folder / name, os.fsencode(name)))
        whole.update(listing.digest())
    return whole.hexdigest()


def _row(path: Path, name: bytes) -> bytes:
    """Give a file's row; nothing where it is gone, or is of a kind that git does not keep."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            kind, digest = b"120000", hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
        elif stat.S_ISREG(mode):
            kind = b"100755" if mode & stat.S_IXUSR else b"100644"
            with path.open("rb") as file:
                digest = sha256_of(file)
        else:
            return b""
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise LinuxKitError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return b"%b %b\t%b\0" % (kind, digest.encode(), name)
