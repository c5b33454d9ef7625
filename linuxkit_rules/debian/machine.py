"""What an architecture's name means: Debian's multiarch triplet, ELF machine and word size."""

from __future__ import annotations

from collections.abc import Iterable

from linuxkit_rules.errors import PackageError
from linuxkit_rules.formats import elf
from linuxkit_rules.values import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """One architecture; ``gnu`` is Debian's multiarch tuple, ``elf`` the ``EM_`` number."""

    arch: str
    gnu: str
    elf: int

    @property
    def libraries(self) -> tuple[str, ...]:
        """The folders where its dynamic linker looks, usr-merged."""
        return (f"usr/lib/{self.gnu}", "usr/lib", "usr/lib64")

    def expand(self, text: str) -> str:
        """Put the names in the place of ``${arch}`` and ``${gnu}``."""
        return text.replace("${arch}", self.arch).replace("${gnu}", self.gnu)

    def expand_all(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Expand each of ``texts``."""
        return tuple(self.expand(text) for text in texts)


_MACHINES = {
    item.arch: item
    for item in (
        Machine("amd64", "x86_64-linux-gnu", elf.EM_X86_64),
        Machine("arm64", "aarch64-linux-gnu", elf.EM_AARCH64),
    )
}


def machine(arch: str) -> Machine:
    """Give the machine called ``arch`` by Debian; raise PackageError for one that is not known."""
    try:
        return _MACHINES[arch]
    except KeyError:
        raise PackageError(
            f"there is no architecture {arch!r}", hint=f"one of {', '.join(_MACHINES)}"
        ) from None
