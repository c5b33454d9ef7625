"""Host programs for tests: those of the locked packages, never what the machine has installed."""

from linuxkit_rules import host
from linuxkit_rules.debian.lock import LIBRARY_LOCK, load_lock
from linuxkit_rules.stages.tool import Program, install


def tool(name: str, program: str) -> list[str]:
    """The command that starts ``program`` of the tool ``name``."""
    root = install(host.engine(), name, load_lock(LIBRARY_LOCK), host.host_arch())
    return list(Program(root, program).command)
