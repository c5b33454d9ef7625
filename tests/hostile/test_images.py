"""Hostile images go through the stages that every image goes through, and are refused or handled exactly."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.oci.reference import parse_source
from linuxkit_rules.stages.image import resolve
from linuxkit_rules.stages.rootfs import image_tree
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.hostile import documents, fields, kinds, links, names, overrides, resources, streams, whiteouts
from tests.hostile.cases import Case, told
from tests.images import Blobs

NAME = "registry.example/team/app:1"
THEMES = (names, links, whiteouts, fields, overrides, kinds, streams, documents, resources)
CASES = [(module.__name__.rpartition(".")[2], case) for module in THEMES for case in module.CASES]


def put(case: Case, root: Path) -> list[bytes]:
    """Write the image as a layout; give its layers' digests, packed and plain."""
    blobs = Blobs()
    top = case.build(blobs)
    for name, data in blobs.files((top, {REF_NAME: NAME})).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return re.findall(rb"sha256:[0-9a-f]{64}", b"".join(blobs.data.values()))


@pytest.mark.parametrize(("theme", "case"), CASES, ids=[f"{theme}: {case.name}" for theme, case in CASES])
def test_hostile_image(theme: str, case: Case, tmp_path: Path, count: Callable[..., None]) -> None:
    digests = put(case, tmp_path / "layout")
    engine = Engine(Store(tmp_path / "store"), limits=case.limits)

    def tree() -> dict[str, str]:
        stage = resolve(parse_source(f"oci:layout:{NAME}"), "amd64", [], tmp_path).stage
        found = image_tree(engine.run(stage, {}).output, engine, f"oci:layout:{NAME}")
        attributes = {path: found[path] for path in case.attributes}
        assert {
            path: (entry.mode, entry.uid, entry.gid, entry.mtime) for path, entry in attributes.items()
        } == case.attributes
        return {path: told(entry, engine.store) for path, entry in found.items()}

    if not case.refused:
        assert tree() == case.tree
        count("hostile layers and images: handled as specified")
        return
    with pytest.raises(LinuxKitError, match=case.refused) as caught:
        tree()
    message = str(caught.value)
    assert message.startswith(f"oci:layout:{NAME}: ")
    assert message.isprintable()
    assert len(message) < 2000
    assert not case.layer or any(digest.decode() in message for digest in digests)
    assert case.entry is None or f"entry {case.entry!r}: " in message
    assert not list((tmp_path / "store" / "tmp").glob("*"))
    count("hostile layers and images: refused")


def test_there_are_enough_cases_and_none_twice() -> None:
    assert len(CASES) >= 120
    assert [name for name, times in Counter(case.name for _, case in CASES).items() if times > 1] == []
    for _, case in CASES:
        assert bool(case.refused) != bool(case.tree or case.attributes)
        re.compile(case.refused)
