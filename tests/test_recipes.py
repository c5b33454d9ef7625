"""Steps as documents and as actions, and how a worker runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import DamagedError, FormatError, ImageError
from linuxkit_rules.formats.compression import Compression
from linuxkit_rules.formats.entry import Kind
from linuxkit_rules.formats.limits import Limits
from linuxkit_rules.oci.image import load
from linuxkit_rules.oci.manifest import MANIFEST, Platform
from linuxkit_rules.remote.action import Action, Order, action_of, decode_result
from linuxkit_rules.stages.apk import ApkDatabase
from linuxkit_rules.stages.boot import Boot
from linuxkit_rules.stages.bundle import Place
from linuxkit_rules.stages.files import Files, Item
from linuxkit_rules.stages.image import ArchiveImage
from linuxkit_rules.stages.join import Join
from linuxkit_rules.stages.kernel import Kernel
from linuxkit_rules.stages.layers import PackLayer, PackLayers
from linuxkit_rules.stages.modules import ModuleIndex, Modules
from linuxkit_rules.stages.pack import Form
from linuxkit_rules.stages.parts import Part
from linuxkit_rules.stages.ramdisk import RamdiskSupport
from linuxkit_rules.stages.recipe import Recipe, StrangeRecipeError, stages
from linuxkit_rules.stages.rootfs import Rootfs
from linuxkit_rules.stages.segment import ContainerRootfs, Segment
from linuxkit_rules.stages.stage import Engine, Stage
from linuxkit_rules.stages.unpack import LAYER_INDEX, Unpack
from linuxkit_rules.stages.volume import FilesVolume, LayoutVolume
from linuxkit_rules.stages.whole import WHOLE_IMAGE, WholeImage
from linuxkit_rules.store.blobs import Store
from tests.executing import client, docker_archive
from tests.images import tar

ITEMS = (Item("etc", Kind.DIRECTORY, 0o755), Item("etc/ü", Kind.FILE, 0o644, 1, 2, text="a\udcffb"))
SAMPLES: tuple[Stage, ...] = (
    ApkDatabase(),
    ArchiveImage("oci", "latest", "arm64"),
    Boot(cmdline="quiet", form=Form.TAR, compression=Compression.NONE),
    ContainerRootfs(place=Place("services", 0, "redis", readonly=True)),
    ContainerRootfs(place=Place("onboot", 1, "dhcp")),
    Files(items=ITEMS, release=True),
    FilesVolume(volume="data", level=7),
    Kernel(decompress=True),
    LayoutVolume(volume="image", reference="docker.io/a/b:1"),
    ModuleIndex(),
    Modules(roots=("virtio_net", "overlay")),
    Modules(),
    RamdiskSupport("boot/vmlinuz"),
    Rootfs(prefix="containers/x", resolv_link=True, compression=None),
    Unpack(Digest.of(b"")),
    Unpack(),
    WholeImage(None, (Platform("linux", "arm64", "v8"),)),
)


def blob(data: bytes, media_type: str = "text/plain") -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))


@pytest.mark.parametrize("stage", SAMPLES, ids=lambda stage: stage.name)
def test_recipe_is_read_as_it_was_written(stage: Stage) -> None:
    inputs = {"image": (blob(b"1"), blob(b"2")), "support": (blob(b"3"),)}
    recipe = Recipe(stage, inputs, Limits(entries=5))
    again = Recipe.parse(recipe.to_bytes())
    assert (again, again.key) == (recipe, recipe.key)
    assert stage.is_remote()


def test_every_stage_is_either_tried_or_stays_here() -> None:
    away = {stage for stage in stages() if stage.is_remote is not Stage.is_remote}
    assert {type(stage) for stage in SAMPLES} == away - {Segment, PackLayer, PackLayers, Part}
    assert not Segment().is_remote()
    assert not PackLayers().is_remote()
    assert not Part(tree=Digest.of(b""), entries=()).is_remote()
    assert len(list(stages())) > len(away) > 12


def test_what_needs_more_than_its_inputs_stays_here() -> None:
    archive = ArchiveImage("oci", "", "amd64")
    assert not WholeImage(archive).is_remote()


def test_names_in_messages_are_no_part_of_a_recipe() -> None:
    one, two = (Recipe(Kernel(image=name), {}).to_bytes() for name in ("a", "b"))
    assert one == two


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stage": "other"}, "cannot be read"),
        ({"key": "0" * 64}, "has the key"),
        ({"limits": {"entries": 5}}, "has the key"),
        ({"limits": {"speed": 5}}, "cannot be read"),
        ({"limits": {"entries": "5"}}, "cannot be read"),
        ({"limits": {"entries": True}}, "cannot be read"),
        ({"limits": [5]}, "cannot be read"),
        ({"fields": {"diff_id": "md5:1"}}, "cannot be read"),
        ({"fields": {"more": 1}}, "cannot be read"),
        ({"inputs": {"layer": [{}]}}, "cannot be read"),
        ({"inputs": []}, "cannot be read"),
    ],
)
def test_strange_recipe_is_refused(change: dict[str, object], why: str) -> None:
    value = json.loads(Recipe(Unpack(), {"layer": (blob(b"1"),)}).to_bytes())
    with pytest.raises(StrangeRecipeError, match=why):
        Recipe.parse(json.dumps({**value, **change}).encode())
    with pytest.raises(StrangeRecipeError):
        Recipe.parse(b"[" * 9)


def test_types_of_fields_are_checked() -> None:
    value = json.loads(Recipe(Files(items=ITEMS), {}).to_bytes())
    for name, wrong in (("level", "1"), ("level", True), ("release", 0), ("items", 5), ("form", "zip")):
        with pytest.raises(StrangeRecipeError):
            Recipe.parse(json.dumps({**value, "fields": {**value["fields"], name: wrong}}).encode())


def test_stage_that_needs_more_than_its_inputs_is_no_work_for_others(tmp_path: Path) -> None:
    data = Recipe(Segment(), {}).to_bytes()
    with pytest.raises(StrangeRecipeError, match="the stage segment is no work for another machine"):
        Recipe.parse(data)


def test_fields_that_are_no_part_of_a_recipe_are_refused() -> None:
    """They may name files, which a worker is not to read for anybody."""
    value = json.loads(Recipe(Kernel(), {}).to_bytes())
    assert Recipe.parse(json.dumps(value).encode()).stage == Kernel()
    value["fields"]["image"] = "a"
    with pytest.raises(StrangeRecipeError, match="no part of a recipe"):
        Recipe.parse(json.dumps(value).encode())


NO_DOCUMENTS = (b"", b"[]", b"5", b"[" * 100_000, b'{"tar":5}', b'{"pieces":5}', b'{"pieces":[["a"]]}', b"{}")
MEDIA_TYPES = (LAYER_INDEX, WHOLE_IMAGE, MANIFEST, "text/plain+pieces")


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("data", NO_DOCUMENTS, ids=lambda data: data[:20].decode())
def test_input_that_is_no_document(media_type: str, data: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises((FormatError, ImageError)):
        Recipe(Unpack(), {"layer": (store.put(data, media_type),)}).needed(store)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A worker's folder."""
    folder = tmp_path / "work"
    (folder / "blobs" / "sha256").mkdir(parents=True)
    return folder


def lay_out(folder: Path, recipe: Recipe, store: Store) -> None:
    (folder / "recipe.json").write_bytes(recipe.to_bytes())
    for item in recipe.needed(store):
        path = folder / "blobs" / "sha256" / item.digest.hex
        path.write_bytes(store.read(item.digest))
        path.chmod(0o444)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def moby_stage(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the runner without any variable."""
    command = [sys.executable, "-m", "linuxkit_rules", "stage"]
    return subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True)


def test_runner_leaves_what_was_made_and_the_result(work: Path, tmp_path: Path) -> None:
    engine = Engine(Store(tmp_path / "store"))
    recipe = Recipe(Unpack(), {"layer": (engine.store.put(tar(a=b"1")),)})
    lay_out(work, recipe, engine.store)
    ended = moby_stage(work)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    expected = engine.run(recipe.stage, recipe.inputs)
    assert decode_result((work / "out" / "result.json").read_bytes(), recipe.key) == expected
    made = work / "out" / "blobs" / "sha256"
    assert names(made) == [expected.output.digest.hex]  # the archive itself was there before
    assert (made / expected.output.digest.hex).read_bytes() == engine.store.read(expected.output.digest)
    assert names(work) == ["blobs", "out", "recipe.json"]


def test_runner_fails_as_the_stage_does(work: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lay_out(work, Recipe(Unpack(), {"layer": (store.put(b"no archive" * 100),)}), store)
    ended = moby_stage(work)
    assert ended.returncode == 1
    assert ended.stderr.startswith("moby: layer sha256:")
    assert not (work / "out" / "result.json").exists()


def test_runner_refuses_a_strange_recipe(work: Path) -> None:
    (work / "recipe.json").write_text("{}")
    ended = moby_stage(work)
    assert ended.returncode == 3
    assert "the recipe cannot be read" in ended.stderr


def test_runner_without_a_recipe(tmp_path: Path) -> None:
    ended = moby_stage(tmp_path)
    assert (ended.returncode, ended.stderr) == (
        1,
        f"moby: {tmp_path}: cannot work here: No such file or directory\n",
    )


def test_help_does_not_show_the_runner() -> None:
    command = [sys.executable, "-m", "linuxkit_rules", "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "build " in printed
    assert "stage" not in printed


def action(*blobs: Descriptor, properties: tuple[tuple[str, str], ...] = ()) -> Action:
    return action_of(Order("0" * 64, b"{}", blobs), properties)


def test_equal_orders_are_equal_actions() -> None:
    one, two = blob(b"1"), blob(b"2")
    assert action(one, two) == action(two, one)
    pairs = (("a", "1"), ("b", "2"))
    assert action(one, properties=pairs) == action(one, properties=pairs[::-1])
    different = {action(one).digest, action(two).digest, action(one, properties=pairs).digest}
    assert len(different) == 3


def test_media_types_are_in_the_recipe_alone() -> None:
    one, two = (Recipe(Unpack(), {"layer": (blob(b"1", kind),)}) for kind in ("text/plain", "text/html"))
    assert one.key == two.key
    assert one.to_bytes() != two.to_bytes()
    assert action(blob(b"1", "text/plain")) == action(blob(b"1", "text/html"))


def test_action_is_what_it_always_was() -> None:
    """Another one would find nothing in the action caches of servers."""
    assert action(blob(b"1")).digest.digest.hex.startswith("0c1d276b0096b150caadba18")


def test_what_inputs_refer_to_is_needed_too(tmp_path: Path) -> None:
    here = client(tmp_path, "")
    store = here.store
    image = here.image(docker_archive(b"1", b"2"))
    manifest = load(store, image).manifest
    index = here.unpack(tar(a=b"1"))
    whole = here.engine.run(WholeImage(), {"image": [image]}).output
    joined = here.engine.run(Join(), {"segment": [store.put(b"seg1"), store.put(b"seg2")]})
    below = {
        image: (manifest.config, *manifest.layers),
        index.output: index.refers,
        whole: (image, manifest.config, *manifest.layers),
        joined.output: joined.refers,
        store.put(b"text"): (),
    }
    for item, blobs in below.items():
        needed = [found.digest for found in Recipe(Unpack(), {"layer": (item,)}).needed(store)]
        assert needed == sorted({found.digest for found in (item, *blobs)})
    assert len(joined.refers) == 2
    everything = Recipe(Unpack(), {"a": tuple(below), "b": (image,)}).needed(store)
    assert {found.digest for found in everything} == {
        found.digest for item, blobs in below.items() for found in (item, *blobs)
    }


def test_what_is_needed_and_lost_is_said(tmp_path: Path) -> None:
    here = client(tmp_path, "")
    image = here.image(docker_archive(b"1"))
    here.store.path(image.digest).unlink()
    with pytest.raises(DamagedError):
        Recipe(Unpack(), {"layer": (image,)}).needed(here.store)
