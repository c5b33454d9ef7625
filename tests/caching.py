"""Machines that share a remote cache: stores of their own, and a stage that counts its runs."""

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import DamagedError
from linuxkit_rules.oci.credentials import Anonymous, Credentials
from linuxkit_rules.oci.network import Network
from linuxkit_rules.oci.progress import Progress
from linuxkit_rules.remote.cache import RemoteCache, place_of
from linuxkit_rules.remote.connect import connected
from linuxkit_rules.remote.uploads import Uploads
from linuxkit_rules.stages.stage import Engine, Inputs, Stage
from linuxkit_rules.store.blobs import Store
from linuxkit_rules.store.memory import Result
from linuxkit_rules.values import dataclass
from tests.servers.pulling import Warnings


@dataclass(frozen=True)
class Shout(Stage):
    """Gives the inputs in upper case, and refers to a blob that says how often."""

    name: ClassVar[str] = "shout"
    version: ClassVar[int] = 1
    times: int = 1

    def run(self, inputs: Inputs, work: Engine) -> Result:
        data = b"".join(work.store.read(item.digest) for item in inputs["text"])
        loud = work.store.put(data.upper() * self.times, "text/plain")
        return Result(loud, (work.store.put(f"{self.times} times".encode(), "text/x-count"),))


@dataclass
class Machine:
    """``events`` are how steps went; ``warnings`` what was warned of."""

    engine: Engine
    cache: RemoteCache
    events: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.engine.store

    def shout(self, *texts: bytes, times: int = 1) -> Descriptor:
        """What the stage gives for some texts."""
        return self.engine.run(Shout(times), {"text": [self.store.put(text) for text in texts]}).output

    def read(self, *texts: bytes, times: int = 1) -> bytes:
        return self.store.read(self.shout(*texts, times=times).digest)

    def read_anew(self, *texts: bytes) -> bytes:
        """The same where the blob may have gone: it is made again, as SCons's actions do."""
        try:
            return self.read(*texts)
        except DamagedError:
            return self.read(*texts)

    def finish(self) -> int:
        """Wait for uploads; how many results were not sent."""
        assert self.engine.uploads
        return self.engine.uploads.finish(60)


def machine(
    folder: Path,
    url: str,
    *,
    write: bool = True,
    token: str = "",
    credentials: Credentials | None = None,
    seconds: float = 60,
    clock: Callable[[], float] = lambda: 0.0,
    watch: Progress | None = None,
    **network: Any,
) -> Machine:
    """A machine with its store in ``folder`` that uses the cache at ``url``; what is else goes to Network."""
    watching = Warnings()
    cache = RemoteCache(
        place_of(url),
        lambda: connected(url, Network(**network), credentials or Anonymous(), token, str(seconds)),
        lambda: watch or watching,
        clock,
    )
    store = Store(folder / "store", source=cache)
    events: list[str] = []
    engine = Engine(
        store,
        lambda event: events.append(event.how),
        remote=cache,
        uploads=Uploads(cache, store) if write else None,
    )
    return Machine(engine, cache, events, watching.texts)
