"""Host programs for tests."""

import shutil

import pytest


def tool(name: str, program: str) -> list[str]:
    """The command that starts ``program`` of the tool ``name``."""
    found = shutil.which(program.rpartition("/")[2])
    if found is None:
        pytest.skip(f"{name} is not installed")
    return [found]
