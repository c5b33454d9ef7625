"""Builds without the user's own SConstruct: SCons run as a program on a packaged one.

The request travels as one JSON argument; SCons's own notes lie in the store, so that the output folder holds
outputs only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SCons.Script

from linuxkit_rules.errors import LinuxKitError, StoreError, UsageError
from linuxkit_rules.host import store_root
from linuxkit_rules.scons import notes, tool
from linuxkit_rules.scons.image import memo_of
from linuxkit_rules.scons.settings import choices_of, settings_of, site_of
from linuxkit_rules.scons.yamls import STDIN, chosen, mark_stdin, yaml_of
from linuxkit_rules.store.locks import READ_ONLY, held
from linuxkit_rules.store.survey import PLACE
from linuxkit_rules.store.usage import cannot_write
from linuxkit_rules.values import dataclass

if TYPE_CHECKING:
    from linuxkit_rules.plan.image import Parts
    from linuxkit_rules.stages.stage import Engine

_SCONSTRUCT = Path(__file__).with_name("SConstruct.moby")


@dataclass(frozen=True, slots=True)
class Request:
    """What ``moby build`` asks for: YAMLs (merged in order), an output folder, a name, formats, variables.

    Without formats the YAMLs choose.  The file ``-`` is standard input, kept in the file ``stdin``.
    """

    files: tuple[str, ...]
    folder: str
    name: str
    formats: tuple[str, ...]
    variables: Mapping[str, Any]
    state: str
    stdin: str = ""


def state_folder(store: str, folder: str, name: str) -> str:
    """Give the folder in the store for SCons's notes on the image ``name`` in ``folder``."""
    place = hashlib.sha256(os.fsencode(f"{Path(folder).absolute()}\0{name}")).hexdigest()[:16]
    return str(store_root(store).absolute() / "builds" / place)


def build(request: Request, jobs: int, stdin: bytes | None = None) -> int:
    """Run SCons; give its exit status.  Raises StoreError where its notes cannot be kept.

    ``stdin`` is what the file ``-`` stands for.  A second build of the same image in the same folder waits
    for the first.
    """
    command = [sys.executable, "-m", "SCons", "-Q", "-f", str(_SCONSTRUCT), "--no-site-dir", f"-j{jobs}"]
    with _alone(Path(request.state), Path(request.folder).absolute()) as lock:
        if stdin is not None:
            request = dataclasses.replace(request, stdin=_kept(stdin, Path(request.state) / "stdin"))
        argument = json.dumps(dataclasses.asdict(request))
        line, files = [*command, f"request={argument}"], () if lock is None else (lock,)
        with subprocess.Popen(line, env=_environment(), pass_fds=files) as process:
            return _wait(process)


@contextlib.contextmanager
def _alone(state: Path, folder: Path) -> Iterator[int | None]:
    """Hold the lock of an image's notes, which name the outputs' ``folder`` for ``moby store gc``.

    Gives the lock's descriptor: SCons holds it too, should it outlive this process.  In a store that may only
    be read there is nothing to hold.
    """
    number = None
    with contextlib.ExitStack() as stack:
        try:
            number = stack.enter_context(held(state / "lock"))
            if not (state / PLACE).exists():
                (state / PLACE).write_bytes(os.fsencode(folder))
        except OSError as error:
            if error.errno not in READ_ONLY or not state.is_dir():
                there = state.parent.parent.is_dir()
                raise cannot_write(
                    state, error, "write to the store" if there else "make the store"
                ) from error
        yield number


def _kept(stdin: bytes, folder: Path) -> str:
    """Write standard input to a file in ``folder``, named by its bytes, instead of an older one."""
    path = folder / f"{hashlib.sha256(stdin).hexdigest()}.yml"
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            if old != path:
                old.unlink()
        path.write_bytes(stdin)
    except OSError as error:
        message = f"cannot keep standard input: {error.strerror}"
        raise StoreError(message, where=str(folder), hint="set LINUXKIT_STORE") from error
    return str(path)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for SCons, which cleans up after an interrupt; a request to end is passed on as one."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(signal.SIGINT))
    try:
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # the terminal has sent it to SCons too
                return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _environment() -> dict[str, str]:
    """Give the environment without SCons's own variable, which would change what the command line means."""
    return {name: value for name, value in os.environ.items() if name != "SCONSFLAGS"}


def declare(argument: str) -> None:
    """Declare what the request asks for; called by the packaged SConstruct."""
    request = Request(**json.loads(argument))
    SCons.Script.SConsignFile(str(Path(request.state) / "sconsign.dblite"), notes)
    env = _construction(request)
    try:
        target = _literal(f"{request.folder}/{request.name}")
        files = [_source(env, file, request) for file in request.files]
        formats = request.formats or chosen([yaml_of(file) for file in files], memo_of(env))
        SCons.Script.Default(tool.declare(env, target, files, formats or [tool.DEFAULT_FORMAT]))
    except LinuxKitError as error:
        sys.exit(f"moby: {error}")
    gc.freeze()  # what there is by now lasts until the process ends, which is no user's own


def dry_run(request: Request, stdin: bytes | None = None) -> tuple[str, tuple[str, ...]]:
    """Plan, and build nothing: give the merged YAML, with paths from the current folder, and warnings.

    Raises LinuxKitError for all that can be known to be wrong without fetching.
    """
    from linuxkit_rules.outputs.registry import by_name, named
    from linuxkit_rules.plan.relocate import relocated
    from linuxkit_rules.spec.emit import emit

    parts = planned(request, stdin)
    by_outputs: Sequence[str] = named(parts.spec.outputs)
    owners: dict[str, str] = {}
    for name in request.formats or by_outputs:
        for suffix in by_name(name).steps(parts):
            owner = owners.setdefault(suffix, name)
            if owner != name:
                message = f"formats {owner} and {name} both make this file"
                raise UsageError(message, where=f"{request.name}{suffix}", hint="ask for one of them")
    return emit(relocated(parts.spec)), parts.warnings


def planned(request: Request, stdin: bytes | None = None) -> Parts:
    """Give the plan of what ``build`` would build; raise LinuxKitError."""
    from linuxkit_rules.plan.image import plan

    settings = settings_of(choices_of(_construction(request)))
    with _readable(request, stdin) as files:
        return plan(files, request.name, settings, Path.is_file, bases={STDIN: Path()})


def engine_of(request: Request) -> Engine:
    """Give an engine like the one that a build of the request would use, which reports nothing."""
    from linuxkit_rules.stages.stage import Engine

    site = site_of(_construction(request))
    return Engine(site.store, access=site.engine.access, limits=site.limits)


def lock_images(
    request: Request,
    arches: Sequence[str],
    output: Path | None,
    report: Callable[[str], None],
    stdin: bytes | None,
) -> None:
    """Write what the images of the request's YAMLs are to the lock ``output``, for ``arches`` or all.

    Without ``output`` it is the lock that a build of these YAMLs reads.  ``report`` hears of changes, and
    warnings.  Raises LinuxKitError.
    """
    from linuxkit_rules.plan.image import lock_name
    from linuxkit_rules.plan.locking import Locking, read, references
    from linuxkit_rules.plan.memo import Evidence
    from linuxkit_rules.plan.settings import ARCHES
    from linuxkit_rules.plan.trust import policies_of

    settings = settings_of(choices_of(_construction(request)))
    folders = {file: Path(file).parent for file in request.files}
    with _readable(request, stdin) as files:
        spec = read(files, folders)
    trust, warnings = policies_of(spec.trust, settings, Evidence())
    locking = Locking(engine_of(request), settings, trust, tuple(arches) or ARCHES, report)
    path = output or settings.image_lock or Path(lock_name(request.files[-1]))
    before = locking.before(path)
    lock = locking.lock(references(spec, settings, folders))
    for warning in (*warnings, *trust.warnings()):
        report(f"warning: {warning}")
    locking.write(lock, path, before)


@contextlib.contextmanager
def _readable(request: Request, stdin: bytes | None) -> Iterator[dict[str, Path]]:
    """Give where each of the request's YAMLs can be read, by the name that messages show."""
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(stdin or b"")
        copy.flush()
        yield {file: Path(copy.name if file == STDIN else file) for file in request.files}


def _construction(request: Request) -> Any:
    return SCons.Script.Environment(tools=[tool.generate], LINUXKIT_STATE=request.state, **request.variables)


def _source(env: Any, file: str, request: Request) -> Any:
    """Give the node of a YAML; raise UsageError for a folder."""
    if file != STDIN:
        return tool.file_node(env, _literal(file))
    node = env.File(_literal(request.stdin))
    mark_stdin(node, env.Dir("."))
    return node


def _literal(text: str) -> str:
    """Keep SCons from expanding dollars in a name."""
    return text.replace("$", "$$")
