"""The lock of images: what is written, what a build makes of it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import ImageError
from linuxkit_rules.formats.compression import open_reader
from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.oci.manifest import CONFIG, INDEX, LAYER, MANIFEST, Member
from linuxkit_rules.oci.pins import ImageLock, ImagePin, PinnedImage, format_pins, parse_pins
from tests.images import AMD64, ARM64, Blobs, tar
from tests.project import Project
from tests.servers.registry import push
from tests.test_moby import moby

YML = """\
init:
  - {host}/t/init:1
services:
  - name: app
    image: {host}/t/app:1
"""
BUILD = ("build", "--format=tar", "tiny.yml")


def blob(kind: str, sign: str) -> Descriptor:
    return Descriptor(kind, Digest(sign * 64), 3)


PIN = ImagePin(blob(MANIFEST, "a"), blob(CONFIG, "b"), (blob(LAYER, "c"), blob(LAYER, "d")))
LOCK = ImageLock(
    {
        "docker.io/library/b:1": PinnedImage(blob(INDEX, "e"), {"linux/arm64": PIN, "linux/amd64": PIN}),
        "docker.io/library/a:1": PinnedImage(None, {"linux/amd64": ImagePin(PIN.manifest, PIN.config, ())}),
    }
)


def test_a_lock_is_written_sorted_with_a_descriptor_on_a_line() -> None:
    text = format_pins(LOCK)
    assert parse_pins(text.encode(), "x") == LOCK
    lines = text.splitlines()
    assert all(line.count("sha256:") <= 1 for line in lines)
    named = [line.strip().partition(":")[0] for line in lines if "/" in line and line.endswith("{")]
    assert named == ['"docker.io/library/a', '"linux/amd64"', '"docker.io/library/b', *named[3:]]
    assert named[3:] == ['"linux/amd64"', '"linux/arm64"']
    assert json.loads(text)["images"]["docker.io/library/b:1"]["linux/arm64"]["layers"][1]["size"] == 3
    assert format_pins(ImageLock()) == '{\n  "version": 1,\n  "images": {}\n}\n'


GOOD = json.loads(format_pins(LOCK))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not the JSON"),
        ("[]", "is not a JSON object"),
        ('{"version": 1, "version": 1}', "given twice"),
        ('{"version": 2, "images": {}}', "version 2 is unknown"),
        ('{"version": 1}', "'images' is missing"),
        ('{"version": 1, "images": []}', "no lock of images"),
        ('{"version": 1, "images": {"a:1": {}}}', "'a:1' is not a full reference"),
        ('{"version": 1, "images": {"docker.io/library/a:1": {}}}', "for one platform"),
        (json.dumps(GOOD).replace("e" * 64, "E" * 64), "is not a digest"),
        (json.dumps(GOOD).replace(INDEX, MANIFEST), "no type of an index"),
        (json.dumps(GOOD).replace('"size": 3', '"size": -3'), "number of bytes"),
        (
            json.dumps(GOOD).replace("library/b:1", f"library/b@sha256:{'1' * 64}"),
            "is another image: sha256:e",
        ),
        (json.dumps(GOOD).replace('"config"', '"konfig"'), "'config' is missing"),
    ],
)
def test_what_is_no_lock_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ImageError, match=told) as caught:
        parse_pins(text.encode(), "x.lock")
    assert str(caught.value).startswith("x.lock: ")
    assert "\n" not in str(caught.value)
    assert "moby lock" in str(caught.value)


@pytest.fixture
def project(tmp_path: Path, registry: str) -> Project:
    """A YAML of an index for two platforms and of a Docker image for one, in a registry."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "tiny.yml").write_text(YML.format(host=registry))
    publish(registry, b"one")
    return Project(root)


def publish(host: str, program: bytes) -> Descriptor:
    """Have the tags mean images with ``program``; give the index."""
    blobs = Blobs()
    images = [
        blobs.image([tar(init=program), tar(arch=platform.architecture.encode())], platform=platform)
        for platform in (AMD64, ARM64)
    ]
    index = blobs.index(Member(images[0], AMD64), Member(images[1], ARM64))
    push(host, blobs, index, "t/init", "1")
    push(host, blobs, blobs.image([tar(app=program)], docker=True), "t/app", "1")
    return index


def built(project: Project) -> bytes:
    """The first bytes of the program in the tar that was built."""
    with (project.root / "tiny.tar").open("rb") as file:
        data = open_reader(file).read()
    return b"one" if b"one" in data else b"two"


def test_a_locked_build_has_the_locked_bytes(project: Project, registry: str) -> None:
    printed = moby(project, "lock", "tiny.yml")
    lock = json.loads((project.root / "tiny.lock").read_text())["images"]
    init, app = lock[f"{registry}/t/init:1"], lock[f"{registry}/t/app:1"]
    assert list(init) == ["index", "linux/amd64", "linux/arm64"]
    assert len(init["linux/arm64"]["layers"]) == 2
    assert list(app) == ["linux/amd64"]
    assert f"{registry}/t/init:1 is {init['index']['digest']}\n" in printed
    moved = publish(registry, b"two")
    moby(project, *BUILD)
    assert built(project) == b"one"
    assert moby(project, "lock", "tiny.yml").count(" was sha256:") == 2
    assert str(moved.digest) in (project.root / "tiny.lock").read_text()
    moby(project, *BUILD)
    assert built(project) == b"two"
    before = (project.root / "tiny.lock").stat()
    assert moby(project, "lock", "tiny.yml") == ""
    assert (project.root / "tiny.lock").stat() == before


def test_with_a_warm_store_a_lock_needs_no_network(project: Project) -> None:
    """Also where the store was warmed by a build that had no lock yet."""
    moby(project, *BUILD)
    moby(project, "lock", "tiny.yml")
    assert "fetch-layer" not in moby(project, *BUILD, LINUXKIT_OFFLINE="1").replace("(from the store)", "")
    assert built(project) == b"one"


def test_a_lock_for_one_architecture(project: Project, registry: str) -> None:
    moby(project, "lock", "--arch=arm64", "tiny.yml", status=1)
    assert not (project.root / "tiny.lock").exists()
    (project.root / "tiny.yml").write_text(f"init:\n  - {registry}/t/init:1\n")
    moby(project, "lock", "--arch=arm64", "tiny.yml")
    printed = moby(project, *BUILD, "--locked", status=1)
    assert f"tiny.yml:2:5: {registry}/t/init:1 is not in tiny.lock for linux/amd64" in printed
    moby(project, *BUILD)
    assert built(project) == b"one"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--locked"], {}),
        ([], {"LINUXKIT_LOCKED": "1"}),
        ([], {"CI": "true"}),
        (["--locked"], {"LINUXKIT_LOCKED": "0"}),
        (["--dry-run"], {"CI": "true"}),
    ],
)
def test_what_no_lock_names_is_refused(
    project: Project,
    registry: str,
    arguments: list[str],
    environment: dict[str, str],
) -> None:
    printed = moby(project, *BUILD, *arguments, status=1, **environment)
    for place, name in (("tiny.yml:2:5", "init"), ("tiny.yml:5:12", "app")):
        assert f"{place}: {registry}/t/{name}:1 is not in tiny.lock (`moby lock`" in printed
    assert not (project.root / "store" / "blobs").exists()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--no-locked"], {"CI": "true"}), ([], {"CI": "1", "LINUXKIT_LOCKED": "0"}), ([], {"CI": "false"})],
)
def test_locked_can_be_turned_off(
    project: Project, arguments: list[str], environment: dict[str, str]
) -> None:
    moby(project, *BUILD, *arguments, **environment)
    assert built(project) == b"one"


def test_a_lock_by_name(project: Project) -> None:
    moby(project, "lock", "--output=release.lock", "tiny.yml")
    moby(project, *BUILD, "--locked", "--lock=release.lock")
    assert "cannot read the lock" in moby(project, *BUILD, "--lock=gone.lock", status=1)
    (project.root / "tiny.lock").write_text("<<<<<<<")
    assert "tiny.lock: is no lock of images" in moby(project, *BUILD, status=1)
    assert "remove it, or choose another file" in moby(project, "lock", "tiny.yml", status=1)
    assert (project.root / "tiny.lock").read_text() == "<<<<<<<"


def test_the_lock_that_a_build_reads_is_the_one_that_is_written(project: Project) -> None:
    named = {"LINUXKIT_IMAGE_LOCK": "release.lock"}
    moby(project, "lock", "tiny.yml", **named)
    assert not (project.root / "tiny.lock").exists()
    moby(project, *BUILD, "--locked", **named)
    assert built(project) == b"one"


@pytest.mark.parametrize("command", [("lock",), ("vendor", "v", "--format=tar"), BUILD[:2]])
def test_limits_count_in_every_command(project: Project, command: tuple[str, ...]) -> None:
    printed = moby(project, *command, "tiny.yml", status=1, LINUXKIT_LIMITS="layers=1")
    assert "2 layers, more than the 1 allowed" in printed


def test_a_lock_that_contradicts_itself(project: Project) -> None:
    """Its index is the right one; what it says below that is not."""
    moby(project, "lock", "tiny.yml")
    path = project.root / "tiny.lock"
    value = json.loads(path.read_text())
    for image in value["images"].values():
        image["linux/amd64"]["layers"].reverse()
        image["linux/amd64"]["layers"].append(image["linux/amd64"]["layers"][0])
    path.write_text(json.dumps(value))
    assert "the lock says something else of this image" in moby(project, *BUILD, status=1)


def test_an_image_that_is_gone_from_the_registry_is_told_with_its_place(project: Project) -> None:
    text = (project.root / "tiny.yml").read_text()
    (project.root / "tiny.yml").write_text(text.replace("app:1", "none:1").replace("init:1", "none:2"))
    printed = moby(project, "lock", "tiny.yml", status=1)
    assert "tiny.yml:2:5: " in printed
    assert "tiny.yml:5:12: " in printed
    assert not (project.root / "tiny.lock").exists()


def layout(root: Path, program: bytes) -> Descriptor:
    """A layout whose docker.io/t/init:1 has ``program``."""
    blobs = Blobs()
    image = blobs.image([tar(init=program)])
    for name, data in blobs.files((image, {REF_NAME: "docker.io/t/init:1"})).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return image


def test_layouts_are_locked_too(tmp_path: Path) -> None:
    """What a layout has under a name may change; the lock then says so, and nothing else is asked."""
    project = Project(tmp_path)
    (tmp_path / "tiny.yml").write_text("init:\n  - t/init:1\n")
    layout(tmp_path / "one", b"one")
    two = layout(tmp_path / "two", b"two")
    moby(project, *BUILD, "--image-layout=one", "--locked", LINUXKIT_OFFLINE="1")
    moby(project, "lock", "--image-layout=one", "tiny.yml", LINUXKIT_OFFLINE="1")
    moby(project, *BUILD, "--image-layout=two", "--image-layout=one", LINUXKIT_OFFLINE="1")
    assert built(project) == b"one"
    printed = moby(project, *BUILD, "--image-layout=two", status=1, LINUXKIT_OFFLINE="1")
    assert printed.startswith(
        f"moby: tiny.yml:2:5: {tmp_path / 'two'}: the layout has {two.digest} as docker"
    )


def test_scons_reads_the_lock_and_notices_changes(project: Project, registry: str) -> None:
    (project.root / "SConstruct").write_text(
        "from linuxkit_rules import linuxkit\n"
        "env = Environment(tools=[linuxkit])\n"
        'env.LinuxKitImage("tiny.tar", "tiny.yml", LINUXKIT_IMAGE_LAYOUTS="", LINUXKIT_LOCKED=1)\n'
    )
    assert "is not in tiny.lock" in project.scons(check=False)
    moby(project, "lock", "tiny.yml")
    project.scons()
    assert "up to date" in project.scons()
    publish(registry, b"two")
    moby(project, "lock", "tiny.yml")
    project.scons()
    assert built(project) == b"two"
