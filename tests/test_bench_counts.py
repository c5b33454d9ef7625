"""What builds cost, in counts that no machine's speed changes: steps run, bytes compressed and hashed.

The benchmark suite (``python -m tests.bench``) measures seconds; these are its scenarios on small images.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxkit_rules.oci.layout import REF_NAME
from linuxkit_rules.stages.parts import LARGE_LAYER
from tests.bench.images import noise
from tests.images import Blobs, tar
from tests.project import SCONSTRUCT, Project

SERVICES = 10
SIZE = 200_000
"""Bytes of each service's program."""

BASE = noise("base", LARGE_LAYER)
"""The large layer of two versions of an image."""

SMALL = 4096
"""More than a configuration, a few directories and an archive's end come to."""


class Bench(Project):
    """A project of ten services with an image each; image 3 has a second version."""

    @classmethod
    def make(cls, root: Path, sconstruct: str = SCONSTRUCT, program: bytes = b"") -> "Bench":
        super().make(root, sconstruct)
        shutil.rmtree(root / "layout")
        blobs = Blobs()
        kernel = tar(**{"kernel": b"KERNEL", "kernel.tar": tar(**{"lib/modules/1/modules.order": b""})})
        images = {"kernel:1": kernel, "init:1": tar(init=b"#!/bin/sh\n"), "app-3:2": service(3, "changed")}
        images |= {f"app-{number}:1": service(number) for number in range(SERVICES)}
        layers = {name: [layer] for name, layer in images.items()}
        layers |= {f"large:{number}": [tar(base=BASE), service(number)] for number in (1, 2)}
        members = [
            (blobs.image(layer, "gzip"), {REF_NAME: f"docker.io/test/{name}"})
            for name, layer in layers.items()
        ]
        for name, data in blobs.files(*members).items():
            (root / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "layout" / name).write_bytes(data)
        (root / "tiny.yml").write_text(yml())
        return cls(root)

    def build(self, *arguments: str) -> None:
        """Build, and keep the rows of the trace."""
        self.scons(*arguments)
        trace = self.root / "trace"
        self.rows = [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []

    def runs(self) -> Counter[str]:
        """How often each stage ran, for whomever."""
        return Counter(row["stage"] for row in self.rows if row["how"] == "run")

    def moved(self, kind: str) -> int:
        return sum(row[kind] for row in self.rows)

    def initrd(self) -> int:
        return (self.root / "out" / "tiny-initrd.img").stat().st_size


def service(number: int, seed: str = "") -> bytes:
    return tar(app=noise(f"{number}{seed}", SIZE))


def yml(argument: str = "one", count: int = SERVICES) -> str:
    arguments = [argument, *["same"] * (count - 1)]
    rows = [
        f'  - {{name: app-{number}, image: "test/app-{number}:1", command: ["/app", {word}]}}'
        for number, word in enumerate(arguments)
    ]
    return "\n".join(
        [
            'kernel: {image: "test/kernel:1", cmdline: console=ttyS0}',
            'init: ["test/init:1"]',
            "services:",
            *rows,
            "files:",
            "  - {path: etc/local, source: local.txt}\n",
        ]
    )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    project = Bench.make(tmp_path / "bench")
    project.build()
    return project


def test_cold_build_packs_every_byte_once(bench: Bench, count: Callable[..., None]) -> None:
    runs = bench.runs()
    assert runs["container-rootfs"] == runs["bundle"] == runs["segment"] == SERVICES
    assert runs["layout-image"] == runs["fetch-layer"] == SERVICES + 2
    assert runs["join"] == 1
    assert SERVICES * SIZE < bench.moved("compressed") < 1.05 * SERVICES * SIZE
    count("bytes compressed in cold builds of the bench", bench.moved("compressed"))


def test_null_build_moves_nothing(bench: Bench) -> None:
    bench.build()
    assert bench.rows == []


def test_changed_command_packs_a_configuration(bench: Bench, count: Callable[..., None]) -> None:
    bench.edit('["/app", one]', '["/app", two]')
    bench.build()
    assert bench.runs() == {"bundle": 1, "segment": 1, "join": 1}
    assert 0 < bench.moved("compressed") < SMALL
    assert bench.moved("hashed") <= bench.initrd() + 4 * SMALL
    assert bench.moved("written") <= bench.initrd() + 4 * SMALL
    count("bytes compressed for a changed command", bench.moved("compressed"))
    (bench.root / "tiny.yml").write_text(yml())
    bench.build()
    assert bench.runs() == {}
    assert bench.moved("compressed") == 0
    assert bench.moved("hashed") <= bench.initrd() + SMALL
    assert bench.moved("written") == bench.initrd()


def test_changed_file_packs_that_file(bench: Bench) -> None:
    (bench.root / "local.txt").write_text("changed\n")
    bench.build()
    assert bench.runs() == {"files": 1, "join": 1}
    assert 0 < bench.moved("compressed") < SMALL


def test_changed_command_line_of_the_kernel_reads_no_segment(bench: Bench) -> None:
    bench.edit("console=ttyS0", "quiet")
    bench.build()
    assert "join" not in bench.runs()
    assert bench.moved("compressed") == 0
    assert bench.moved("read") < SMALL
    assert bench.moved("written") < SMALL


def test_changed_image_packs_that_service(bench: Bench, count: Callable[..., None]) -> None:
    bench.edit("test/app-3:1", "test/app-3:2")
    bench.build()
    runs = bench.runs()
    assert runs["fetch-layer"] == runs["container-rootfs"] == runs["join"] == 1
    assert SIZE < bench.moved("compressed") <= 1.1 * SIZE
    count("bytes compressed for a changed image", bench.moved("compressed"))


def test_changed_layer_packs_no_other_large_one(bench: Bench, count: Callable[..., None]) -> None:
    bench.edit("test/app-3:1", "test/large:1")
    bench.build()
    assert len(BASE) + SIZE < bench.moved("compressed") < len(BASE) + SIZE + SMALL
    bench.edit("test/large:1", "test/large:2")
    bench.build()
    assert bench.runs()["part"] == 1
    assert SIZE < bench.moved("compressed") < SIZE + SMALL
    assert bench.moved("read") < 2 * SIZE + bench.initrd() + 4 * SMALL
    count("bytes compressed for a changed layer", bench.moved("compressed"))


def test_changed_command_of_an_iso_needs_no_other_head(tmp_path: Path) -> None:
    text = SCONSTRUCT.replace("kernel+initrd", "iso")
    assert text != SCONSTRUCT
    bench = Bench.make(tmp_path / "bench", text)
    bench.build()
    assert bench.runs()["iso-head"] == bench.runs()["iso"] == 1
    bench.edit('["/app", one]', '["/app", two]')
    bench.build()
    assert bench.runs() == {"bundle": 1, "segment": 1, "join": 1, "iso": 1}


def test_fresh_checkout_takes_all_from_the_store(bench: Bench) -> None:
    for name in ("out", ".linuxkit"):
        shutil.rmtree(bench.root / name, ignore_errors=True)
    (bench.root / ".sconsign.dblite").unlink()
    bench.build()
    assert bench.runs() == {}
    assert bench.moved("compressed") == 0
    assert bench.moved("hashed") <= bench.initrd() + 2 * SMALL


def test_images_of_one_sconstruct_share_their_steps(tmp_path: Path, count: Callable[..., None]) -> None:
    images = 64
    text = (
        "from linuxkit_rules import linuxkit\nenv = Environment(tools=[linuxkit])\n"
        f"for number in range({images}):\n"
        '    env.LinuxKitImage(f"out/{number}", f"{number}.yml", formats="kernel+initrd")\n'
    )
    bench = Bench.make(tmp_path / "bench", text)
    for number in range(images):
        (bench.root / f"{number}.yml").write_text(yml(f"image-{number}", count=3))
    bench.build()
    runs = bench.runs()
    assert runs["container-rootfs"] == 3
    assert runs["fetch-layer"] == 3 + 2
    assert runs["bundle"] == runs["segment"] == images + 2
    assert runs["join"] == images
    assert bench.moved("compressed") < 3 * SIZE + 2 * images * SMALL
    bench.build()
    assert bench.rows == []
    count("images in one SConstruct that shared their steps", images)


def test_trace_says_when_where_and_how_much(bench: Bench) -> None:
    joined = [row for row in bench.rows if row["stage"] == "join"]
    delivered = [row for row in bench.rows if row["how"] == "deliver"]
    assert 0 < sum(row["written"] for row in joined) < 2 * SMALL  # a list of pieces, a block of padding
    written = {row["label"]: row["written"] for row in delivered}
    assert written["out/tiny-initrd.img"] == bench.initrd()
    assert all(row["begin"] <= row["end"] and row["thread"] > 0 for row in bench.rows)
    assert joined[0]["end"] <= delivered[-1]["begin"]
    assert {row["label"] for row in delivered} == {
        f"out/tiny-{name}" for name in ("kernel", "initrd.img", "cmdline")
    }
    outer, inner = (
        next(row for row in bench.rows if row["stage"] == name) for name in ("container-rootfs", "rootfs")
    )
    assert outer["compressed"] == 0 < inner["compressed"]
