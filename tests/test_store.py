import os
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from linuxkit_rules.digest import Descriptor, Digest, canonical_json
from linuxkit_rules.errors import FormatError, StoreError
from linuxkit_rules.formats.entry import Slice
from linuxkit_rules.stages.stage import Engine, Event, Inputs, Stage, key
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Memory, Result
from linuxkit_rules.values import dataclass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@dataclass(frozen=True)
class Upper(Stage):
    name: ClassVar[str] = "upper"
    version: ClassVar[int] = 1
    suffix: str

    def run(self, inputs: Inputs, work: Engine) -> Result:
        data = b"".join(work.store.read(item.digest) for item in inputs["text"])
        return Result(work.store.put(data.upper() + self.suffix.encode()))


def test_blob_is_found_by_its_digest_and_read_back(store: Store) -> None:
    descriptor = store.put(b"hello", "text/plain")
    assert descriptor == Descriptor("text/plain", Digest.of(b"hello"), 5)
    assert store.has(descriptor)
    assert store.read(descriptor.digest) == b"hello"
    assert (store.root / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'


def test_uncommitted_blob_leaves_nothing(store: Store) -> None:
    with store.writer() as writer:
        writer.write(b"half")
    assert list((store.root / "tmp").iterdir()) == []
    assert list((store.root / "blobs" / "sha256").iterdir()) == []


def test_wrong_expectation_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="was expected"), store.writer() as writer:
        writer.write(b"this")
        writer.commit(expect=Digest.of(b"that"))
    assert list((store.root / "blobs" / "sha256").iterdir()) == []


def test_truncated_blob_is_not_there(store: Store) -> None:
    descriptor = store.put(b"hello")
    path = store.path(descriptor.digest)
    path.chmod(0o600)
    os.truncate(path, 3)
    assert not store.has(descriptor)


def test_rotten_blob_is_dropped_on_reading(store: Store) -> None:
    descriptor = store.put(b"hello")
    path = store.path(descriptor.digest)
    path.chmod(0o600)
    path.write_bytes(b"jello")
    with pytest.raises(StoreError, match="damaged"):
        store.read(descriptor.digest)
    assert not store.has(descriptor)


def test_slice_is_copied_from_its_blob(store: Store, tmp_path: Path) -> None:
    descriptor = store.put(b"0123456789")
    with (tmp_path / "out").open("wb") as out:
        store.copy(Slice(descriptor.digest, 2, 5), out, memoryview(bytearray(2)))
        store.copy(b"!", out)
    assert (tmp_path / "out").read_bytes() == b"23456!"


def test_slice_beyond_its_blob_is_an_error(store: Store, tmp_path: Path) -> None:
    descriptor = store.put(b"0123")
    with (tmp_path / "out").open("wb") as out, pytest.raises(StoreError, match="ends too early"):
        store.copy(Slice(descriptor.digest, 2, 5), out)


def test_store_that_cannot_be_made_says_where_and_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/store: cannot make the store: .* \(set LINUXKIT_STORE\)"):
        Store(tmp_path / "file" / "store").put(b"x")


def test_key_depends_on_stage_parameters_and_input_bytes_but_not_on_media_type(store: Store) -> None:
    text = store.put(b"a", "text/plain")
    same = store.put(b"a", "text/html")
    other = store.put(b"b", "text/plain")
    keys = [
        key(Upper("!"), {"text": [text]}),
        key(Upper("?"), {"text": [text]}),
        key(Upper("!"), {"text": [other]}),
        key(Upper("!"), {"text": [text, other]}),
        key(Upper("!"), {"text": [other, text]}),
        key(Upper("!"), {"more": [text]}),
    ]
    assert len(set(keys)) == len(keys)
    assert key(Upper("!"), {"text": [same]}) == keys[0]


def test_stage_runs_once_for_each_recipe(store: Store) -> None:
    events: list[Event] = []
    engine = Engine(store, events.append)
    text = store.put(b"a")
    results = [engine.run(Upper("!"), {"text": [text]}) for _ in range(2)]
    assert [store.read(result.output.digest) for result in results] == [b"A!", b"A!"]
    assert [event.how for event in events] == ["run", "hit"]


def test_entry_whose_blob_has_gone_is_a_miss(store: Store) -> None:
    events: list[Event] = []
    engine = Engine(store, events.append)
    text = store.put(b"a")
    store.path(engine.run(Upper("!"), {"text": [text]}).output.digest).unlink()
    assert store.read(engine.run(Upper("!"), {"text": [text]}).output.digest) == b"A!"
    assert [event.how for event in events] == ["run", "run"]


def test_entry_whose_reference_has_gone_is_a_miss(store: Store) -> None:
    memory = Memory(store)
    output, other = store.put(b"output"), store.put(b"other")
    memory.put("0" * 64, Result(output, (other,)))
    assert memory.get("0" * 64) == Result(output, (other,))
    store.path(other.digest).unlink()
    assert memory.get("0" * 64) is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"output":1}', b'{"output":{},"refers":[]}', b"\xff"])
def test_damaged_entry_is_a_miss(store: Store, text: bytes) -> None:
    memory = Memory(store)
    memory.put("0" * 64, Result(store.put(b"output")))
    (store.root / "entries" / ("0" * 64)).write_bytes(text)
    assert memory.get("0" * 64) is None


def test_threads_that_want_the_same_recipe_run_it_once(store: Store) -> None:
    events: list[Event] = []
    engine = Engine(store, events.append)
    text = store.put(b"a")
    threads = [threading.Thread(target=engine.run, args=(Upper("!"), {"text": [text]})) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.how for event in events) == ["hit"] * 7 + ["run"]


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:" + "0" * 65]
)
def test_bad_digest_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="is not a digest"):
        Digest.parse(text)


def test_canonical_json_is_sorted_and_plain() -> None:
    assert canonical_json({"b": [1, "ä"], "a": None}) == b'{"a":null,"b":[1,"\\u00e4"]}'
