"""Versions of installed packages are those that importlib tells."""

import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from linuxkit_rules import installed
from linuxkit_rules.installed import version


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    version.cache_clear()
    yield
    version.cache_clear()


@pytest.mark.parametrize("name", ["pycdlib", "scons", "PyYAML", "pyyaml"])
def test_installed_packages_need_no_importlib(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = metadata.version(name)
    monkeypatch.setattr(installed, "_asked", lambda name: "asked")
    assert version(name) == expected


def dist(folder: Path, name: str, number: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "METADATA").write_text(f"Metadata-Version: 2.1\nName: some_thing\nVersion: {number}\n")


def egg(folder: Path, name: str, number: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: some_thing\nVersion: {number}\n")


def zipped(folder: Path, number: str) -> Path:
    with zipfile.ZipFile(folder / "some.zip", "w") as archive:
        text = f"Metadata-Version: 2.1\nName: some_thing\nVersion: {number}\n"
        archive.writestr(f"some_thing-{number}.dist-info/METADATA", text)
    return folder / "some.zip"


def test_the_first_on_the_path_counts_whatever_its_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dist(tmp_path / "dist", "some_thing-1.0.dist-info", "1.0")
    dist(tmp_path / "dist", "some_thing_else-9.dist-info", "9")
    dist(tmp_path / "case", "Some.Thing-2.0.dist-info", "2.0")
    egg(tmp_path / "egg", "some_thing-3.0.egg-info", "3.0")
    egg(tmp_path / "some_thing-3.5.egg", "EGG-INFO", "3.5")
    folders = [tmp_path / "dist", tmp_path / "case", tmp_path / "egg", tmp_path / "some_thing-3.5.egg"]
    folders.append(zipped(tmp_path, "4.0"))
    for folder in (*folders, tmp_path / "missing"):
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
        version.cache_clear()
        assert version("some_thing") == metadata.version("some_thing")
    assert version("some_thing") == "4.0"


def test_what_is_not_installed_is_said() -> None:
    with pytest.raises(metadata.PackageNotFoundError, match="no-such-thing"):
        version("no-such-thing")
