"""A spec written as YAML reads back as the same spec, to every reader."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from linuxkit_rules.spec.emit import emit
from linuxkit_rules.spec.linuxkit import loads
from linuxkit_rules.spec.merge import load_all
from linuxkit_rules.spec.yamlfile import parse
from tests.test_conformance_bundles import CASES, SUITE, golden

ODD = [
    "yes",
    "y",
    "N",
    "on",
    "1:30",
    "010",
    "0o17",
    "1e3",
    "08",
    "1_000",
    "=",
    "<<",
    "~",
    "",
    "-",
    "? a",
    "# x",
]
ODD += ["2001-12-14", "0x1F", ".inf", "+.inf", "null", "a: b", "a #b", " a", "a ", "a\n", "\na", "a\n\n b\n"]
ODD += [
    "a\tb",
    "\x7f",
    "\x85a\nb",
    "\u2028",
    "ü",
    "\U0001f600",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a",
    "true",
    "- a",
]

TEXT = """\
kernel: {image: "k:1", cmdline: "a  b", tar: ""}
init: ["i:1", "010"]
services:
  - name: "yes"
    image: b:1
    binds: []
    sysctl: {"y": "1", a: "0o17"}
    uid: 0
    runtime: {mkdir: [/m], bindNS: {net: /n}}
files: [{path: a, contents: ""}, {path: b, contents: "one\\ntwo\\n", mode: "0644"}]
trust: {org: [linuxkit], image: [a/b]}
outputs: [{format: kernel+initrd}, {format: iso}]
"""
WRITTEN = """\
kernel:
  image: k:1
  cmdline: a  b
  tar: ""
init:
- i:1
- "010"
services:
- name: 'yes'
  image: b:1
  binds: []
  uid: 0
  sysctl:
    "y": "1"
    a: "0o17"
  runtime:
    mkdir:
    - /m
    bindNS:
      net: /n
files:
- path: a
  contents: ""
- path: b
  contents: |
    one
    two
  mode: "0644"
trust:
  org:
  - linuxkit
  image:
  - a/b
outputs:
- format: kernel+initrd
- format: iso
"""


def test_only_what_was_given_is_written() -> None:
    spec = loads(TEXT, "f.yml")
    assert emit(spec) == WRITTEN
    assert loads(WRITTEN, "g.yml") == spec
    assert emit(loads("{}", "f.yml")) == "{}\n"


def _with(texts: list[str]) -> str:
    files = [{"path": "f", "contents": text} for text in texts]
    labels = {text: text for text in texts}
    services = [{"name": "a", "image": "b:1", "env": texts, "annotations": labels}]
    return yaml.safe_dump({"files": files, "services": services}, default_style='"', width=1 << 30)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3))
@example(ODD)
@example(["x" * 5000 + " " + "y" * 5000])
def test_any_text_survives(texts: list[str]) -> None:
    spec = loads(_with(texts), "f.yml")
    written = emit(spec)
    assert loads(written, "g.yml") == spec
    assert yaml.safe_load(written) == parse(written, "g.yml").plain()


@pytest.mark.skipif(not CASES, reason=f"the conformance suite is not at {SUITE}")
@pytest.mark.parametrize("case", CASES)
def test_cases_of_linuxkit_read_back(case: str) -> None:
    folder: Path = SUITE / "cases" / case
    spec = load_all([folder / name for name in golden(folder)["inputs"]])
    assert loads(emit(spec), "g.yml") == spec
