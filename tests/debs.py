"""Made-up Debian packages, programs and kernel modules, and a mirror that serves them, for tests."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import lzma
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from linuxkit_rules.debian.signature import Gpgv
from linuxkit_rules.formats import ar, elf, tar
from linuxkit_rules.formats.entry import Entry, Kind

LIB = "usr/lib/x86_64-linux-gnu"
INTERPRETER = "/lib64/ld-linux-x86-64.so.2"

_BASE = 0x400000


def program(
    needed: Sequence[str] = (),
    *,
    soname: str | None = None,
    interpreter: str | None = None,
    runpath: str | None = None,
    machine: int = elf.EM_X86_64,
) -> bytes:
    """Give a 64-bit ELF file with program headers and a dynamic section, and no code."""
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        strings.extend(value.encode() + b"\0")
        return len(strings) - len(value) - 1

    tags = [(1, text(name)) for name in needed]
    tags += [(14, text(soname))] if soname else []
    tags += [(29, text(runpath))] if runpath else []
    begin = 64 + 3 * 56
    table = begin + (len(tags) + 3) * 16
    tags += [(5, _BASE + table), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    loader = (interpreter or "").encode() + b"\0"
    size = table + len(strings) + len(loader)

    def header(kind: int, offset: int, length: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, 4, offset, _BASE + offset, 0, length, length, 8)

    last = header(3, table + len(strings), len(loader)) if interpreter else header(0, 0, 0)
    programs = header(1, 0, size) + header(2, begin, len(dynamic)) + last
    head = struct.pack("<16sHHIQQQIHHHHHH", _ident(), 3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    return head + programs + dynamic + bytes(strings) + loader


def kernel_module(*modinfo: str, machine: int = elf.EM_X86_64) -> bytes:
    """Give a relocatable ELF file with the section .modinfo."""
    info = b"".join(text.encode() + b"\0" for text in modinfo)
    names = b"\0.modinfo\0.shstrtab\0"
    rows = [(0, 0, 0, 0), (1, 1, 64, len(info)), (10, 3, 64 + len(info), len(names))]
    place = 64 + len(info) + len(names)
    sections = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)
        for name, kind, offset, size in rows
    )
    head = struct.pack("<16sHHIQQQIHHHHHH", _ident(), 1, machine, 1, 0, 0, place, 0, 64, 0, 0, 64, 3, 2)
    return head + info + names + sections


def _ident() -> bytes:
    return elf.MAGIC + bytes((2, 1, 1)) + bytes(9)


def entries(files: Mapping[str, bytes | str]) -> list[Entry]:
    """Give entries for ``files``: path to content, or to a link's target as text; ``x/`` is a folder."""
    found = []
    for path, content in files.items():
        if path.endswith("/"):
            found.append(Entry(path.rstrip("/"), Kind.DIRECTORY, 0o755))
        elif isinstance(content, str):
            found.append(Entry(path, Kind.SYMLINK, 0o777, link=content))
        else:
            mode = 0o755 if "bin/" in path else 0o644
            found.append(Entry(path, Kind.FILE, mode, content=content))
    return found


def tar_of(items: Sequence[Entry]) -> bytes:
    """Give a plain tar archive."""
    out = io.BytesIO()
    writer = tar.Writer(out)
    for entry in items:
        assert isinstance(entry.content, bytes)
        writer.add(entry, lambda content, file: file.write(content))  # type: ignore[arg-type, misc]
    writer.close()
    return out.getvalue()


def deb(files: Mapping[str, bytes | str]) -> bytes:
    """Give a .deb with ``files`` (see ``entries``); its data.tar is packed by xz."""
    out = io.BytesIO()
    data = lzma.compress(tar_of(entries(files)), preset=0)
    ar.write(out, [("debian-binary", b"2.0\n"), ("control.tar", tar_of([])), ("data.tar.xz", data)])
    return out.getvalue()


@dataclass
class Archive:
    """A Debian archive in a folder: add packages, then ``publish``."""

    folder: Path
    suite: str = "bookworm"
    url: str = ""
    stanzas: dict[str, list[str]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        files: Mapping[str, bytes | str],
        depends: str = "",
        version: str = "1.0-1",
        **more: str,
    ) -> None:
        arch = more.pop("arch", "amd64")
        data = deb(files)
        filename = f"pool/main/{name}_{version}_{arch}.deb"
        self._write(self.folder / filename, data)
        digest = hashlib.sha256(data).hexdigest()
        lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {arch}", f"Filename: {filename}"]
        lines += [
            f"Size: {len(data)}",
            f"SHA256: {digest}",
            f"Depends: {depends}" if depends else "Section: x",
        ]
        lines += [f"{key.title()}: {value}" for key, value in more.items()]
        self.stanzas.setdefault(arch, []).append("\n".join(lines) + "\n")

    def publish(self) -> None:
        rows = []
        base = self.folder / "dists" / self.suite
        for arch in ("amd64", "arm64"):
            packed = lzma.compress("\n".join(self.stanzas.get(arch, [])).encode())
            name = f"main/binary-{arch}/Packages.xz"
            self._write(base / name, packed)
            rows.append(f" {hashlib.sha256(packed).hexdigest()} {len(packed)} {name}")
        text = f"Suite: oldstable\nCodename: {self.suite}\nSHA256:\n" + "\n".join(rows) + "\n"
        self._write(base / "InRelease", text.encode())

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class Unsigned(Gpgv):
    """Takes everything as signed."""

    def __init__(self) -> None:
        super().__init__((), Path())

    def verify(self, signed: bytes, where: str) -> str:
        return signed.decode()


@contextlib.contextmanager
def served(archive: Archive) -> Iterator[Archive]:
    """Serve the archive over HTTP on this machine."""
    handler = functools.partial(_Quiet, directory=str(archive.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        archive.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield archive
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass
