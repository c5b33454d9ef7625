"""Holds config.json, runtime.json, metadata and the files section against LinuxKit's own, recorded."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import pytest
import yaml

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.layout import Layout
from linuxkit_rules.oci.reference import Reference
from linuxkit_rules.spec.linuxkit import File, Spec
from linuxkit_rules.spec.merge import load_all
from linuxkit_rules.stages.bundle import bundles, entries
from linuxkit_rules.stages.files import items, layout
from linuxkit_rules.stages.image import resolve
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store

SUITE = Path(__file__).resolve().parents[2] / "shared" / "conformance"
CASES = sorted(path.name for path in (SUITE / "cases").glob("*")) if SUITE.is_dir() else []
INVALID = sorted(path.name for path in (SUITE / "invalid").glob("*")) if SUITE.is_dir() else []
OURS = [[], ["config.json"], ["runtime.json"], ["tmp"], ["rootfs"]]
"""What bundles make below a container's directory; a rootfs with the image's files is another stage's."""

ROOT = "the image's files go here"
ELSEWHERE = ("image-", "kernel-", "init-", "template-", "volume-oci", "file-source-")
CAPABILITIES = {"bounding", "effective", "inheritable", "permitted", "ambient"}

pytestmark = pytest.mark.skipif(not CASES, reason=f"the conformance suite is not at {SUITE}")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(Store(tmp_path_factory.mktemp("store")))


@functools.cache
def images() -> Layout:
    return Layout.at(SUITE / "images")


def golden(folder: Path) -> dict:
    return json.loads((folder / "golden.json").read_text())


def read(folder: Path, record: dict) -> Spec:
    return load_all([folder / name for name in record["inputs"]])


def image(engine: Engine, text: str, arch: str) -> Descriptor:
    found = resolve(Reference.parse(text), arch, [images()], SUITE)
    return engine.run(found.stage, {}).output


def find(folder: Path, home: Path, file: File) -> Path | None:
    path = home / file.source[2:] if file.source.startswith("~/") else folder / file.source
    return None if file.optional and not path.exists() else path


def tree(engine: Engine, folder: Path, record: dict) -> dict[str, Entry]:
    """Everything that the bundles and the files section make."""
    spec = read(folder, record)
    found: dict[str, Entry] = {}
    for item, stage in bundles(spec):
        inputs = {"image": (image(engine, item.image, record["arch"]),)}
        bundle = engine.run(stage, inputs).output
        for entry in entries(bundle, engine.store):
            found[entry.path] = entry
        root = json.loads(engine.store.read(bundle.digest))["root"]
        if root:
            found[root] = Entry(root, Kind.SYMLINK, link=ROOT)
    wanted, sources = items(spec, lambda file: find(folder, folder / (record.get("home") or ""), file))
    stored = {role: engine.store.put_file(path) for role, path in sources.items()}
    return found | layout(wanted, lambda index: stored[f"source:{index}"])


def as_sets(value, parent=""):
    if isinstance(value, dict):
        return {key: as_sets(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return sorted(set(value)) if parent in CAPABILITIES else [as_sets(item) for item in value]
    return value


def content(engine: Engine, entry: Entry) -> bytes:
    if isinstance(entry.content, bytes):
        return entry.content
    return engine.store.read(entry.content.digest)


def expected(record: dict) -> dict[str, dict]:
    """The last record of each path that bundles or files make, with the right ones where upstream strays."""
    wanted = {}
    for entry in record["entries"]:
        place = record["provenance"][entry["src"]][0] if "src" in entry else ""
        name = entry["path"]
        parts = name.split("/")
        bundle = parts[0] == "containers" and not place.startswith("volume")
        if place.startswith("files[") or (bundle and parts[3:] in OURS):
            path = "/".join(part for part in name.split("/") if part not in ("", "."))
            wanted[path] = entry
    for deviation in record["deviations"]:
        if deviation["path"] in wanted and deviation["correct"]:
            wanted[deviation["path"]] = deviation["correct"]
    return wanted


@pytest.mark.parametrize("case", CASES)
def test_bundles_and_files_are_those_of_linuxkit(engine, case):
    folder = SUITE / "cases" / case
    record = golden(folder)
    made = tree(engine, folder, record)
    roots = {path for path, entry in made.items() if entry.kind is Kind.SYMLINK and entry.link == ROOT}
    wanted = expected(record)
    assert made.keys() - roots <= wanted.keys()
    for path in wanted.keys() - roots:
        check(engine, folder, made[path], wanted[path])


def check(engine, folder, entry, want):
    kinds = {"dir": Kind.DIRECTORY, "file": Kind.FILE, "symlink": Kind.SYMLINK}
    assert entry.kind is kinds[want["type"]]
    if entry.kind is not Kind.SYMLINK:
        assert entry.mode == int(want["mode"], 8)
    assert (entry.uid, entry.gid, entry.mtime) == (want.get("uid", 0), want.get("gid", 0), want["mtime"])
    assert entry.link == want.get("link", "")
    if entry.kind is not Kind.FILE:
        return
    data = content(engine, entry)
    if want.get("semantic") == "json":
        document = json.loads((folder / want["content"]).read_text())
        assert as_sets(json.loads(data)) == as_sets(document)
    elif want.get("semantic") == "yaml":
        assert yaml.safe_load(data) == yaml.safe_load((folder / want["content"]).read_text())
    else:
        assert hashlib.sha256(data).hexdigest() == want["sha256"]


def test_config_and_runtime_are_the_same_bytes_as_linuxkits(engine):
    """The text is the same too, but where LinuxKit strays, or names a capability twice."""
    other = []
    for case in CASES:
        folder = SUITE / "cases" / case
        record = golden(folder)
        stray = {deviation["path"] for deviation in record["deviations"]}
        made = tree(engine, folder, record)
        for path, want in expected(record).items():
            if want.get("semantic") == "json" and path.startswith("containers/") and path not in stray:
                same = hashlib.sha256(content(engine, made[path])).hexdigest() == want["sha256"]
                other += [] if same else [f"{case}: {path}"]
    assert other == ["opts-caps: containers/services/s8/config.json"]


def refusal(engine: Engine, folder: Path, record: dict) -> str:
    try:
        tree(engine, folder, record)
    except (LinuxKitError, OSError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", INVALID)
def test_wrong_yamls_are_refused_with_a_place(engine, case):
    """Faults of images and kernels are found elsewhere; the others must be found here."""
    folder = SUITE / "invalid" / case
    record = golden(folder)
    message = refusal(engine, folder, record)
    if record["want"] == "accept":
        assert message == ""
    elif record["want"] == "reject" and not case.startswith(ELSEWHERE):
        assert str(folder) in message or "label org.mobyproject.config" in message
