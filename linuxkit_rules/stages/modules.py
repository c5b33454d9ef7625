"""Stages ``module-index`` and ``modules``: a kernel's modules, cut to those that are needed, as a segment.

LinuxKit unpacks a kernel image's kernel.tar at the root (docs/kernels.md).  Here, where modules are asked
for, only they come along, with what they need; modprobe's files are made anew for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from typing import ClassVar

from linuxkit_rules.debian.contents import Contents
from linuxkit_rules.debian.tree import canonical
from linuxkit_rules.digest import Descriptor, canonical_json
from linuxkit_rules.errors import FormatError, ImageError, within
from linuxkit_rules.formats.entry import Entry, Kind, tree_order
from linuxkit_rules.formats.kmod import Module, module, name_of
from linuxkit_rules.formats.kmod import Modules as KernelModules
from linuxkit_rules.oci.layers import flatten
from linuxkit_rules.stages.kernel import copy_member
from linuxkit_rules.stages.kernel_image import PACKED, plain_module
from linuxkit_rules.stages.pack import FIXED_TIME, PackingStage, parents
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.stages.unpack import Unpack, load
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass

LOAD_LIST = "etc/modules-load.d/linuxkit.conf"
"""Names of the modules that init loads, one a line (modules-load.d(5))."""

_VERSION = re.compile(r"(lib/modules/[^/]+)/")


@dataclass(frozen=True)
class ModuleIndex(Stage):
    """Reads each module of the input ``layer-index`` (a kernel.tar's): path, depends, softdeps, aliases."""

    name: ClassVar[str] = "module-index"
    version: ClassVar[int] = 1

    def is_remote(self) -> bool:
        """Its inputs are all that it reads."""
        return True

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Index; raise ImageError where a module is damaged."""
        (index,) = inputs["layer-index"]
        contents = Contents(work.store)
        found = [_read(entry, contents) for entry in load(work.store, index) if _is_module(entry)]
        rows = [[item.path, item.depends, item.softdeps, item.aliases] for item in found]
        return Result(work.store.put(canonical_json(rows)))


@dataclass(frozen=True, kw_only=True)
class Modules(PackingStage):
    """Packs the modules of the one input ``image`` (a kernel image's manifest) that ``roots`` need.

    ``roots`` None: all that is in the archive ``member``, as it is.  Inputs
    ``init`` are the init images, if there are any: where /lib is a link to usr/lib, as in images of ours, the
    modules go there.
    """

    name: ClassVar[str] = "modules"
    version: ClassVar[int] = 5
    roots: tuple[str, ...] | None = None
    member: str = "kernel.tar"
    shown: str = field(default="", compare=False)

    def label(self) -> str:
        """The modules asked for."""
        return "all" if self.roots is None else " ".join(self.roots)

    def run(self, inputs: Inputs, work: Engine) -> Result:
        """Cut and pack; raise PackageError for a module that the kernel does not have."""
        (image,) = inputs["image"]
        archive = copy_member(image, self.member, work, self.shown)
        with within(f"{self.shown or image.digest}: /{self.member}"):
            index = work.run(Unpack(), {"layer": [archive]})
        entries = load(work.store, index.output)
        if self.roots is None:
            with within(f"{self.shown or image.digest}: /{self.member}"):
                entries = tuple(flatten([entries], limits=work.limits).values())
        else:
            known = _known(work, index.output, entries)
            entries = tuple(self._entries(entries, known, self.roots, Contents(work.store)))
        merged = _is_merged(inputs.get("init", ()), work)
        placed = _placed(entries, merged=merged, keep_times=self.roots is None)
        return Result(self.packed(placed, inputs, work.store))

    def _entries(
        self, entries: tuple[Entry, ...], known: KernelModules, roots: tuple[str, ...], contents: Contents
    ) -> Iterator[Entry]:
        """Give the segment's files and links; directories above them are left to ``_placed``."""
        base = _base(entries)
        if base is None:
            raise ImageError(f"{self.member} of the kernel image has no lib/modules/<version>")
        chosen = known.closure(roots)
        paths = {f"{base}/{item.path}" for item in chosen}
        for entry in entries:
            if _plain_path(entry.path) in paths:
                yield plain_module(entry, contents)
            elif entry.path == f"{base}/modules.builtin":
                yield entry
        for name, text in known.files(chosen):
            yield _file(f"{base}/{name}", text)
        loaded = sorted({name for root in roots for name in known.root(root)})
        yield _file(LOAD_LIST, "".join(f"{name}\n" for name in loaded))


def _is_module(entry: Entry) -> bool:
    return entry.kind is Kind.FILE and _plain_path(entry.path).endswith(".ko")


def _plain_path(path: str) -> str:
    return path.rpartition(".")[0] if path.endswith(PACKED) else path


def _read(entry: Entry, contents: Contents) -> Module:
    """Read what a module says of itself; its path is counted from lib/modules/<version>."""
    from linuxkit_rules.formats import elf  # planning needs none

    found = _VERSION.search(entry.path)
    path = _plain_path(entry.path)[found.end() if found else 0 :]
    plain = plain_module(entry, contents)
    try:
        return module(path, elf.modinfo(contents.view(plain)))
    except FormatError as error:
        raise ImageError(error.message, where=f"kernel module {entry.path}") from None


def _known(work: Engine, index: Descriptor, entries: tuple[Entry, ...]) -> KernelModules:
    """Give the kernel's modules from their index and the list modules.builtin."""
    rows = json.loads(work.store.read(work.run(ModuleIndex(), {"layer-index": [index]}).output.digest))
    contents = Contents(work.store)
    builtin = next((entry for entry in entries if entry.path.endswith("/modules.builtin")), None)
    lines = bytes(contents.view(builtin)).decode().split() if builtin else []
    found = (Module(path, *(tuple(item) for item in rest)) for path, *rest in rows)
    return KernelModules(found, (name_of(line) for line in lines))


def _base(entries: Iterable[Entry]) -> str | None:
    """Give the folder lib/modules/<version>."""
    return next((found[1] for entry in entries if (found := _VERSION.match(entry.path))), None)


def _is_merged(images: Sequence[Descriptor], work: Engine) -> bool:
    """Whether /lib is a symbolic link in one of ``images`` and a directory in none."""
    kinds = {lib.kind for image in images if (lib := image_tree(image, work).get("lib"))}
    return Kind.SYMLINK in kinds and Kind.DIRECTORY not in kinds


def _placed(entries: Iterable[Entry], *, merged: bool, keep_times: bool) -> list[Entry]:
    """Put lib below usr where that is merged, and give every entry its directories, sorted."""
    tree: dict[str, Entry] = {}
    for entry in entries:
        path = canonical(entry.path) if merged else entry.path
        for above in parents(path.rpartition("/")[0]):
            tree.setdefault(above.path, above)
        if entry.path or keep_times:
            link = canonical(entry.link) if merged and entry.kind is Kind.HARDLINK else entry.link
            mtime = entry.mtime if keep_times else FIXED_TIME
            via = canonical(entry.via) if merged and entry.via else entry.via
            tree[path] = replace(entry, path=path, link=link, via=via, mtime=mtime)
    return [tree[path] for path in sorted(tree, key=tree_order)]


def _file(path: str, text: str) -> Entry:
    return Entry(path, Kind.FILE, 0o644, mtime=FIXED_TIME, content=text.encode())
