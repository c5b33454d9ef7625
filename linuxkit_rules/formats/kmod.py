"""The text files by which modprobe knows kernel modules, as depmod writes them.

modules.dep(5): https://man7.org/linux/man-pages/man5/modules.dep.5.html, depmod(8), and modprobe.d(5) for
softdep.  Module names: a dash and an underscore are the same, and are written as an underscore.
"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterable, Iterator, Mapping

from linuxkit_rules.errors import PackageError
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class Module:
    """A module: its path below lib/modules/<version>, and what its ``.modinfo`` says.

    ``softdeps`` are the values of ``softdep`` as written, ``pre: a b post: c``.
    """

    path: str
    depends: tuple[str, ...] = ()
    softdeps: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The module's name."""
        return name_of(self.path)


def name_of(path: str) -> str:
    """Give the name of the module that lies at ``path``."""
    return posixpath.basename(path).partition(".ko")[0].replace("-", "_")


def module(path: str, modinfo: Iterable[tuple[str, str]]) -> Module:
    """Make a Module of what ``formats.elf.modinfo`` gives."""
    pairs = tuple(modinfo)

    def values(tag: str) -> tuple[str, ...]:
        return tuple(value for name, value in pairs if name == tag)

    depends = (item for value in values("depends") for item in value.split(",") if item)
    return Module(path, tuple(item.replace("-", "_") for item in depends), values("softdep"), values("alias"))


class Modules:
    """The modules of one kernel, and the names of those that are built into it."""

    def __init__(self, modules: Iterable[Module], builtin: Iterable[str]) -> None:
        self._modules: Mapping[str, Module] = {item.name: item for item in modules}
        self._builtin = frozenset(builtin)
        self._exact: dict[str, list[str]] = {}
        for item in self._modules.values():
            for alias in item.aliases:
                self._exact.setdefault(alias, []).append(item.name)

    def all(self) -> tuple[Module, ...]:
        """Give every module, sorted by path."""
        return tuple(sorted(self._modules.values(), key=lambda item: item.path))

    def closure(self, roots: Iterable[str]) -> tuple[Module, ...]:
        """Give ``roots`` and all that they need, hard or soft, sorted by path.

        Raises PackageError for a root that the kernel has neither as module nor built in, and for a
        dependency that it lacks.  A soft dependency may be a name or an alias, and may be missing.
        """
        found: dict[str, Module] = {}
        todo = [name for root in roots for name in self.root(root)]
        while todo:
            item = self._modules[todo.pop()]
            if item.name not in found:
                found[item.name] = item
                todo += self._depends(item)
                todo += [name for soft in soft_names(item) for name in self._soft(soft)]
        return tuple(sorted(found.values(), key=lambda item: item.path))

    def root(self, name: str) -> list[str]:
        """Give the module called ``name`` as a list, empty where it is built in; PackageError if unknown."""
        plain = name.replace("-", "_")
        if plain in self._modules:
            return [plain]
        if plain in self._builtin:
            return []
        near = difflib.get_close_matches(plain, sorted(self._modules.keys() | self._builtin), 3)
        hint = f"is it {' or '.join(near)}?" if near else None
        raise PackageError(f"the kernel has no module {name}", hint=hint)

    def _depends(self, item: Module) -> list[str]:
        missing = [name for name in item.depends if name not in self._modules and name not in self._builtin]
        if missing:
            raise PackageError(
                f"module {item.name} needs {', '.join(missing)}, which the kernel does not have"
            )
        return [name for name in item.depends if name in self._modules]

    def _soft(self, name: str) -> list[str]:
        plain = name.replace("-", "_")
        return [plain] if plain in self._modules else self._exact.get(name, [])

    def order(self, item: Module) -> tuple[Module, ...]:
        """Give what ``item`` needs, each before what it needs itself: modprobe loads the last one first."""
        done: dict[str, Module] = {}

        def visit(name: str, above: tuple[str, ...]) -> None:
            if name in done or name in above:
                return
            for below in self._depends(self._modules[name]):
                visit(below, (*above, name))
            done[name] = self._modules[name]

        visit(item.name, ())
        return tuple(reversed([other for name, other in done.items() if name != item.name]))

    def files(self, chosen: Iterable[Module]) -> Iterator[tuple[str, str]]:
        """Give modules.dep, modules.alias and modules.softdep for ``chosen``: names and texts."""
        items = sorted(chosen, key=lambda item: item.path)
        yield (
            "modules.alias",
            _HEAD_ALIAS + "".join(f"alias {alias} {item.name}\n" for item in items for alias in item.aliases),
        )
        yield "modules.dep", "".join(self._line(item) for item in items)
        yield (
            "modules.softdep",
            _HEAD_SOFT + "".join(f"softdep {item.name} {text}\n" for item in items for text in item.softdeps),
        )

    def _line(self, item: Module) -> str:
        return " ".join((f"{item.path}:", *(other.path for other in self.order(item)))) + "\n"


_HEAD_ALIAS = "# Aliases extracted from modules themselves.\n"
_HEAD_SOFT = "# Soft dependencies extracted from modules themselves.\n"


def soft_names(item: Module) -> Iterator[str]:
    """Give the names in a module's soft dependencies, of both kinds."""
    for text in item.softdeps:
        yield from (word for word in text.split() if not word.endswith(":"))
