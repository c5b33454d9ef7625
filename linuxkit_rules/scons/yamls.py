"""YAMLs as SCons's nodes: where each can be read, what messages call it, and what formats they choose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from linuxkit_rules.digest import canonical_json
from linuxkit_rules.plan.memo import Evidence, Memo

STDIN = "-"
"""What command line and messages call standard input."""


class Yaml(NamedTuple):
    """A YAML: its node, its ``name`` in messages, the node of the folder from which its paths count."""

    node: Any
    name: str
    folder: Any

    def path(self) -> Path:
        """Where it can be read while SConscripts are: a variant folder may not be filled yet."""
        node = self.node.rfile() if self.node.exists() else self.node.srcnode()
        return Path(node.get_abspath())

    def base(self) -> Path:
        """Give the folder as a path."""
        own = self.folder is self.node.dir
        return self.path().parent if own else Path(self.folder.get_abspath())


def yaml_of(node: Any) -> Yaml:
    """Describe the node of a YAML."""
    folder = getattr(node.attributes, "linuxkit_stdin", None)
    return Yaml(node, str(node), node.dir) if folder is None else Yaml(node, STDIN, folder)


def mark_stdin(node: Any, folder: Any) -> None:
    """Say that the file holds standard input, whose relative paths count from ``folder``."""
    node.attributes.linuxkit_stdin = folder


def chosen(yamls: Sequence[Yaml], memo: Memo) -> list[str]:
    """Give the formats that YAMLs choose by ``outputs:``, in order; raise LinuxKitError for a fault there.

    The answer is remembered while the YAMLs' contents stay, so that none is parsed in vain.
    """
    question = canonical_json(["outputs", *([yaml.name, str(yaml.path())] for yaml in yamls)]).decode()
    known = memo.recall(question)
    if known:
        return list(known.answer)
    from linuxkit_rules.outputs.registry import named
    from linuxkit_rules.spec.linuxkit import load

    evidence = Evidence()
    specs = [load(evidence.file(yaml.path()), yaml.name, yaml.base()) for yaml in yamls]
    names = list(dict.fromkeys(named([output for spec in specs for output in spec.outputs])))
    memo.keep(question, names, evidence)
    return names
