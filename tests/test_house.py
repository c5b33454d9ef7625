"""The house: linters, types and architecture as ordinary tests."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "linuxkit_rules"

# From the ground up; a module may import its own room and those before it.
ROOMS = [
    "errors",
    "values",
    "installed",
    "digest",
    "formats",
    "store",
    "spec",
    "oci",
    "debian",
    "remote",
    "stages",
    "host",
    "plan",
    "outputs",
    "scons",
    "run",
    "cli",
    "__main__",
]


FIELDS = {"field", "dataclasses.field", "key", "hidden"}
"""Calls that give a field of a dataclass."""

STATELESS = {"Path", "Spec", "Untraced"}
"""Calls that give a value which all may share."""


def modules() -> list[Path]:
    return sorted(
        path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py"
    )


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]],
    ids=["ruff-check", "ruff-format", "mypy"],
)
def test_linter(command: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_imports_go_down_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        for name in imports(path)
        if name.startswith("linuxkit_rules.") and ROOMS.index(name.split(".")[1]) > ROOMS.index(room(path))
    ]
    assert wrong == []


def test_scons_is_imported_in_one_room() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules()
        if room(path) != "scons" and any(name.split(".")[0] == "SCons" for name in imports(path))
    ]
    assert wrong == []


def test_only_the_command_line_and_the_tool_read_the_environment_or_print() -> None:
    wrong = []
    for path in modules():
        if room(path) in ("cli", "host", "scons", "run"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                wrong.append(f"{path.name}:{node.lineno} reads the environment")
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("print", "exit")
            ):
                wrong.append(f"{path.name}:{node.lineno} calls {node.func.id}")
    assert wrong == []


def test_every_stage_and_output_has_a_docstring_that_is_its_manual() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules()
        if room(path) in ("stages", "outputs")
        and len(ast.get_docstring(ast.parse(path.read_text())) or "") < 60
    ]
    assert wrong == []


def test_library_is_whole_in_a_wheel() -> None:
    """Wheels hold no symbolic links and no empty folders; a component says them in its build.yml."""
    library = [path for room in ("pkg", "tools") for path in (PACKAGE / room).rglob("*")]
    assert [path for path in library if path.is_symlink()] == []
    assert [path for path in library if path.is_dir() and not any(path.iterdir())] == []


def called_defaults(path: Path) -> Iterator[str]:
    """Calls that are defaults of a dataclass's fields, and so made once for all values."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and any(
            "dataclass" in ast.unparse(item) for item in node.decorator_list
        ):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.value, ast.Call):
                    yield ast.unparse(item.value.func)


def test_defaults_of_fields_are_not_called_unless_they_have_no_state() -> None:
    """Ruff's RUF008 and RUF009 know the standard library's dataclasses alone."""
    found = {call for path in modules() for call in called_defaults(path)}
    assert found <= FIELDS | STATELESS
