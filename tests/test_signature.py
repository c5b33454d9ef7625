"""What gpgv's status lines mean.  A stand-in speaks them: no locked package makes expired or revoked keys.

The real gpgv, on the real archive, is tried where the lock is refreshed (test_moby.py).
"""

from pathlib import Path

import pytest

from linuxkit_rules.debian.signature import Gpgv
from linuxkit_rules.errors import PackageError

GOOD, VALID = "GOODSIG 0123456789ABCDEF name", "VALIDSIG 0123456789ABCDEF0123456789ABCDEF01234567"


def gpgv(folder: Path, *status: str) -> Gpgv:
    """A program that writes the text and says ``status``."""
    lines = "\n".join(f"echo '[GNUPG:] {line}'" for line in status)
    program = folder / "gpgv"
    program.write_text(f'#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\necho text >"$2"\n{lines}\n')
    program.chmod(0o755)
    return Gpgv((str(program),), folder / "keyring")


@pytest.mark.parametrize(
    "status",
    [
        (GOOD, VALID),
        (GOOD, VALID, "ERRSIG FEDCBA9876543210"),
        ("EXPKEYSIG FEDCBA9876543210 old", GOOD, VALID),
    ],
    ids=["good", "good-and-unknown", "good-and-expired"],
)
def test_one_good_signature_is_enough(tmp_path: Path, status: tuple[str, ...]) -> None:
    assert gpgv(tmp_path, *status).verify(b"signed", "here") == "text\n"


@pytest.mark.parametrize(
    "status",
    [
        (),
        ("NODATA 1",),
        ("BADSIG 0123456789ABCDEF name",),
        (GOOD, VALID, "BADSIG FEDCBA9876543210 name"),
        ("EXPSIG 0123456789ABCDEF name", VALID),
        ("EXPKEYSIG 0123456789ABCDEF name", VALID),
        ("REVKEYSIG 0123456789ABCDEF name", VALID),
    ],
    ids=lambda status: status[-1].split()[0] + str(len(status)) if status else "none",
)
def test_anything_else_is_refused(tmp_path: Path, status: tuple[str, ...]) -> None:
    with pytest.raises(PackageError, match="here: the signature does not verify"):
        gpgv(tmp_path, *status).verify(b"signed", "here")
