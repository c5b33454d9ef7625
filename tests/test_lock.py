import dataclasses
from pathlib import Path

import pytest

from linuxkit_rules.debian.lock import (
    LIBRARY_LOCK,
    Lock,
    Needs,
    Pin,
    format_lock,
    load_lock,
    parse_lock,
    recipe,
)
from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import PackageError
from linuxkit_rules.plan.update import library
from linuxkit_rules.spec.component import Component, parse_component

BUILD = "image: web\narch: [amd64]\npackages:\n  - nginx: [usr/sbin/nginx]\n"


def _component(text: str = BUILD) -> Component:
    return parse_component(text, "web/build.yml")


def _pin(name: str) -> Pin:
    return Pin(name, "1:2.0-1", "amd64", f"pool/main/{name}.deb", 7, Digest.of(name.encode()))


def _lock(component: Component) -> Lock:
    needs = Needs(recipe(component), {"amd64": ("libc6", "nginx")})
    return Lock(("bookworm",), {"web": needs}, {"amd64": {name: _pin(name) for name in ("nginx", "libc6")}})


def test_a_lock_is_read_as_it_was_written() -> None:
    lock = _lock(_component())
    text = format_lock(lock)
    assert parse_lock(text, "x") == lock
    assert format_lock(parse_lock(text, "x")) == text


def test_each_package_has_a_line_of_its_own() -> None:
    lines = format_lock(_lock(_component())).splitlines()
    assert [line.split('"')[1] for line in lines if '"sha256"' in line] == ["libc6", "nginx"]


def test_pins_are_those_of_the_component() -> None:
    component = _component()
    assert _lock(component).pins(component, "amd64") == (_pin("libc6"), _pin("nginx"))


def test_a_component_without_packages_needs_no_lock() -> None:
    assert Lock(("bookworm",)).pins(_component("image: plain\n"), "amd64") == ()


@pytest.mark.parametrize(
    "change",
    [
        "exclude: [usr/share/**]",
        "closure: false",
        "kernel: {package: linux-image-*}",
    ],
)
def test_a_change_of_what_is_taken_asks_for_a_new_lock(change: str) -> None:
    lock = _lock(_component())
    with pytest.raises(PackageError, match=r"web/build.yml.*component web has changed.*moby lock"):
        lock.pins(_component(f"{BUILD}{change}\n"), "amd64")


def test_other_changes_need_no_new_lock() -> None:
    lock = _lock(_component())
    changed = _component(f"{BUILD}cmd: [/usr/sbin/nginx]\nusers: []\nlinks: {{a: b}}\n")
    assert lock.pins(changed, "amd64") == (_pin("libc6"), _pin("nginx"))


def test_what_is_not_locked_is_an_error() -> None:
    component = _component()
    with pytest.raises(PackageError, match=r"component web is not in .*moby lock"):
        Lock(("bookworm",)).pins(component, "amd64")
    with pytest.raises(PackageError, match="not made for arm64"):
        _lock(component).pins(component, "arm64")
    torn = dataclasses.replace(_lock(component), packages={"amd64": {"nginx": _pin("nginx")}})
    with pytest.raises(PackageError, match="names libc6 for web but does not pin it"):
        torn.pins(component, "amd64")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"suites": [], "components": {}, "packages": {"amd64": {"a": {}}}}']
)
def test_a_damaged_lock_is_an_error(text: str) -> None:
    with pytest.raises(PackageError, match=r"some/lock: the lock is damaged"):
        parse_lock(text, "some/lock")


def test_a_missing_lock_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"cannot read the lock: No such file.*moby lock"):
        load_lock(tmp_path / "packages.lock")


def test_the_library_is_locked_as_it_is() -> None:
    lock = load_lock(LIBRARY_LOCK)
    for component in library():
        for arch in component.arch:
            lock.pins(component, arch)
    assert format_lock(lock) == LIBRARY_LOCK.read_text()
    assert lock.components.keys() == {item.image for item in library() if item.packages}
