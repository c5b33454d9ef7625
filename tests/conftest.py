"""What all tests share: a store of their own, empty at first, and the examples as a user builds them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.images import tar
from tests.servers.fixed import Fixed, fixed_server
from tests.servers.proxy import FaultProxy, fault_proxy
from tests.servers.registry import RegistryServer, docker_registry

if TYPE_CHECKING:
    from tests.servers.buildgrid import BuildGrid, Database, Worker

ROOT = Path(__file__).resolve().parents[1]
_made: list[Path] = []
_counts: dict[str, int] = {}
_less: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Use an empty store, so that nothing rests on an earlier run; LINUXKIT_TEST_STORE names one to keep."""
    kept = os.environ.get("LINUXKIT_TEST_STORE")
    if kept is None:
        _made.append(Path(tempfile.mkdtemp(prefix="linuxkit-tests-")))
    for name in [
        name for name in os.environ if name.startswith("LINUXKIT_") and name != "LINUXKIT_DEBIAN_MIRROR"
    ]:
        del os.environ[name]
    os.environ.pop("CI", None)  # it changes what a lock means; tests of that set it
    os.environ["GRPC_VERBOSITY"] = "NONE"  # else its library tells of each connection that ends
    os.environ["LINUXKIT_STORE"] = kept or str(_made[0] / "store")


def pytest_unconfigure(config: pytest.Config) -> None:
    for folder in _made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def count() -> Callable[..., None]:
    """Add to a figure that is shown below the tests' results: ``count("kills survived")``."""

    def add(what: str, number: int = 1) -> None:
        _counts[what] = _counts.get(what, 0) + number

    return add


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A whole run must have tried as much as the README says."""
    option = session.config.option
    chosen = option.keyword or option.markexpr or option.ignore or option.collectonly
    if session.config.args_source is pytest.Config.ArgsSource.ARGS or chosen or session.exitstatus:
        return
    table = (ROOT / "README.md").read_text().partition("| tried | at least |\n")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    _less.extend(name for name, number in rows if _counts.get(name, 0) < int(number))
    if _less:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _counts:
        terminalreporter.section("counts")
        for what, number in sorted(_counts.items()):
            terminalreporter.line(f"{what}: {number}")
    for what in _less:
        terminalreporter.line(f"FAILED: less than the README says: {what}")


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user's clone has it: SConstruct, site_scons and examples."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "SConstruct", folder)
    for name in ("site_scons", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="session")
def artefact(examples: Path) -> Callable[..., Path]:
    """Build the files ``out/NAME`` as a user does, and give the path of the first."""

    def build(*names: str) -> Path:
        targets = [f"out/{name}" for name in names]
        result = subprocess.run(
            [sys.executable, "-m", "SCons", "-Q", *targets],
            cwd=examples,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert result.returncode == 0, result.stdout
        return examples / targets[0]

    return build


@pytest.fixture(scope="session")
def registry_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """Docker's registry, open to all, for the whole run: tests push to repositories of their own."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def registry(registry_server: RegistryServer) -> str:
    """The ``host:port`` of Docker's registry."""
    return registry_server.host


@pytest.fixture
def fixed() -> Iterator[Fixed]:
    """A server that gives fixed answers."""
    with fixed_server() as server:
        yield server


@pytest.fixture
def proxy(registry: str, count: Callable[..., None]) -> Iterator[FaultProxy]:
    """A proxy before Docker's registry that errs on request."""
    with fault_proxy(registry) as server:
        yield server
    assert server.planned == [], "a fault was planned and did not happen"
    if server.injected:
        count("faults injected by the proxy", server.injected)


@pytest.fixture(scope="session")
def database() -> Iterator["Database"]:
    """PostgreSQL."""
    from tests.servers.buildgrid import postgresql

    with postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def executor(database: "Database", tmp_path_factory: pytest.TempPathFactory) -> Iterator["BuildGrid"]:
    """BuildGrid without any worker; its action cache is for the whole run."""
    from tests.servers.buildgrid import buildgrid

    with buildgrid(tmp_path_factory.mktemp("buildgrid"), database) as server:
        yield server


@pytest.fixture(scope="session")
def workers(executor: "BuildGrid", tmp_path_factory: pytest.TempPathFactory) -> Iterator["Worker"]:
    """Workers of ``executor`` as they should be."""
    from tests.servers.buildgrid import worker

    with worker(tmp_path_factory.mktemp("workers") / "there", executor) as found:
        yield found


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """A layer that no other test has, lest an action cache know what comes of it."""
    return tar(a=bytes(tmp_path), b=b"2")
