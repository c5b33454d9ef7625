"""Versions of installed packages."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from linuxkit_rules.installed import version


@pytest.mark.parametrize("name", ["pycdlib", "linuxkit_rules", "scons", "PyYAML"])
def test_versions_are_those_of_importlib(name: str) -> None:
    assert version(name) == metadata.version(name)


def test_the_first_folder_of_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, number in (("one", "1.0"), ("two", "2.0")):
        (tmp_path / folder / f"some_thing-{number}.dist-info").mkdir(parents=True)
        (tmp_path / folder / f"some_thing_else-{number}9.dist-info").mkdir(parents=True)
        monkeypatch.syspath_prepend(tmp_path / folder)
    sys.path.insert(0, str(tmp_path / "missing"))
    assert version("some_thing") == "2.0"


def test_what_is_not_installed_is_said() -> None:
    with pytest.raises(metadata.PackageNotFoundError, match="no-such-thing"):
        version("no-such-thing")
