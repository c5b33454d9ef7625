"""A small project for tests of the SCons tool: a folder with an image layout, a YAML and a SConstruct."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from linuxkit_rules.oci.layout import REF_NAME
from tests.images import Blobs, tar

YML = """\
kernel:
  image: test/kernel:1
  cmdline: console=ttyS0
init:
  - test/init:1
services:
  - name: app
    image: test/app:1
    command: ["/app", "one"]
  - name: other
    image: test/app:1
    command: ["/app", "two"]
files:
  - path: etc/greeting
    contents: hello
  - path: etc/local
    source: local.txt
"""
SCONSTRUCT = """\
from linuxkit_rules import linuxkit
env = Environment(tools=[linuxkit])
env.LinuxKitImage("out/tiny", "tiny.yml", formats=["kernel+initrd"])
"""


@dataclass
class Project:
    root: Path
    events: list[tuple[str, str, str]] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        root: Path,
        sconstruct: str = SCONSTRUCT,
        program: bytes = b"program",
        kernel: bytes = b"KERNEL",
    ) -> "Project":
        root.mkdir(parents=True, exist_ok=True)
        blobs = Blobs()
        modules = tar(**{"lib/modules/1/modules.order": b""})
        images = {
            "kernel": [tar(**{"kernel": kernel, "kernel.tar": modules})],
            "init": [tar(init=b"#!/bin/sh\n")],
            "app": [tar(app=program * 1000)],
        }
        members = [
            (blobs.image(layers, "gzip"), {REF_NAME: f"docker.io/test/{name}:1"})
            for name, layers in images.items()
        ]
        for name, data in blobs.files(*members).items():
            (root / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "layout" / name).write_bytes(data)
        (root / "tiny.yml").write_text(YML)
        (root / "local.txt").write_text("local\n")
        (root / "SConstruct").write_text(sconstruct)
        return cls(root)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "LINUXKIT_STORE": str(self.root / "store"),
            "LINUXKIT_IMAGE_LAYOUTS": str(self.root / "layout"),
            "LINUXKIT_ARCH": "amd64",
            "LINUXKIT_TRACE": str(self.root / "trace"),
        }

    def scons(self, *arguments: str, check: bool = True, **environment: str) -> str:
        """Run SCons; keep the steps it did in ``events``; give what it printed, both streams."""
        trace = self.root / "trace"
        trace.unlink(missing_ok=True)
        result = subprocess.run(
            [sys.executable, "-m", "SCons", "-Q", *arguments],
            cwd=self.root,
            env={**self.environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = trace.read_text().splitlines() if trace.exists() else []
        found = [json.loads(line) for line in lines]
        steps = [item for item in found if item["depth"] == 0 and item["how"] != "deliver"]
        self.events = [(item["how"], item["stage"], item["label"]) for item in steps]
        assert not check or result.returncode == 0, result.stdout
        assert check or result.returncode != 0, result.stdout
        assert "Traceback" not in result.stdout, result.stdout
        return result.stdout

    def ran(self) -> list[str]:
        """Names of the stages that ran in the last build, in their order."""
        return [stage for how, stage, _ in self.events if how == "run"]

    def edit(self, old: str, new: str, name: str = "tiny.yml") -> None:
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))
