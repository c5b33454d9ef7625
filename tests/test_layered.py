"""Layered mode: what images have in common is packed once, and an overlay shows each image's flat tree."""

import dataclasses
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.formats import cpio
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci import layers as oci_layers
from linuxkit_rules.oci.image import save
from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.oci.reference import parse_source
from linuxkit_rules.outputs.registry import by_name
from linuxkit_rules.plan.explain import explanation
from linuxkit_rules.plan.graph import realise
from linuxkit_rules.plan.image import Parts, plan
from linuxkit_rules.plan.outline import outline
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.template import LIBRARY
from linuxkit_rules.scons.saving import STAGE
from linuxkit_rules.stages.image import resolve
from linuxkit_rules.stages.image_layers import MOST_LAYERS, ImageLayers
from linuxkit_rules.stages.layering import Layering, _names, layers_of
from linuxkit_rules.stages.layers import SharedLayers, saving_of
from linuxkit_rules.stages.modules import Modules
from linuxkit_rules.stages.pack import FIXED_TIME
from linuxkit_rules.stages.rootfs import fit_out, image_tree
from linuxkit_rules.stages.stage import RUN, Engine, Event
from linuxkit_rules.stages.trees import Trees
from linuxkit_rules.store.blobs import Store
from tests.contents import whole
from tests.debs import INTERPRETER, LIB, Archive, program, served
from tests.hostile.cases import Case
from tests.hostile.headers import archive, block
from tests.hostile.test_images import CASES, NAME, put
from tests.images import Blobs, tar
from tests.project import SCONSTRUCT, Project
from tests.test_component_image import _make
from tests.test_overlayfs import inodes, mounted
from tests.test_segments import archives

BASE = tar(**{"bin/sh": b"shell" * 100, "etc/passwd": b"root"})


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def engine(tmp_path: Path, events: list[Event]) -> Engine:
    return Engine(Store(tmp_path / "store"), events.append)


def image(engine: Engine, *layers: bytes, origins: tuple[str, ...] = ()) -> Descriptor:
    history = [{"created_by": origin} for origin in origins]
    config = json.dumps({"os": "linux", "architecture": "amd64", "history": history}).encode()
    return save(engine.store, config, tuple(engine.store.put(layer) for layer in layers)).output


def layered(engine: Engine, *images: Descriptor, components: bool = False) -> Descriptor:
    return engine.run(Layering((components,) * len(images)), {"image": images}).output


def stack(engine: Engine, item: Descriptor, layering: Descriptor) -> list[dict[str, Entry]]:
    """An image's layers, the topmost first, contents as their bytes."""
    trees = Trees(engine.store)
    found = [trees.get(layer.tree) for layer in layers_of(item, layering, engine.store)]
    return [{path: inlined(engine, entry) for path, entry in layer.items()} for layer in found[::-1]]


def inlined(engine: Engine, entry: Entry) -> Entry:
    if isinstance(entry.content, bytes):
        return entry
    blob = engine.store.read(entry.content.digest)
    end = entry.content.offset + entry.content.size
    return dataclasses.replace(entry, content=blob[entry.content.offset : end])


def flat(engine: Engine, item: Descriptor) -> dict[str, Entry]:
    """The tree that the flat layout has of an image, as an initramfs holds it."""
    root = Entry("", Kind.DIRECTORY, 0o755, mtime=FIXED_TIME)
    tree = {"": root} | fit_out(image_tree(item, engine), resolv_link=False)
    return {entry.path: inlined(engine, entry) for entry in cpio.held(tree.values())}


def shown(engine: Engine, item: Descriptor, layering: Descriptor) -> dict[str, Entry]:
    """What a container of the image sees; one layer alone is bound, and no overlay."""
    layers = stack(engine, item, layering)
    return mounted(layers) if len(layers) > 1 else layers[0]


def names(engine: Engine, item: Descriptor, layering: Descriptor) -> list[str]:
    return [layer.name for layer in layers_of(item, layering, engine.store)]


def test_what_images_have_in_common_is_one_layer(engine: Engine) -> None:
    one, two = image(engine, BASE, tar(one=b"1")), image(engine, BASE, tar(two=b"2"))
    layering = layered(engine, one, two)
    first, second = names(engine, one, layering), names(engine, two, layering)
    assert first[0] == second[0]
    assert first[2] == second[2]
    assert first[1] != second[1]
    for item in (one, two):
        assert inodes(shown(engine, item, layering)) == inodes(flat(engine, item))


def test_the_same_files_out_of_other_archives_are_the_same_layer(engine: Engine) -> None:
    one = image(engine, tar(a=b"1", b=b"2"), tar(c=b"3"))
    two = image(engine, tar(b=b"2", a=b"1"), tar(c=b"4"))
    layering = layered(engine, one, two)
    assert names(engine, one, layering)[0] == names(engine, two, layering)[0]
    assert names(engine, one, layering)[1] != names(engine, two, layering)[1]


@pytest.mark.parametrize(
    "layers",
    [
        (),
        (BASE, BASE),
        (BASE, tar(lock=b"x"), tar(**{".wh.lock": b""}), tar(lock=b"x")),
        (BASE, *[tar(lock=b"x"), tar(**{".wh.lock": b""}), tar(last=b"x"), tar(**{".wh.last": b""})] * 3),
        (BASE, tar(**{".wh.etc": b""}), tar(**{"etc/passwd": b"x"})),
        (BASE, tar(**{"etc/.wh..wh..opq": b"", "etc/hosts": b"mine"}), tar(bin=b"a file")),
        (archive(block(b"lib", b"2", link=b"usr/lib"), block(b"usr/lib", b"5")), tar(**{"lib/x": b"x"})),
    ],
    ids=[
        "no layer",
        "a layer twice",
        "back",
        "to and fro",
        "removed and back",
        "opaque, then a file",
        "below a link",
    ],
)
def test_an_overlay_shows_the_flat_tree(engine: Engine, layers: tuple[bytes, ...]) -> None:
    item = image(engine, *layers)
    assert inodes(shown(engine, item, layered(engine, item))) == inodes(flat(engine, item))


def test_an_image_that_overlayfs_cannot_show_is_one_layer(engine: Engine) -> None:
    item = image(engine, BASE, archive(block(b"dev0", b"3")))
    (layer,) = stack(engine, item, layered(engine, item))
    assert layer["dev0"].kind is Kind.CHAR
    assert layer == flat(engine, item)


def test_layers_are_no_more_than_a_mount_takes(engine: Engine) -> None:
    item = image(engine, *(tar(**{f"file{number}": b"x"}) for number in range(MOST_LAYERS + 10)))
    layering = layered(engine, item)
    assert len(names(engine, item, layering)) == MOST_LAYERS
    assert inodes(shown(engine, item, layering)) == inodes(flat(engine, item))
    paths = ":".join(f"/{layer.directory}" for layer in layers_of(item, layering, engine.store))
    longest = "/containers/onshutdown/000-" + "n" * 255 + "/tmp/upper"
    assert len(f"lowerdir={paths},upperdir={longest},workdir={longest}") < 4096


def test_no_tree_is_made_that_no_layer_is_made_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree costs as much as the whole image is large."""
    made: list[int] = []
    true = oci_layers._tree
    monkeypatch.setattr(oci_layers, "_tree", lambda root: made.append(1) or true(root))
    engine.run(ImageLayers(), {"image": (image(engine, BASE, tar(one=b"1"), tar(two=b"2")),)})
    assert len(made) == 3
    item = image(engine, *(tar(**{f"file{number}": b"x"}) for number in range(MOST_LAYERS + 50)))
    engine.run(ImageLayers(), {"image": (item,)})
    assert len(made) == 3 + MOST_LAYERS


def test_names_tell_layers_apart() -> None:
    close = [Digest("a" * 12 + "b" * 52), Digest("a" * 14 + "b" * 50), Digest("a" * 12 + "b" * 52)]
    assert _names(close) == {close[0]: "a" * 12 + "b", close[1]: "a" * 13}
    assert _names(close[:1]) == {close[0]: "a" * 12}


@pytest.mark.parametrize(
    "case", [case for _, case in CASES if not case.refused], ids=lambda case: str(case.name)
)
def test_odd_images(case: Case, tmp_path: Path, count: Callable[..., None]) -> None:
    put(case, tmp_path / "layout")
    engine = Engine(Store(tmp_path / "store"), limits=case.limits)
    stage = resolve(parse_source(f"oci:layout:{NAME}"), "amd64", [], tmp_path).stage
    item = engine.run(stage, {}).output
    assert inodes(shown(engine, item, layered(engine, item))) == inodes(flat(engine, item))
    count("odd images whose overlay shows the flat tree")


YML = """\
kernel:
  image: test/kernel:1
init: [test/init:1]
onboot:
  - {name: once, image: test/one:1, readonly: true, command: [/once]}
services:
  - {name: one, image: test/one:1, command: [/one]}
  - {name: two, image: test/two:1, readonly: true, command: [/two]}
"""


def write(root: Path, one: bytes = b"1") -> Path:
    """A YAML and a layout; the images one and two have a layer in common."""
    images = {
        "kernel": [tar(**{"kernel": b"KERNEL", "kernel.tar": tar(**{"lib/modules/1/modules.order": b""})})],
        "init": [tar(init=b"#!/bin/sh")],
        "one": [BASE, tar(one=one)],
        "two": [BASE, tar(two=b"2")],
    }
    blobs = Blobs()
    members = [
        (blobs.image(layers), {REF_NAME: f"docker.io/test/{name}:1"}) for name, layers in images.items()
    ]
    for name, data in blobs.files(*members).items():
        (root / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "layout" / name).write_bytes(data)
    (root / "two.yml").write_text(YML)
    return root / "two.yml"


def planned(yml: Path, *, layered: bool = True) -> Parts:
    settings = Settings(layouts=(yml.parent / "layout",), layered=layered)
    return plan({yml.name: yml}, yml.stem, settings)


def initrd(parts: Parts, engine: Engine) -> list[Entry]:
    """The entries of all segments, in their order."""
    data = whole(engine.store, realise(parts.initrd, engine).output)
    return [entry for part in archives(data) for entry in cpio.read(io.BytesIO(part))]


def test_the_initrd_has_each_layer_once_and_says_how_to_mount_them(tmp_path: Path, engine: Engine) -> None:
    parts = planned(write(tmp_path))
    entries = initrd(parts, engine)
    files = Counter(entry.path.split("/", 3)[3] for entry in entries if entry.path.count("/") > 2)
    assert (files["bin/sh"], files["one"], files["two"]) == (1, 1, 1)
    texts = {entry.path: entry.content for entry in entries if entry.path.endswith("runtime.json")}
    mounts = {path.split("/")[2]: json.loads(bytes(text))["mounts"] for path, text in texts.items()}  # type: ignore[arg-type]
    lower = mounts["one"][-1]["options"][0]
    for place in ("onboot/000-once", "services/one"):
        assert mounts[place.split("/")[1]][-1]["options"] == [
            lower,
            f"upperdir=/containers/{place}/tmp/upper",
            f"workdir=/containers/{place}/tmp/work",
        ]
    paths = {entry.path: entry.kind for entry in entries}
    layers = lower.removeprefix("lowerdir=/").split(":/")
    assert {paths[layer] for layer in layers} == {Kind.DIRECTORY}
    assert [layer for layer in layers if f"{layer}/one" in paths] == layers[1:2]
    points = [f"containers/{place}" for place in ("onboot/000-once/rootfs", "onboot/000-once/tmp")]
    assert [paths[point] for point in points] == [Kind.DIRECTORY] * 2
    assert not any(path.startswith("containers/services/one/lower") for path in paths)


def test_what_is_saved_is_told(tmp_path: Path, engine: Engine) -> None:
    parts = planned(write(tmp_path))
    shared = next(step for step in parts.segments if step.name == "containers/layers")
    result = realise(shared, engine)
    saving = saving_of(result.refers, engine.store)
    assert saving is not None
    assert (saving.layers, saving.uses) == (4, 6)
    assert saving.packed == len(whole(engine.store, result.output)) < saving.unshared


def test_a_changed_layer_is_packed_alone(tmp_path: Path, engine: Engine, events: list[Event]) -> None:
    before = initrd(planned(write(tmp_path)), engine)
    packed = [event.label for event in events if (event.stage, event.how) == ("layer", RUN)]
    assert len(packed) == len(set(packed)) == 4
    events.clear()
    after = initrd(planned(write(tmp_path, one=b"another")), engine)
    ran = Counter(event.stage for event in events if event.how == RUN)
    assert ran["layer"] == 1
    assert {"container-rootfs", "rootfs", "modules", "files"}.isdisjoint(ran)
    assert {entry.content for entry in after} - {entry.content for entry in before} >= {b"another"}


def test_archives_of_the_whole_system_stay_flat_and_so_does_all_by_default(tmp_path: Path) -> None:
    yml = write(tmp_path)

    def recipes(name: str, *, layered: bool) -> list[tuple[str, ...]]:
        found, _ = outline({name: by_name(name).steps(planned(yml, layered=layered))})
        return [task[:3] for task in found.tasks]

    for name in ("tar", "docker"):
        assert recipes(name, layered=True) == recipes(name, layered=False)
    assert recipes("kernel+initrd", layered=True) != recipes("kernel+initrd", layered=False)
    stages = {stage for _, stage, _ in recipes("kernel+initrd", layered=False)}
    assert not any("lay" in stage for stage in stages - {"layout-image/2"})


def test_what_has_rotted_is_made_again(tmp_path: Path, engine: Engine) -> None:
    """Trees of layers are read only when one has to be packed, which may be long after they were made."""
    yml = write(tmp_path)
    before = initrd(planned(yml), engine)
    packed = Settings(layouts=(tmp_path / "layout",), layered=True, compression=Compression.GZIP)
    for path in (engine.store.root / "blobs/sha256").iterdir():
        if path.read_bytes().startswith(b'["",') or b"shell" in path.read_bytes():
            path.unlink()
    again = initrd(plan({yml.name: yml}, yml.stem, packed), engine)
    assert again == before


def test_files_that_no_container_sees_are_told(tmp_path: Path) -> None:
    yml = write(tmp_path)
    lower, beside = "containers/services/one/lower/a", "containers/services/one/a"
    with yml.open("a") as file:
        file.write(f"files: [{{path: /{lower}, contents: a}}, {{path: {beside}, contents: a}}]\n")
    (warning,) = planned(yml).warnings
    assert warning.startswith("two.yml:9:")
    assert f"'/{lower}'" in warning
    assert planned(yml, layered=False).warnings == ()


def test_an_overlay_needs_its_module(tmp_path: Path) -> None:
    service = 'services: [{name: redis, image: "@pkg:redis"}]'
    (tmp_path / "f.yml").write_text(f'kernel: {{image: "@pkg:./kernel"}}\n{service}\n')
    (tmp_path / "kernel").mkdir()
    text = (LIBRARY / "pkg" / "kernel" / "build.yml").read_text()
    (tmp_path / "kernel" / "build.yml").write_text(text.replace("    - overlay\n", ""))

    def roots(*, layered: bool) -> tuple[str, ...]:
        parts = plan({"f.yml": tmp_path / "f.yml"}, "f", Settings(layered=layered))
        stages = [step.stage for step in parts.segments]
        return next(stage.roots for stage in stages if isinstance(stage, Modules)) or ()

    assert {*roots(layered=True)} - {*roots(layered=False)} == {"overlay"}


def test_explain_tells_of_the_overlay(tmp_path: Path, engine: Engine) -> None:
    rows = explanation("two:runtime.mounts", planned(write(tmp_path)), engine)
    assert [row.field for row in rows] == [f"runtime.mounts[{number}]" for number in range(3)]
    assert "lowerdir=/containers/layers/" in rows[2].value
    assert rows[2].origin.startswith("default; derived from two.yml:8:")


def test_scons_reports_the_saving_when_it_has_built(tmp_path: Path) -> None:
    project = Project.make(tmp_path)
    project.edit('"kernel+initrd"]', '"kernel+initrd"], layered=True', "SConstruct")
    said = "tiny: 2 layers, used 2 times: "
    assert re.search(rf"^{said}(.+) packed in place of at most \1$", project.scons(), re.MULTILINE)
    (line,) = [line for line in (tmp_path / "trace").read_text().splitlines() if '"saving"' in line]
    value = json.loads(line)
    assert (value["how"], value["label"], value["layers"], value["uses"]) == ("saving", "tiny", 2, 2)
    assert said not in project.scons()
    assert project.ran() == []
    project.edit("hello", "hi")
    assert said in project.scons()
    assert project.ran() == ["files", "join"]
    for off in ("False", "'0'"):
        project.edit("layered=True", f"layered={off}", "SConstruct")
        assert "layers" not in project.scons()
        project.edit(f"layered={off}", "layered=True", "SConstruct")


def test_the_saving_is_told_of_what_was_made(tmp_path: Path) -> None:
    """Not of files that have no shared layers, nor of images that another one's work did not touch."""
    sconstruct = SCONSTRUCT.replace('["kernel+initrd"]', '["kernel+initrd", "tar"], layered=True')
    other = 'env.LinuxKitImage("out/other", "other.yml", formats="kernel+initrd", layered=True)\n'
    project = Project.make(tmp_path, sconstruct + other)
    (tmp_path / "other.yml").write_text((tmp_path / "tiny.yml").read_text().replace("hello", "bye"))
    assert "used" not in project.scons("out/tiny.tar")
    said = project.scons("out/other-initrd.img")
    assert "other: 2 layers, used 2 times" in said
    assert "tiny: 2 layers" not in said
    assert project.scons().count("tiny: 2 layers, used 2 times") == 1
    project.edit("bye", "hi", "other.yml")
    said = project.scons()
    assert "other: 2 layers" in said
    assert "tiny: 2 layers" not in said
    assert SharedLayers.name == STAGE


BUILD = """\
image: {name}
arch: [amd64]
packages:
  - app: [usr/bin/{name}]
  - libc6: [{files}]
users: []
cmd: [/usr/bin/{name}]
"""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Archive]:
    mirror = Archive(tmp_path / "mirror")
    linker = f"{LIB}/ld-linux-x86-64.so.2"
    libraries = {f"{LIB}/{name}": program() for name in ("libc.so.6", "libm.so.6", "libdl.so.2")}
    mirror.add("libc6", {linker[4:]: program(), INTERPRETER[1:]: f"/{linker}", **libraries, "etc/ld/": b""})
    mirror.add(
        "app",
        {
            "usr/bin/one": program(["libc.so.6", "libm.so.6"], interpreter=INTERPRETER),
            "usr/bin/two": program(["libc.so.6"], interpreter=INTERPRETER),
        },
    )
    mirror.publish()
    with served(mirror) as found:
        yield found


def test_components_share_their_packages(mirror: Archive, tmp_path: Path) -> None:
    """One layer for a package, whatever each takes of it; what one has not is hidden from it."""
    made = []
    for name, files in (("one", ""), ("two", f"{LIB}/libdl.so.2, etc/ld")):
        folder = tmp_path / name
        (folder / "rootfs/etc").mkdir(parents=True)
        (folder / "rootfs/etc/conf").write_text(name)
        (folder / "build.yml").write_text(BUILD.format(name=name, files=files))
        engine, item = _make(mirror, folder, tmp_path / "store")
        made.append(item)
    layering = layered(engine, *made, components=True)
    first, second = (names(engine, item, layering) for item in made)
    assert first[:-1] == second[:-1]
    assert len(first) == len({"usr-merge", "app", "libc6", "its own"})
    for item, hidden in zip(made, ({"libdl.so.2", "two", "ld"}, {"libm.so.6", "one"}), strict=True):
        assert inodes(shown(engine, item, layering)) == inodes(flat(engine, item))
        top = stack(engine, item, layering)[0]
        whiteouts = {path.rpartition("/")[2] for path, entry in top.items() if entry.kind is Kind.CHAR}
        assert whiteouts == hidden
    alone = layered(engine, made[0], components=True)
    assert len(names(engine, made[0], alone)) == len(first)
    assert not any(entry.kind is Kind.CHAR for entry in stack(engine, made[0], alone)[0].values())


def test_a_package_is_not_twice_in_an_overlay(engine: Engine) -> None:
    """Two may hold the same, such as nothing but directories."""
    directory = archive(block(b"usr/", b"5"))
    item = image(engine, directory, directory, tar(mine=b""), origins=("p=1", "q=1", "build.yml"))
    layering = layered(engine, item, components=True)
    assert len(names(engine, item, layering)) == 2
    assert inodes(shown(engine, item, layering)) == inodes(flat(engine, item))


def test_packages_of_one_name_that_differ_stay_apart(engine: Engine) -> None:
    one = image(engine, tar(a=b"1"), tar(mine=b""), origins=("p=1", "build.yml"))
    two = image(engine, tar(a=b"2"), tar(mine=b""), origins=("p=1", "build.yml"))
    three = image(engine, tar(a=b"2", b=b"3"), tar(mine=b""), origins=("p=1", "build.yml"))
    layering = layered(engine, one, two, three, components=True)
    below = [names(engine, item, layering)[0] for item in (one, two, three)]
    assert below[0] != below[1] == below[2]
    for item in (one, two, three):
        assert inodes(shown(engine, item, layering)) == inodes(flat(engine, item))
