"""``moby schema``: the JSON schema of the YAML."""

from __future__ import annotations

import argparse

from linuxkit_rules.cli.streams import show

NAME = "schema"
HELP = "print the YAML's JSON schema, for editors"


def grammar(parser: argparse.ArgumentParser) -> None:
    """It has no options."""
    parser.set_defaults(command=schema)


def schema(options: argparse.Namespace) -> int:
    """``moby schema``: print the JSON schema of LinuxKit's YAML."""
    from linuxkit_rules.spec.schema import text

    return show(text())
