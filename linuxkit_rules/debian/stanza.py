"""Stanzas of fields, as Debian's control files, indexes and sources lists have them.

deb822(5).
"""

from __future__ import annotations

from collections.abc import Iterator

Stanza = dict[str, str]
"""Field name in lower case to value; lines of a multi-line value are joined by line feeds."""


def stanzas(text: str) -> Iterator[Stanza]:
    """Give the stanzas of ``text``; comments and lines that are no field are passed over."""
    stanza: Stanza = {}
    name = ""
    for line in text.split("\n"):
        if not line.strip():
            if stanza:
                yield stanza
            stanza, name = {}, ""
        elif line.startswith("#"):
            continue
        elif line[0] in " \t":
            if name:
                stanza[name] += "\n" + line.strip()
        else:
            field, colon, value = line.partition(":")
            name = field.lower() if colon else ""
            if name:
                stanza[name] = value.strip()
    if stanza:
        yield stanza
