import io
import lzma
from pathlib import Path

import pytest
import zstandard

from linuxkit_rules.debian.deb import unpack_data
from linuxkit_rules.debian.lock import Pin
from linuxkit_rules.digest import Digest
from linuxkit_rules.errors import FormatError, NetworkError, PackageError
from linuxkit_rules.formats import ar
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.deb import Deb, package_tree
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store
from tests.debs import Archive, deb, entries, served, tar_of

DATA = tar_of(entries({"usr/": b"", "usr/a": b"A" * 1000}))


def _ar(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    ar.write(out, list(members))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("data.tar", DATA),
        ("data.tar.xz", lzma.compress(DATA)),
        ("data.tar.zst", zstandard.ZstdCompressor().compress(DATA)),
    ],
)
def test_data_is_unpacked_however_it_is_compressed(tmp_path: Path, name: str, data: bytes) -> None:
    store = Store(tmp_path)
    package = store.put(_ar(("debian-binary", b"2.0\n"), ("control.tar", b"odd"), (name, data)))
    assert store.read(unpack_data(store, package.digest).digest) == DATA


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive at all", "not an ar archive"),
        (_ar(("data.tar", DATA)), "does not begin with debian-binary"),
        (_ar(("debian-binary", b"3.0\n"), ("data.tar", DATA)), "not of format 2"),
        (_ar(("debian-binary", b"2.0\n"), ("control.tar", b"")), "no data.tar"),
        (_ar(("debian-binary", b"2.0\n"), ("data.tar", DATA))[:-20], "ends within 'data.tar'"),
        (_ar(("debian-binary", b"2.0\n"), ("data.tar.xz", lzma.compress(DATA)[:-30])), "ends too early"),
    ],
)
def test_what_is_no_package_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(FormatError, match=message):
        unpack_data(store, store.put(data).digest)


def _pin(data: bytes, filename: str = "pool/main/x_1.0-1_amd64.deb") -> Pin:
    return Pin("x", "1.0-1", "amd64", filename, len(data), Digest.of(data))


def test_a_package_is_fetched_once_and_its_paths_are_usr_merged(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "mirror")
    archive.add("x", {"lib/": b"", "lib/x.so": b"X", "usr/bin/x": b"prog"})
    data = (tmp_path / "mirror/pool/main/x_1.0-1_amd64.deb").read_bytes()
    with served(archive):
        engine = Engine(Store(tmp_path / "store"), access=Access(debian_mirror=archive.url))
        tree = package_tree(_pin(data), engine)
    assert sorted(tree.entries) == ["usr/bin/x", "usr/lib/x.so"]
    again = Engine(Store(tmp_path / "store"), access=Access(offline=True))
    assert package_tree(_pin(data), again) == tree


def test_another_file_than_the_lock_names_is_refused(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "mirror")
    archive.add("x", {"usr/a": b"1"})
    wrong = deb({"usr/a": b"2"})
    with served(archive):
        engine = Engine(Store(tmp_path / "store"), access=Access(debian_mirror=archive.url))
        with pytest.raises(PackageError, match="another file than"):
            engine.run(Deb(_pin(wrong)), {})


def test_a_package_that_the_mirror_dropped_says_what_to_do(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "mirror")
    archive.publish()
    with served(archive):
        engine = Engine(Store(tmp_path / "store"), access=Access(debian_mirror=archive.url))
        with pytest.raises(NetworkError, match=r"x_1.0-1_amd64.deb.*404.*moby lock"):
            engine.run(Deb(_pin(b"")), {})


def test_without_network_nothing_is_fetched(tmp_path: Path) -> None:
    engine = Engine(Store(tmp_path), access=Access(offline=True, debian_mirror="http://127.0.0.1:1"))
    with pytest.raises(NetworkError, match="x 1.0-1 amd64 is not in the store"):
        engine.run(Deb(_pin(b"")), {})


def test_an_unreachable_mirror_is_tried_again_and_then_named(tmp_path: Path) -> None:
    from linuxkit_rules.debian.fetch import fetch
    from linuxkit_rules.debian.index import File

    pauses: list[float] = []
    with pytest.raises(
        NetworkError, match=r"cannot fetch http://127.0.0.1:1/a: .*refused.*LINUXKIT_DEBIAN_MIRROR"
    ):
        fetch(Store(tmp_path), "http://127.0.0.1:1/a", File(1, Digest.of(b"1")), pauses.append)
    assert len(pauses) == 3
