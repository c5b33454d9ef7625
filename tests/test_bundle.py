"""Stages bundle, segment, container-rootfs and files: what lies where, and what runs again."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import ImageError, SpecError
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.image import save
from linuxkit_rules.oci.manifest import LAYER
from linuxkit_rules.spec.image import ImageConfig
from linuxkit_rules.spec.linuxkit import File, Spec, loads
from linuxkit_rules.spec.merge import merge
from linuxkit_rules.stages.bundle import Bundle, Place, bundles, entries
from linuxkit_rules.stages.files import Files, items
from linuxkit_rules.stages.pack import FIXED_TIME
from linuxkit_rules.stages.segment import ContainerRootfs, Segment
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.store.blobs import Store
from tests.images import tar

PLAIN = {"compression": Compression.NONE}


@pytest.fixture
def engine(tmp_path):
    return Engine(Store(tmp_path / "store"))


def image(engine: Engine, label: str = "", **config: object) -> Descriptor:
    data = tar(hello=b"hi\n")
    layer = engine.store.put(data, LAYER)
    settings = {"Cmd": ["/app"], "Labels": {"org.mobyproject.config": label}, **config}
    value = {
        "os": "linux",
        "architecture": "amd64",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [str(layer.digest)]},
    }
    return save(engine.store, json.dumps(value).encode(), (layer,)).output


def spec(text: str) -> Spec:
    return merge([loads(text, "f.yml")])


def tree(engine: Engine, bundle: Descriptor) -> dict[str, Entry]:
    return {entry.path: entry for entry in entries(bundle, engine.store)}


def members(engine: Engine, segment: Descriptor) -> list[Entry]:
    return list(cpio.read(io.BytesIO(engine.store.read(segment.digest))))


TWO = """
onboot: [{name: a, image: x:1}, {name: b, image: x:1, readonly: true}]
services: [{name: s, image: x:1, command: [/bin/s]}, {name: t, image: y:1}]
"""


def test_containers_are_numbered_but_services():
    directories = [stage.place.directory for _, stage in bundles(spec(TWO))]
    assert directories == [
        "containers/onboot/000-a",
        "containers/onboot/001-b",
        "containers/services/s",
        "containers/services/t",
    ]


def test_the_first_container_of_an_image_has_its_files():
    first = [stage.first and stage.first.name for _, stage in bundles(spec(TWO))]
    assert first == [None, "a", "a", None]
    assert [stage.first for _, stage in bundles(spec(TWO), lambda item: item.name)] == [None] * 4


def test_a_writable_container_has_an_overlay(engine):
    stage = Bundle(Place("services", 0, "s"))
    found = tree(engine, engine.run(stage, {"image": (image(engine),)}).output)
    base = "containers/services/s"
    assert list(found) == [
        "containers",
        "containers/services",
        base,
        f"{base}/tmp",
        f"{base}/rootfs",
        f"{base}/config.json",
        f"{base}/runtime.json",
    ]
    assert {entry.mode for entry in found.values()} == {0o755, 0o644}
    assert {entry.mtime for entry in found.values()} == {FIXED_TIME}
    content = found[f"{base}/runtime.json"].content
    assert isinstance(content, bytes)
    assert json.loads(content)["mounts"][-1]["options"][0] == f"lowerdir=/{base}/lower"


@pytest.mark.parametrize(("wanted", "directory"), [(None, "rootfs"), (False, "lower")])
def test_the_label_can_make_the_root_read_only_and_the_yaml_writable_again(engine, wanted, directory):
    source = {"image": (image(engine, '{"readonly": true}'),)}
    place = Place("onboot", 2, "o", wanted)
    segment = engine.run(ContainerRootfs(place=place, **PLAIN), source).output
    assert f"containers/onboot/002-o/{directory}/hello\0".encode() in engine.store.read(segment.digest)
    bundle = engine.run(Bundle(place, ImageConfig(readonly=wanted)), source).output
    assert json.loads(engine.store.read(bundle.digest))["root"] == f"containers/onboot/002-o/{directory}"


def test_the_second_container_mounts_the_first_ones_files(engine):
    whole = spec(TWO)
    stages = {item.name: stage for item, stage in bundles(whole)}
    inputs = {"image": (image(engine),)}
    found = tree(engine, engine.run(stages["b"], inputs).output)
    assert "containers/onboot/001-b/rootfs" in found
    assert "containers/onboot/001-b/tmp" not in found
    content = found["containers/onboot/001-b/runtime.json"].content
    assert isinstance(content, bytes)
    assert json.loads(content)["mounts"][0] == {
        "destination": "/containers/onboot/001-b/rootfs",
        "source": "/containers/onboot/000-a/lower",
        "options": ["bind"],
    }


def test_a_changed_command_runs_one_bundle_and_one_segment(engine):
    ran: list[Event] = []
    engine.report = ran.append
    x, y = image(engine), image(engine, Cmd=["/other"])

    def build(text: str) -> list[str]:
        ran.clear()
        for item, stage in bundles(spec(text)):
            source = {"image": (y if item.image == "y:1" else x,)}
            bundle = engine.run(stage, source).output
            engine.run(Segment(**PLAIN), {"bundle": (bundle,)})
            if stage.first is None:
                engine.run(ContainerRootfs(place=stage.place, **PLAIN), source)
        return [event.stage for event in ran if event.how == "run"]

    assert len(build(TWO)) > 8
    assert build(TWO) == []
    assert build("\n# moved\n" + TWO) == []
    assert build(TWO.replace("/bin/s", "/bin/other")) == ["bundle", "segment"]
    new = "services: [{name: new, image: z:1, uid: s}, "
    ran_for_new = ["bundle", "container-rootfs", "rootfs", "segment"]
    assert sorted(build(TWO.replace("services: [", new))) == ran_for_new


def test_a_name_for_uid_decides_the_key_of_those_that_have_it(engine):
    text = "services: [{name: a, image: x:1}, {name: b, image: x:1, uid: c, gid: a}, {name: c, image: x:1}]"
    assert [stage.ids for _, stage in bundles(spec(text))] == [(), (("a", 100), ("c", 102)), ()]


def test_a_name_for_uid_in_a_label_is_told(engine):
    stage = Bundle(Place("services", 0, "s"), image="x:1")
    source = {"image": (image(engine, '{"uid": "s", "gid": "root"}'),)}
    match = r"x:1: label org\.mobyproject\.config: 's' is no number of a user or group \(.*in the YAML\)"
    for config in (ImageConfig(), ImageConfig(gid="s")):
        with pytest.raises(SpecError, match=match):
            engine.run(replace(stage, config=config, ids=(("s", 100),)), source)
    engine.run(replace(stage, config=ImageConfig(uid=7)), source)


def test_a_bad_label_is_told_with_the_image_and_the_place(engine):
    stage = Bundle(Place("services", 0, "s"), image="x:1")
    with pytest.raises(SpecError, match=r"x:1: label org\.mobyproject\.config:1:2: unknown key 'nett'"):
        engine.run(stage, {"image": (image(engine, '{"nett": "host"}'),)})
    with pytest.raises(ImageError, match=r"x:1: config\.Cmd must be a list"):
        engine.run(stage, {"image": (image(engine, Cmd="/app"),)})


def test_segments_hold_each_directory_once(engine):
    source = {"image": (image(engine),)}
    made = [engine.run(stage, source).output for _, stage in bundles(spec(TWO))]
    segment = engine.run(Segment(**PLAIN), {"bundle": made}).output
    paths = [entry.path for entry in members(engine, segment)]
    assert paths.count("containers") == paths.count("containers/services") == 1
    assert "containers/services/t/config.json" in paths
    assert segment.size % 4 == 0


FILES = """
services: [{name: redis, image: x:1}]
files:
  - {path: etc/deep/secret, contents: "x", mode: "0640", uid: redis, gid: 7}
  - {path: /etc/open, contents: "y", mode: "0644"}
  - {path: run, directory: true, mode: "01777"}
  - {path: link, symlink: ../x}
  - {path: etc/local, source: local.txt}
  - {path: etc/gone, source: gone.txt, optional: true}
  - {path: ./etc//yaml, metadata: yaml}
"""


def find(file: File) -> Path | None:
    return None if file.source == "gone.txt" else Path(file.base) / file.source


def test_files_have_linuxkits_modes_and_owners(engine, tmp_path):
    (tmp_path / "local.txt").write_text("local\n")
    whole = merge([loads(FILES, "f.yml", str(tmp_path))])
    wanted, sources = items(whole, find)
    assert sources == {"source:4": tmp_path / "local.txt"}
    stored = {role: (engine.store.put_file(path),) for role, path in sources.items()}
    segment = engine.run(Files(items=wanted, **PLAIN), stored).output
    found = {entry.path: entry for entry in members(engine, segment)}
    assert list(found) == [
        "etc",
        "etc/deep",
        "etc/deep/secret",
        "etc/local",
        "etc/open",
        "etc/yaml",
        "link",
        "run",
    ]
    assert (found["etc"].mode, found["etc"].uid, found["etc"].gid) == (0o750, 100, 7)
    assert found["etc/deep/secret"].mode == 0o640
    assert (found["etc/open"].mode, found["etc/local"].mode, found["run"].mode) == (0o644, 0o600, 0o1777)
    assert (found["link"].kind, found["link"].link) == (Kind.SYMLINK, "../x")
    assert b"name: redis" in engine.store.read(segment.digest)
    assert b"local\n" in engine.store.read(segment.digest)


def test_a_later_file_of_the_same_path_counts(engine):
    text = "files: [{path: a, contents: '1'}, {path: a, contents: '22', mode: '0644'}]"
    wanted, _ = items(spec(text), find)
    data = engine.store.read(engine.run(Files(items=wanted, **PLAIN), {}).output.digest)
    assert data.count(b"070701") == 2
    assert b"22" in data


def test_moving_a_file_in_the_yaml_runs_nothing(engine):
    text = "files: [{path: a, contents: '1'}]"
    stages = [Files(items=items(spec(lead + text), find)[0]) for lead in ("", "\n\n")]
    assert stages[0] == stages[1]
