"""Lists of pieces: what is laid together is stored once, and verified when it is written out."""

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import FormatError, StoreError
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.stages.iso import Boot, Iso
from linuxkit_rules.stages.join import Join
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store import pieces
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.pieces import BLOCK, SUFFIX, assembling, contents, write_out
from linuxkit_rules.store.room import set_aside
from tests.contents import whole
from tests.test_iso import ISOLINUX, SYSTEMD_BOOT, image

BIG = bytes(range(256)) * 20_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def stored(store: Store) -> int:
    """How many bytes the blobs of a store take."""
    return sum(path.stat().st_size for path in (store.root / "blobs" / "sha256").iterdir())


def listed(store: Store, *parts: bytes | Slice) -> Descriptor:
    with assembling(store) as assembly:
        for part in parts:
            assembly.copy(part, assembly)
        return assembly.commit("x").output


def test_bytes_and_slices_are_laid_end_to_end(store: Store) -> None:
    big = store.put(BIG)
    parts = b"head", Slice(big.digest, 0, big.size), b"", b"mid", Slice(big.digest, 5, 7), b"dle"
    made = listed(store, *parts)
    assert made.media_type == "x" + SUFFIX
    assert whole(store, made) == b"head" + BIG + b"mid" + BIG[5:12] + b"dle"


def test_pieces_that_go_on_are_one(store: Store) -> None:
    digest = store.put(BIG).digest
    made = listed(store, b"a", b"b", Slice(digest, 0, 10), Slice(digest, 10, 20), Slice(digest, 31, 1))
    assert [piece.size for piece in contents(store, made)] == [2, 30, 1]


def test_a_list_within_a_list_is_taken_apart(store: Store) -> None:
    inner = listed(store, b"1", Slice(store.put(BIG).digest, 0, 300))
    with assembling(store) as assembly:
        content = assembly.whole(inner)
        assembly.copy(content, assembly)
        outer = assembly.commit("y").output
    assert content.size == 301
    assert contents(store, outer) == contents(store, inner)


def test_a_list_refers_to_all_that_it_names(store: Store) -> None:
    big, small = store.put(BIG), store.put(b"small")
    with assembling(store) as assembly:
        for blob in (big, small, big):
            assembly.copy(Slice(blob.digest, 1, 2), assembly)
        result = assembly.commit("x")
    assert [(item.digest, item.size) for item in result.refers] == [(big.digest, len(BIG)), (small.digest, 5)]


def test_what_is_no_list_is_itself(store: Store) -> None:
    blob = store.put(BIG)
    assert contents(store, blob) == (Slice(blob.digest, 0, len(BIG)),)
    with pytest.raises(FormatError, match="is no list of pieces"):
        contents(store, store.put(b"[]", "x" + SUFFIX))


def test_initrd_and_iso_are_stored_no_second_time(
    store: Store, tmp_path: Path, count: Callable[..., None]
) -> None:
    engine = Engine(store)
    segments = [store.put(bytes([number]) * 1_000_000) for number in range(3)]
    kernel = store.put(BIG)
    tools = [image(store, ISOLINUX), image(store, SYSTEMD_BOOT)]
    before = stored(store)
    initrd = engine.run(Join(), {"segment": segments}).output
    assert stored(store) - before < 2000 + BLOCK
    iso = engine.run(
        Iso(Boot.HYBRID, "x", ""), {"kernel": [kernel], "initrd": [initrd], "bootloader": tools}
    ).output
    with (tmp_path / "iso").open("wb") as file:
        write_out(store, iso, file)
    size = (tmp_path / "iso").stat().st_size
    assert size > 3_000_000 + len(BIG)
    assert stored(store) - before < 1_000_000
    count("bytes of initrd and ISO not stored twice", size + 3_000_000 - (stored(store) - before))


@pytest.mark.parametrize("piece", [slice(100, 150), slice(0, len(BIG))])
def test_a_rotten_blob_is_dropped_and_told(tmp_path: Path, piece: slice) -> None:
    digest = Store(tmp_path / "store").put(BIG).digest
    store = Store(tmp_path / "store")
    made = listed(store, b"head", Slice(digest, piece.start, piece.stop - piece.start))
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(BIG[:-1] + b"x")
    with (tmp_path / "out").open("wb") as out:
        with pytest.raises(StoreError, match="was damaged and has been dropped"):
            write_out(store, made, out)
        assert not store.path(digest).exists()
        with pytest.raises(StoreError, match=f"{digest} is not in the store"):
            write_out(Store(tmp_path / "store"), made, out)


def test_a_blob_that_has_gone_is_told_though_it_was_sound(store: Store) -> None:
    blob = store.put(BIG)
    made = listed(store, b"head", Slice(blob.digest, 0, 9))
    store.path(blob.digest).unlink()
    with pytest.raises(StoreError, match=f"{blob.digest} is not in the store"):
        whole(store, made)
    with pytest.raises(StoreError, match=f"{blob.digest} is not in the store"):
        listed(store, Slice(blob.digest, 0, 9))


def test_a_blob_that_is_too_short_is_told(store: Store) -> None:
    with assembling(store) as assembly:
        assembly.copy(Slice(store.put(b"abc").digest, 1, 9), assembly)
        made = assembly.commit("x").output
    with pytest.raises(StoreError, match="ends too early"):
        whole(store, made)


@dataclass
class Sharing:
    """ioctl(2) of a file system that can share blocks; none that tests can make here does."""

    asked: list[tuple[int, int, int]] = field(default_factory=list)

    def __call__(self, target: int, request: int, argument: bytes) -> int:
        source, offset, size, begin = struct.unpack("=qQQQ", argument)
        assert request == 0x4020940D
        if (offset | size | begin) % BLOCK:
            raise OSError(errno.EINVAL, "not at blocks")
        self.asked.append((offset, size, begin))
        os.pwrite(target, os.pread(source, size, offset), begin)
        return 0


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> Sharing:
    made = Sharing()
    monkeypatch.setattr(fcntl, "ioctl", made)
    return made


def test_blocks_are_shared_where_the_file_system_can(store: Store, tmp_path: Path, sharing: Sharing) -> None:
    blob = store.put(BIG)
    parts = (bytes(BLOCK), Slice(blob.digest, 0, 5003), b"x", Slice(blob.digest, BLOCK, BLOCK))
    made = listed(store, *parts)
    with (tmp_path / "out").open("wb") as out:
        write_out(store, made, out)
    expected = bytes(BLOCK) + BIG[:5003] + b"x" + BIG[BLOCK : 2 * BLOCK]
    assert (tmp_path / "out").read_bytes() == expected
    assert sorted(sharing.asked) == [(0, BLOCK, 0), (0, BLOCK, BLOCK)]


def large(store: Store) -> Descriptor:
    """A list that is too large to be written without room set aside, of one small blob."""
    blob = store.put(bytes(BLOCK) * 256)
    return listed(store, b"head".ljust(BLOCK), *(Slice(blob.digest, 0, blob.size),) * 16)


def test_room_is_set_aside_for_what_is_large(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def note(file: int, begin: int, size: int) -> None:
        set_aside(file, begin, size)
        asked.append((begin, size))
        assert os.fstat(file).st_blocks * 512 >= size

    monkeypatch.setattr(pieces, "set_aside", note)
    made = large(store)
    for blob in (made, store.put(BIG)):
        with (tmp_path / "out").open("wb") as out:
            out.write(b"x" * BLOCK)
            write_out(store, blob, out)
    assert asked == [(BLOCK, BLOCK + (16 << 20))]
    with (tmp_path / "out").open("wb") as out:
        write_out(store, made, out)
    assert (tmp_path / "out").read_bytes() == whole(store, made)


def test_where_blocks_are_shared_no_room_is_set_aside(
    store: Store, tmp_path: Path, sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "set_aside", lambda *_: pytest.fail("set aside"))
    with (tmp_path / "out").open("wb") as out:
        write_out(store, large(store), out)
    assert len(sharing.asked) == 17


def test_what_cannot_be_set_aside_is_written_all_the_same(tmp_path: Path) -> None:
    """On ``/dev/full``, which is no file, and beyond what any file can have."""
    with Path("/dev/full").open("wb", buffering=0) as out:
        set_aside(out.fileno(), 0, BLOCK)
    with (tmp_path / "out").open("wb", buffering=0) as out:
        set_aside(out.fileno(), 1 << 62, 1 << 62)
        out.write(b"x")
    assert (tmp_path / "out").read_bytes() == b"x"


def test_a_blob_that_cannot_be_shared_keeps_no_other_from_it(
    store: Store, tmp_path: Path, sharing: Sharing
) -> None:
    """As one that is only promised by a remote cache."""
    away, blob = store.put(bytes(BLOCK)), store.put(BIG)
    made = listed(store, Slice(away.digest, 0, BLOCK), Slice(blob.digest, 0, BLOCK))
    store.path(away.digest).unlink()
    with (tmp_path / "out").open("wb") as out, pytest.raises(StoreError, match="is not in the store"):
        write_out(store, made, out)
    assert sharing.asked == [(0, BLOCK, BLOCK)]


def test_a_file_system_that_cannot_share_is_asked_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(target: int, request: int, argument: bytes) -> int:
        asked.append(request)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    made = large(store)
    with (tmp_path / "out").open("wb") as out:
        write_out(store, made, out)
    assert len(asked) == 1
    assert (tmp_path / "out").read_bytes() == whole(store, made)


def test_shared_blocks_are_verified(tmp_path: Path, sharing: Sharing) -> None:
    digest = Store(tmp_path / "store").put(BIG).digest
    store = Store(tmp_path / "store")
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(BIG[:-1] + b"x")
    with (tmp_path / "out").open("wb") as out, pytest.raises(StoreError, match="was damaged"):
        write_out(store, listed(store, Slice(digest, 0, BLOCK)), out)
    assert sharing.asked
    assert not store.path(digest).exists()


def test_a_full_disk_is_told_and_not_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = listed(store, b"head")
    with Path("/dev/full").open("wb", buffering=0) as out, pytest.raises(OSError, match="No space"):
        write_out(store, made, out)
