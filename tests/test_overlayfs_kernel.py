"""The kernel's own overlayfs shows the flat trees: mounted in a namespace, by no privileged user."""

import ctypes
import hashlib
import itertools
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import LinuxKitError
from linuxkit_rules.formats.entry import Entry, Kind
from linuxkit_rules.oci.overlayfs import is_whiteout
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.hostile.headers import archive, block
from tests.images import tar
from tests.test_layered import flat, image, layered, names, stack

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [
    tar(a=b"1", lock=b"x"),
    tar(**{".wh.a": b"", ".wh.lock": b""}),
    tar(**{"b/c/d": b"1", "b/e": b"2"}),
    tar(**{"b/.wh..wh..opq": b"", "b/e": b"3"}),
    archive(block(b"a/", b"5"), block(b"a/f", b"0"), block(b"a/g", b"1", link=b"a/f")),
    archive(block(b"l", b"2", link=b"b"), block(b"b/", b"5")),
    tar(**{"l/x": b"through a link, where there is one", "b": b"a file"}),
]


def test_the_kernel_shows_the_flat_tree(tmp_path: Path, count: Callable[..., None]) -> None:
    line = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m", __name__, str(tmp_path)]
    result = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0, result.stdout
    mounted = int(result.stdout)
    assert mounted > 100
    count("images whose overlay shows the flat tree, by the kernel's overlayfs", mounted)


def images(engine: Engine) -> Iterator[tuple[Descriptor, Descriptor]]:
    """Images of three layers each, plain ones and components, and their layering."""
    for layers in itertools.product(LAYERS, repeat=3):
        for origins in ((), ("p=1", "q=1", "build.yml")):
            item = image(engine, *layers, origins=origins)
            try:
                yield item, layered(engine, item, components=bool(origins))
            except LinuxKitError:
                continue


def main(folder: Path) -> None:
    """Mount and compare, in a namespace of this process; print how many were overlays."""
    mount("tmpfs", "tmpfs", folder)
    engine, number = Engine(Store(folder / "store")), 0
    for item, layering in images(engine):
        layers = stack(engine, item, layering)
        if len(layers) == 1:
            continue
        place = folder / str(number)
        lower = [place / name for name in names(engine, item, layering)[::-1]]
        for directory, layer in dict(zip(lower, layers, strict=True)).items():
            lay(layer, directory)
        lay(flat(engine, item), place / "flat")
        (place / "shown").mkdir()
        mount("overlay", "overlay", place / "shown", f"lowerdir={':'.join(map(str, lower))}")
        shown, meant = seen(place / "shown"), seen(place / "flat")
        assert shown == meant, (item, set(shown.items()) ^ set(meant.items()))
        number += 1
    print(number)


def mount(kind: str, source: str, target: Path, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), bytes(target), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), f"cannot mount {kind}: {options}")


def lay(tree: Mapping[str, Entry], root: Path) -> None:
    """Write a tree as the kernel unpacks it, but for owners: a namespace has one."""
    for path, entry in tree.items():
        place = root / path
        if entry.kind is Kind.DIRECTORY:
            place.mkdir(parents=not path)
        elif entry.kind is Kind.SYMLINK:
            place.symlink_to(entry.link)
        elif entry.kind is Kind.HARDLINK:
            place.hardlink_to(root / entry.link)
        elif is_whiteout(entry):
            os.mknod(place, stat.S_IFCHR)
        else:
            assert isinstance(entry.content, bytes)
            place.write_bytes(entry.content)
    for path, entry in reversed(tree.items()):
        if entry.kind in (Kind.DIRECTORY, Kind.FILE):
            (root / path).chmod(entry.mode)
        os.utime(root / path, (entry.mtime, entry.mtime), follow_symlinks=False)


def seen(root: Path) -> dict[str, tuple[object, ...]]:
    """What there is of each path: attributes, content, and the paths that are the same file."""
    found: dict[str, tuple[object, ...]] = {}
    links: dict[tuple[int, int], set[str]] = {}
    for path in (root, *root.rglob("*")):
        state = path.lstat()
        content = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            links.setdefault((state.st_dev, state.st_ino), set()).add(str(path.relative_to(root)))
        found[str(path.relative_to(root))] = (state.st_mode, int(state.st_mtime), content)
    same = {name: frozenset(group) for group in links.values() for name in group}
    return {name: (*item, same.get(name)) for name, item in found.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
