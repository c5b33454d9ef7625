"""The formats' names and suffixes, remembered: the formats themselves import every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from linuxkit_rules.plan.memo import Evidence, Memo

_QUESTION = "formats"


class Formats:
    """Suffixes of each format's files, by its name."""

    def __init__(self, suffixes: Mapping[str, Sequence[str]]) -> None:
        self.suffixes = suffixes

    @classmethod
    def find(cls, memo: Memo) -> Formats:
        """Give them from memory, or from the modules."""
        known = memo.recall(_QUESTION)
        if known:
            return cls(known.answer)
        from linuxkit_rules.outputs.registry import outputs

        found = {name: output.suffixes for name, output in outputs().items()}
        memo.keep(_QUESTION, found, Evidence())
        return cls(found)

    def by_name(self, name: str) -> str:
        """Give the format's name as it is written; raise UsageError where there is none."""
        if name.strip() in self.suffixes:
            return name.strip()
        from linuxkit_rules.outputs.registry import by_name

        return by_name(name).name

    def by_file(self, file_name: str) -> tuple[str, str]:
        """Give the format that makes ``file_name``, and the image's name; raise UsageError where none is."""
        for suffix, name in self.pairs():
            if file_name.endswith(suffix) and len(file_name) > len(suffix):
                return name, file_name.removesuffix(suffix)
        from linuxkit_rules.outputs.registry import by_file

        output, image = by_file(file_name)
        return output.name, image

    def pairs(self) -> list[tuple[str, str]]:
        """Give pairs of suffix and format, longest first; ``.iso`` is the hybrid's."""
        pairs = [(suffix, name) for name, suffixes in self.suffixes.items() for suffix in suffixes]
        return sorted(pairs, key=lambda pair: (-len(pair[0]), pair[1]))
