import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from linuxkit_rules.digest import Descriptor, Digest
from linuxkit_rules.errors import FormatError, ImageError, SpecError
from linuxkit_rules.formats import fat_read, iso9660, mbr
from linuxkit_rules.formats.entry import Entry, Kind, Slice
from linuxkit_rules.formats.fat import File, Layout
from linuxkit_rules.formats.fat_sectors import Kind as FatKind
from linuxkit_rules.formats.fat_sectors import Volume
from linuxkit_rules.oci.image import save
from linuxkit_rules.oci.manifest import LAYER
from linuxkit_rules.stages.esp import cluster_for, esp_files, isolinux_cfg
from linuxkit_rules.stages.iso import Boot, Iso, IsoHead, volume_label
from linuxkit_rules.stages.stage import Engine, Event
from linuxkit_rules.store.blobs import Store
from tests.contents import whole
from tests.images import tar

BLOCK = 2048
KERNEL, INITRD = b"kernel" * 5001, b"initrd" * 9001
ISOLINUX = {
    "usr/lib/ISOLINUX/isolinux.bin": bytes(range(256)) * 100,
    "usr/lib/ISOLINUX/isohdpfx.bin": b"\x33\xed" * 216,
    "usr/lib/syslinux/modules/bios/ldlinux.c32": b"c32" * 40000,
}
SYSTEMD_BOOT = {
    "usr/lib/systemd/boot/efi/systemd-bootx64.efi": b"MZ64" * 30000,
    "usr/lib/systemd/boot/efi/systemd-bootaa64.efi": b"MZaa" * 30000,
}
ESP = {"EFI/BOOT/BOOTX64.EFI", "loader/loader.conf", "loader/entries/linuxkit.conf", "kernel", "initrd.img"}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(Store(tmp_path / "store"))


def image(store: Store, files: dict[str, bytes]) -> Descriptor:
    """A container image of one layer, as the library's tools have."""
    layer = store.put(tar(**files), LAYER)
    rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    return save(store, json.dumps(config).encode(), (layer,)).output


def make(engine: Engine, boot: Boot, initrd: tuple[bytes, ...] = (INITRD,), **changes: Any) -> bytes:
    store = engine.store
    tools = {"isolinux": image(store, ISOLINUX), "systemd-boot": image(store, SYSTEMD_BOOT)}
    stage = Iso(**{"boot": boot, "title": "redisos", "cmdline": "console=ttyS0 quiet", **changes})
    inputs = {
        "kernel": [store.put(KERNEL)],
        "initrd": [store.put(part) for part in initrd],
        "bootloader": [tools[name] for name in boot.tools],
    }
    result = engine.run(stage, inputs).output
    return whole(store, result)


def at(iso: bytes, path: str) -> bytes:
    record = iso9660.find(iso, path)
    return iso[record.block * BLOCK : record.block * BLOCK + record.size]


def esp(iso: bytes) -> fat_read.Contents:
    file = io.BytesIO(iso)
    file.seek(iso9660.find(iso, "/EFI.IMG").block * BLOCK)
    return fat_read.read(file)


@pytest.mark.parametrize("boot", Boot)
def test_another_reader_finds_kernel_and_initrd(engine: Engine, boot: Boot) -> None:
    iso = make(engine, boot)
    reader = pycdlib.PyCdlib()
    reader.open_fp(io.BytesIO(iso))
    for path, content in (("/KERNEL.;1", KERNEL), ("/INITRD.IMG;1", INITRD)):
        out = io.BytesIO()
        reader.get_file_from_iso_fp(out, iso_path=path)
        assert out.getvalue() == content
    assert reader.pvd.space_size * BLOCK == len(iso)
    assert reader.pvd.volume_identifier.rstrip() == b"REDISOS"
    reader.close()


@pytest.mark.parametrize("boot", [Boot.EFI, Boot.HYBRID])
def test_every_byte_of_the_payload_is_stored_once(engine: Engine, boot: Boot) -> None:
    iso = make(engine, boot)
    assert iso.find(KERNEL) % 4096 == iso.find(INITRD) % 4096 == 0
    assert (iso.find(KERNEL), iso.rfind(KERNEL)) == (iso9660.find(iso, "/KERNEL").block * BLOCK,) * 2
    assert (iso.find(INITRD), iso.rfind(INITRD)) == (iso9660.find(iso, "/INITRD.IMG").block * BLOCK,) * 2


@pytest.mark.parametrize(("boot", "overhead"), [(Boot.BIOS, 80), (Boot.EFI, 100), (Boot.HYBRID, 150)])
def test_little_is_added_to_payload_and_boot_loaders(engine: Engine, boot: Boot, overhead: int) -> None:
    loaders = {"isolinux": sum(map(len, ISOLINUX.values())), "systemd-boot": 120000}
    payload = len(KERNEL) + len(INITRD) + sum(loaders[name] for name in boot.tools)
    assert len(make(engine, boot)) < payload + overhead * 1024


def test_iso_records_and_the_efi_partition_name_the_same_bytes(engine: Engine) -> None:
    iso = make(engine, Boot.HYBRID)
    found = {entry.path: entry.content for entry in esp(iso).entries if entry.size}
    assert set(found) == ESP
    for path, content in found.items():
        assert at(iso, "/" + path.upper()) == content
    assert found["kernel"] == KERNEL
    assert found["initrd.img"] == INITRD
    assert found["EFI/BOOT/BOOTX64.EFI"] == SYSTEMD_BOOT["usr/lib/systemd/boot/efi/systemd-bootx64.efi"]
    assert b"options console=ttyS0 quiet\n" in found["loader/entries/linuxkit.conf"]


def test_the_boot_catalogue_has_an_entry_for_each_firmware(engine: Engine) -> None:
    iso = make(engine, Boot.HYBRID)
    image, loader = iso9660.find(iso, "/EFI.IMG"), iso9660.find(iso, "/ISOLINUX/ISOLINUX.BIN")
    bios, efi = iso9660.boot_entries(iso)
    assert (bios.platform, bios.block, bios.sectors) == (iso9660.X86, loader.block, 4)
    assert (efi.platform, efi.block, efi.sectors) == (iso9660.EFI, image.block, image.size // 512)
    assert (image.block * BLOCK) + image.size == len(iso)


def test_an_iso_for_one_firmware_has_that_entry_alone(engine: Engine) -> None:
    (bios,) = iso9660.boot_entries(make(engine, Boot.BIOS))
    (efi,) = iso9660.boot_entries(make(engine, Boot.EFI))
    assert (bios.platform, efi.platform) == (iso9660.X86, iso9660.EFI)
    with pytest.raises(FormatError, match="no such file"):
        iso9660.find(make(engine, Boot.BIOS), "/EFI.IMG")
    with pytest.raises(FormatError, match="no such file"):
        iso9660.find(make(engine, Boot.EFI), "/ISOLINUX/ISOLINUX.BIN")


def test_an_efi_image_too_large_for_16_bits_of_sectors_reaches_to_the_end(engine: Engine) -> None:
    iso = make(engine, Boot.HYBRID, (bytes(33 << 20),))
    efi = iso9660.boot_entries(iso)[1]
    image = iso9660.find(iso, "/EFI.IMG")
    assert (efi.sectors, efi.block) == (0, image.block)
    assert image.block * BLOCK + image.size == len(iso)


@pytest.mark.parametrize("boot", [Boot.BIOS, Boot.HYBRID])
def test_isolinux_is_told_where_it_lies(engine: Engine, boot: Boot) -> None:
    """The boot information table: place of PVD and file, length, sum of words from byte 64 on."""
    iso = make(engine, boot)
    loader, original = at(iso, "/ISOLINUX/ISOLINUX.BIN"), ISOLINUX["usr/lib/ISOLINUX/isolinux.bin"]
    words = [int.from_bytes(original[place : place + 4], "little") for place in range(64, len(original), 4)]
    expected = (16, iso9660.find(iso, "/ISOLINUX/ISOLINUX.BIN").block, len(original), sum(words) % (1 << 32))
    assert tuple(int.from_bytes(loader[place : place + 4], "little") for place in range(8, 24, 4)) == expected
    assert loader[64:] == original[64:]
    assert at(iso, "/ISOLINUX/LDLINUX.C32") == ISOLINUX["usr/lib/syslinux/modules/bios/ldlinux.c32"]
    assert b"APPEND console=ttyS0 quiet\n" in at(iso, "/ISOLINUX/ISOLINUX.CFG")


def test_the_mbr_names_the_efi_partition_and_isolinux(engine: Engine) -> None:
    iso = make(engine, Boot.HYBRID)
    record, image = mbr.read(iso), iso9660.find(iso, "/EFI.IMG")
    assert record.partitions == (mbr.Partition(0xEF, image.block * 4, image.size // 512, active=True),)
    assert record.code[:432] == ISOLINUX["usr/lib/ISOLINUX/isohdpfx.bin"]
    loader = iso9660.find(iso, "/ISOLINUX/ISOLINUX.BIN")
    assert int.from_bytes(record.code[432:440], "little") == loader.block * 4
    assert record.signature == esp(iso).serial != 0
    assert esp(iso).hidden == image.block * 4


def test_the_mbr_for_bios_alone_names_the_whole_iso(engine: Engine) -> None:
    iso = make(engine, Boot.BIOS)
    assert mbr.read(iso).partitions == (mbr.Partition(0x17, 0, len(iso) // 512, active=True),)


@pytest.fixture
def elsewhere() -> Iterator[None]:
    old_mask, old_zone = os.umask(0o077), os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Kolkata"
    time.tzset()
    yield
    os.umask(old_mask)
    os.environ.pop("TZ")
    if old_zone is not None:
        os.environ["TZ"] = old_zone
    time.tzset()


def test_time_zone_umask_and_the_hour_do_not_show(
    engine: Engine, tmp_path: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = Engine(Store(tmp_path / "far"))
    monkeypatch.setattr(time, "time", lambda: 2**31 + 12345.5)
    there = {boot: make(far, boot) for boot in Boot}
    monkeypatch.undo()
    assert there == {boot: make(engine, boot) for boot in Boot}
    for iso in there.values():
        assert b"2017041816300000" in iso[16 * BLOCK : 17 * BLOCK]


def test_identifiers_differ_between_isos(engine: Engine) -> None:
    one, other = make(engine, Boot.HYBRID), make(engine, Boot.HYBRID, cmdline="console=tty0")
    assert mbr.read(one).signature != mbr.read(other).signature


def test_segments_are_laid_one_after_the_other(engine: Engine) -> None:
    parts = INITRD[:1000], INITRD[1000:5000], INITRD[5000:]
    joined, apart = (make(engine, Boot.EFI, given) for given in ((INITRD,), parts))
    assert at(apart, "/INITRD.IMG") == at(joined, "/INITRD.IMG") == INITRD


def test_arm64_boots_by_efi_alone(engine: Engine) -> None:
    iso = make(engine, Boot.EFI, arch="arm64")
    assert at(iso, "/EFI/BOOT/BOOTAA64.EFI") == SYSTEMD_BOOT["usr/lib/systemd/boot/efi/systemd-bootaa64.efi"]
    for boot in (Boot.BIOS, Boot.HYBRID):
        with pytest.raises(SpecError, match="no BIOS"):
            make(engine, boot, arch="arm64")


@pytest.mark.parametrize("cmdline", ["two\nlines", "x" * 2048])
def test_a_command_line_that_cannot_be_passed_on_is_refused(engine: Engine, cmdline: str) -> None:
    for boot in Boot:
        with pytest.raises(SpecError, match="command line"):
            make(engine, boot, cmdline=cmdline)


def test_a_boot_loader_without_its_file_is_an_error(engine: Engine) -> None:
    store = engine.store
    payload = {"kernel": [store.put(KERNEL)], "initrd": [store.put(INITRD)]}
    for boot in Boot:
        inputs = {**payload, "bootloader": [image(store, {"a": b""})] * len(boot.tools)}
        with pytest.raises(ImageError, match="lacks a file"):
            engine.run(Iso(boot, "x", ""), inputs)


def test_configurations_say_no_more_than_they_must() -> None:
    assert b"APPEND" not in isolinux_cfg("")
    tools = {path: Entry(path, Kind.FILE, content=b"MZ") for path in SYSTEMD_BOOT}
    entries = {file.path: file.parts[0] for file in esp_files(tools, "amd64", "a\nb", '"a b" "c"')}
    expected = b'title a b\nlinux /kernel\ninitrd /initrd.img\noptions ""a b" "c""\n'
    assert entries["loader/entries/linuxkit.conf"] == expected


@pytest.mark.parametrize(
    ("title", "label"),
    [("redisos", "REDISOS"), ("my-os.2", "MY_OS_2"), ("x" * 40, "X" * 32), ("", "LINUXKIT")],
)
def test_labels_are_of_d_characters(title: str, label: str) -> None:
    assert volume_label(title) == label


@pytest.mark.parametrize(
    ("boot", "digest"),
    [
        (Boot.BIOS, "04d9927606c7286d97b37f05810a3f2eeebf6e2016d5fcce971b186243c5c95d"),
        (Boot.EFI, "b3a31a064391a38321d0b6f90ec5f4ab4bbcbe7f8e37c6b370af6cad94716f32"),
        (Boot.HYBRID, "c1ca4e445933f2472729179d19940651ce8af28b062c365feada59b00d0d00f0"),
    ],
)
def test_bytes_move_only_with_the_stages_version(engine: Engine, boot: Boot, digest: str) -> None:
    """Where this fails, raise ``Iso.version``, and ``IsoHead.version`` where its bytes moved."""
    assert Iso.version == 5
    assert Digest.of(make(engine, boot)).hex == digest


@pytest.mark.parametrize(
    ("boot", "digest"),
    [(Boot.BIOS, "586ca43fbaf1a360"), (Boot.EFI, "bc714ad4273f5ba1"), (Boot.HYBRID, "7f4e6bb6f6e71069")],
)
def test_bytes_of_the_head_move_only_with_its_version(
    engine: Engine, boot: Boot, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        tools = () if boot is Boot.EFI else (image(engine.store, ISOLINUX),)
        stage = IsoHead(boot, "REDISOS", "quiet", ("/KERNEL", "/INITRD.IMG"))
        head = engine.run(stage, {"isolinux": tools}).output
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (IsoHead.version, head.digest.hex[:16]) == (3, digest)


@pytest.mark.parametrize(
    ("size", "cluster", "kind"),
    [(20, 2048, FatKind.FAT16), (299, 2048, FatKind.FAT32), (300, 4096, FatKind.FAT32)],
)
def test_large_partitions_have_large_clusters(size: int, cluster: int, kind: FatKind) -> None:
    """Sizes in MiB."""
    files = (File("initrd.img", (Slice(Digest("0" * 64), 0, size << 20),)),)
    assert cluster_for(files) == cluster
    assert Layout(Volume("x", cluster=cluster, alignment=4096), files).kind is kind


@pytest.mark.parametrize("boot", Boot)
def test_a_changed_initrd_needs_no_other_head(engine: Engine, boot: Boot) -> None:
    make(engine, boot)
    events: list[Event] = []
    engine.report = events.append
    changed = make(engine, boot, (INITRD * 2,))
    assert [event.stage for event in events if event.how == "run"] == ["iso"]
    assert ("hit", "iso-head") in {(event.how, event.stage) for event in events}
    other = Engine(Store(engine.store.root.with_name("other")))
    assert make(other, boot, (INITRD * 2,)) == changed


@pytest.mark.parametrize(
    ("boot", "changes", "runs"),
    [
        (Boot.HYBRID, {"cmdline": "quiet"}, True),
        (Boot.BIOS, {"cmdline": "quiet"}, True),
        (Boot.EFI, {"cmdline": "quiet"}, False),
        (Boot.EFI, {"title": "other"}, True),
    ],
)
def test_what_the_head_has_is_laid_out_anew(
    engine: Engine, boot: Boot, changes: dict[str, Any], runs: bool
) -> None:
    make(engine, boot)
    events: list[Event] = []
    engine.report = events.append
    make(engine, boot, **changes)
    assert [event.stage for event in events if event.how == "run"] == ["iso", *["iso-head"] * runs]
