"""README and continuous integration say what works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from linuxkit_rules.outputs.registry import outputs
from linuxkit_rules.scons.settings import DEFAULTS
from linuxkit_rules.spec.component import parse_component
from linuxkit_rules.spec.linuxkit import loads
from tests.project import Project

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_continuous_integration_runs_the_second_command() -> None:
    build, test = (block.strip() for block in blocks("sh")[:2])
    assert build.endswith("scons out/redisos.iso")
    assert test in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_yaml_is_the_example() -> None:
    shown = loads(blocks("yaml")[0], "README.md")
    assert shown == loads((ROOT / "examples" / "redisos.yml").read_text(), "redisos.yml")


def test_the_component_is_the_library_s() -> None:
    shown = parse_component(blocks("yaml")[1], "README.md")
    assert shown == parse_component((ROOT / "linuxkit_rules/pkg/redis/build.yml").read_text(), "build.yml")


def test_the_policy_is_one() -> None:
    trust = loads(blocks("yaml")[2], "README.md").trust
    assert (trust.keys, trust.org, trust.image) == (("release.pub",), ("linuxkit",), ("library/redis",))
    assert trust.policy[0].threshold == len(trust.policy[0].keys) == 2


def test_every_format_and_variable_is_in_its_table() -> None:
    for output in outputs().values():
        suffixes = ", ".join(f"`{suffix}`" for suffix in output.suffixes)
        assert f"| `{output.name}` | {suffixes} |" in README
    for name in DEFAULTS:
        assert f"| `{name}` |" in README


def test_every_component_is_named() -> None:
    paragraph = README[README.index("The library:") :].partition("\n\n")[0]
    library = {path.parent.name for path in (ROOT / "linuxkit_rules" / "pkg").glob("*/build.yml")}
    assert set(re.findall(r"`([a-z-]+)`", paragraph)) == library


def test_the_sconstruct_works(tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project", blocks("python")[0].replace("redisos", "tiny"))
    assert "iso iso" in project.scons("-n", "out/tiny.iso")


@pytest.mark.parametrize(
    "command", ["build", "run", "lock", "vendor", "store", "store gc", "store verify", "schema"]
)
def test_the_commands_explain_themselves(command: str) -> None:
    line = [sys.executable, "-m", "linuxkit_rules", *command.split(), "--help"]
    result = subprocess.run(line, capture_output=True, text=True, check=True)
    assert f"usage: moby {command}" in result.stdout
    for option in re.findall(rf"moby {command}(?! gc| verify)(.*)", README):
        for name in re.findall(r"--[a-z-]+", option):
            assert name in result.stdout
