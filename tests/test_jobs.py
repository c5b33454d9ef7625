"""The number of steps that SCons runs at once: the machine's processors, where nobody says otherwise."""

import os
from pathlib import Path

import pytest

from tests.project import Project

TEXT = """\
from linuxkit_rules import linuxkit
env = Environment(tools=[linuxkit])
{before}
env.LinuxKitImage("out/tiny", "tiny.yml", formats=["kernel+initrd"])
{after}
print("at once:", GetOption("num_jobs"))
"""


def at_once(folder: Path, *arguments: str, before: str = "", after: str = "", **environment: str) -> str:
    project = Project.make(folder, TEXT.format(before=before, after=after))
    said = project.scons("-n", *arguments, **environment)
    return next(line for line in said.splitlines() if line.startswith("at once: ")).removeprefix("at once: ")


def test_all_processors_are_used(tmp_path: Path) -> None:
    assert at_once(tmp_path) == str(len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("arguments", [("-j5",), ("--jobs=5",)])
def test_the_command_line_wins(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert at_once(tmp_path, *arguments, LINUXKIT_JOBS="3") == "5"
    assert at_once(tmp_path, *arguments, before='SetOption("num_jobs", 4)') == "5"


def test_one_is_what_somebody_may_want(tmp_path: Path) -> None:
    assert at_once(tmp_path, "-j1", LINUXKIT_JOBS="3") == "1"
    assert at_once(tmp_path, SCONSFLAGS="-j1", LINUXKIT_JOBS="3") == "1"


def test_the_sconstruct_wins(tmp_path: Path) -> None:
    says = 'SetOption("num_jobs", 4)'
    assert at_once(tmp_path, before=says, LINUXKIT_JOBS="3") == "4"
    assert at_once(tmp_path, after=says, LINUXKIT_JOBS="3") == "4"


def test_the_variable_says_how_many_or_leaves_it_to_scons(tmp_path: Path) -> None:
    assert at_once(tmp_path, LINUXKIT_JOBS="3") == "3"
    assert at_once(tmp_path, LINUXKIT_JOBS="0") == "1"
    assert at_once(tmp_path, before='env["LINUXKIT_JOBS"] = 6') == "6"


@pytest.mark.parametrize("value", ["many", "-2", "1.5"])
def test_what_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    project = Project.make(tmp_path)
    said = project.scons("-n", check=False, LINUXKIT_JOBS=value)
    assert f"LINUXKIT_JOBS='{value}' is no number of steps (0 leaves it to SCons)" in said


def test_a_sconstruct_without_images_is_left_alone(tmp_path: Path) -> None:
    text = "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
    project = Project.make(tmp_path, text + 'print("at once:", GetOption("num_jobs"))\n')
    assert "at once: 1\n" in project.scons("-n", LINUXKIT_JOBS="3")
