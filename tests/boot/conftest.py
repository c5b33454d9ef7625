"""QEMU for the boot tests."""

import pytest

from linuxkit_rules import host
from linuxkit_rules.debian.lock import load_lock
from linuxkit_rules.run.locked import locked
from linuxkit_rules.run.qemu import Qemu


@pytest.fixture(scope="session")
def qemu() -> Qemu:
    """The QEMU of the locked packages: nothing on the host counts."""
    return locked(host.engine(), load_lock(host.package_lock()), "amd64", host.host_arch())
