"""The archive's signature, checked by gpgv against a keyring.

gpgv(1): https://www.gnupg.org/documentation/manuals/gnupg/gpgv.html; its status lines are those of GnuPG's
doc/DETAILS, "Format of the --status-fd output".
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from linuxkit_rules.errors import PackageError
from linuxkit_rules.values import dataclass

_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Gpgv:
    """The program gpgv, as the arguments that start it, and the keyring of those who may sign."""

    command: tuple[str, ...]
    keyring: Path

    def verify(self, signed: bytes, where: str) -> str:
        """Give the text of a clearsigned document, and nothing that is not covered by the signature.

        At least one signature must be good and none bad; ones by keys that are not in the keyring do not
        count, as with apt.  Raises PackageError, saying ``where``, otherwise.
        """
        with tempfile.TemporaryDirectory() as folder:
            message, text = Path(folder, "signed"), Path(folder, "text")
            message.write_bytes(signed)
            status = self._run(folder, message, text)
            # Of an expired or revoked key's signature gpgv says VALIDSIG too, but not GOODSIG.
            good = {"GOODSIG", "VALIDSIG"} <= status and "BADSIG" not in status
            if not good or not text.is_file():
                reason = ", ".join(sorted(status & _FAULTS)) or "no signature"
                raise PackageError(f"the signature does not verify: {reason}", where=where)
            return text.read_text("utf-8")

    def _run(self, folder: str, message: Path, text: Path) -> set[str]:
        """Run gpgv and give the keywords of its status lines."""
        options = ("--homedir", folder, "--status-fd", "1", "--keyring", str(self.keyring.absolute()))
        arguments = [*self.command, *options, "--output", str(text), str(message)]
        try:
            done = subprocess.run(arguments, capture_output=True, check=False, timeout=_TIMEOUT, text=True)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PackageError(f"gpgv cannot be run: {error}") from None
        lines = (line.split() for line in done.stdout.splitlines())
        return {parts[1] for parts in lines if len(parts) > 1 and parts[0] == "[GNUPG:]"}


_FAULTS = frozenset(("BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NO_PUBKEY", "NODATA"))
