"""Output formats: found by looking, named as LinuxKit does, made of the parts that they should be."""

import ast
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

import linuxkit_rules.outputs
from linuxkit_rules.errors import SpecError, UsageError
from linuxkit_rules.formats import iso9660
from linuxkit_rules.formats.entry import Kind
from linuxkit_rules.oci.image import save
from linuxkit_rules.oci.manifest import LAYER
from linuxkit_rules.outputs.registry import by_file, by_name, outputs
from linuxkit_rules.plan.graph import Step, realise
from linuxkit_rules.plan.image import Parts
from linuxkit_rules.plan.settings import Settings
from linuxkit_rules.plan.sources import Sources
from linuxkit_rules.stages.files import Files, Item
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass
from tests.contents import whole
from tests.images import tar
from tests.test_iso import ISOLINUX, SYSTEMD_BOOT, at


@dataclass(frozen=True)
class Given(Stage):
    """Bytes made up by a test."""

    name: ClassVar[str] = "given"
    version: ClassVar[int] = 1
    data: bytes

    def run(self, inputs: Inputs, work: Engine) -> Result:
        return Result(work.store.put(self.data))


@dataclass(frozen=True)
class GivenImage(Stage):
    """A container image of one layer, made up by a test."""

    name: ClassVar[str] = "given-image"
    version: ClassVar[int] = 1
    tool: str

    def run(self, inputs: Inputs, work: Engine) -> Result:
        layer = work.store.put(tar(**{"isolinux": ISOLINUX, "systemd-boot": SYSTEMD_BOOT}[self.tool]), LAYER)
        rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
        return save(work.store, json.dumps(config).encode(), (layer,))


def parts(arch: str = "amd64") -> Parts:
    kernel, initrd = Step("kernel", Given(b"KERNEL")), Step("initrd", Given(b"INITRD"))
    files = Step("files", Files(items=(Item("a", Kind.FILE, 0o644, text="A"),)).as_members())
    return Parts(
        name="tiny",
        arch=arch,
        cmdline="console=ttyS0",
        kernel=kernel,
        ucode=None,
        segments=(initrd,),
        members=(files,),
        initrd=initrd,
        tool=lambda name: Step(name, GivenImage(name)),
    )


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def made(name: str, engine: Engine, given: Parts) -> dict[str, bytes]:
    steps = by_name(name).steps(given)
    return {suffix: whole(engine.store, realise(step, engine).output) for suffix, step in steps.items()}


def test_every_module_with_a_format_is_found() -> None:
    modules = Path(linuxkit_rules.outputs.__file__).parent.glob("*.py")
    having = [path.stem for path in modules if "(Output)" in path.read_text()]
    assert len(outputs()) == len(having)
    assert {"kernel+initrd", "iso", "iso-bios", "iso-efi"} <= set(outputs())


@pytest.mark.parametrize("name", sorted(outputs()))
def test_a_format_is_a_module_whose_docstring_names_it_and_its_files(name: str) -> None:
    output = by_name(name)
    source = Path(linuxkit_rules.outputs.__file__).with_name(
        type(output).__module__.rpartition(".")[2] + ".py"
    )
    manual = ast.get_docstring(ast.parse(source.read_text())) or ""
    assert f"``{name}``" in manual
    assert all(file in manual for file in output.files("NAME"))


@pytest.mark.parametrize("name", sorted(outputs()))
def test_a_format_gives_a_step_for_each_of_its_suffixes(name: str) -> None:
    assert tuple(by_name(name).steps(parts())) == by_name(name).suffixes


@pytest.mark.parametrize(
    ("file", "name", "image"),
    [
        ("redisos.iso", "iso", "redisos"),
        ("redisos-efi.iso", "iso-efi", "redisos"),
        ("redisos-kernel", "kernel+initrd", "redisos"),
        ("a-b-initrd.img", "kernel+initrd", "a-b"),
        ("redisos-cmdline", "kernel+initrd", "redisos"),
        ("redisos-initrd.tar", "tar-kernel-initrd", "redisos"),
        ("redisos.tar", "tar", "redisos"),
        ("redisos.docker", "docker", "redisos"),
    ],
)
def test_a_file_name_tells_its_format(file: str, name: str, image: str) -> None:
    output, found = by_file(file)
    assert (output.name, found) == (name, image)


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="iso-bios"):
        by_name("floppy")
    with pytest.raises(UsageError, match=r"-efi\.iso"):
        by_file("redisos.floppy")


def test_kernel_initrd_and_cmdline_are_given_as_they_are(engine: Engine) -> None:
    files = made("kernel+initrd", engine, parts())
    assert files == {"-kernel": b"KERNEL", "-initrd.img": b"INITRD", "-cmdline": b"console=ttyS0"}


def test_files_that_would_be_empty_are_not_made(engine: Engine) -> None:
    bare = replace(parts(), kernel=None, cmdline="")
    assert made("kernel+initrd", engine, bare) == {"-initrd.img": b"INITRD"}
    (archive,) = made("tar-kernel-initrd", engine, bare).values()
    assert members(archive) == {"initrd.img": b"INITRD"}


def test_microcode_lies_before_the_initrd_or_beside_it(engine: Engine) -> None:
    ucode = replace(parts(), ucode=Step("ucode", Given(b"UCODE")))
    (archive,) = made("tar-kernel-initrd", engine, ucode).values()
    assert members(archive) == {
        "kernel": b"KERNEL",
        "initrd.img": b"INITRD\0\0",
        "cmdline": b"console=ttyS0",
        "ucode.cpio": b"UCODE",
    }


def test_the_whole_system_is_one_archive(engine: Engine) -> None:
    (archive,) = made("tar", engine, parts()).values()
    assert members(archive) == {"a": b"A"}
    (context,) = made("docker", engine, parts()).values()
    assert members(context).keys() == {"a", "Dockerfile"}
    assert b"FROM scratch" in members(context)["Dockerfile"]


def members(archive: bytes) -> dict[str, bytes]:
    """Give the files of an archive, read by another program's reader."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        return {item.name: file.extractfile(item).read() for item in file if item.isfile()}


@pytest.mark.parametrize(
    ("name", "arch", "platforms"),
    [
        ("iso", "amd64", [iso9660.X86, iso9660.EFI]),
        ("iso", "arm64", [iso9660.EFI]),
        ("iso-bios", "amd64", [iso9660.X86]),
        ("iso-efi", "amd64", [iso9660.EFI]),
        ("iso-efi", "arm64", [iso9660.EFI]),
    ],
)
def test_isos_boot_what_their_names_say(name: str, arch: str, platforms: list[int], engine: Engine) -> None:
    (iso,) = made(name, engine, parts(arch)).values()
    assert [entry.platform for entry in iso9660.boot_entries(iso)] == platforms
    assert (at(iso, "/KERNEL"), at(iso, "/INITRD.IMG")) == (b"KERNEL", b"INITRD")


def test_an_iso_for_a_bios_that_is_not_there_is_refused() -> None:
    with pytest.raises(SpecError, match="arm64 machines have no BIOS"):
        by_name("iso-bios").steps(parts("arm64"))


@pytest.mark.parametrize("name", ["iso", "iso-bios", "iso-efi"])
def test_a_format_that_needs_a_kernel_says_so(name: str) -> None:
    with pytest.raises(SpecError, match="needs a kernel"):
        by_name(name).steps(replace(parts(), kernel=None))


@pytest.mark.network
def test_the_boot_loaders_of_the_library_are_what_isos_need(tmp_path: Path) -> None:
    loaders = {arch: Sources(Settings(arch=arch)).tool for arch in ("amd64", "arm64")}
    engines = [Engine(Store(tmp_path / place)) for place in ("one", "other")]
    for name, arch in (("iso", "amd64"), ("iso-bios", "amd64"), ("iso-efi", "amd64"), ("iso-efi", "arm64")):
        (one,), (other,) = (
            made(name, engine, replace(parts(arch), tool=loaders[arch])).values() for engine in engines
        )
        assert one == other
        if name != "iso-bios":
            loader = at(one, "/EFI/BOOT/BOOTX64.EFI" if arch == "amd64" else "/EFI/BOOT/BOOTAA64.EFI")
            assert loader.startswith(b"MZ")
        if arch == "amd64" and name != "iso-efi":
            assert b"isolinux" in at(one, "/ISOLINUX/ISOLINUX.BIN")
