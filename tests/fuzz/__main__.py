"""Fuzz one target: ``python -m tests.fuzz tar --seconds 3600``.

New inputs that reach new code, and those that are finds, go to the folder ``--corpus`` (a new one unless
given); the kept corpus, ``tests/fuzz/corpus/TARGET``, is read beside it and left alone.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

KEPT = Path(__file__).parent / "corpus"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=("tar", "cpio", "manifest", "yaml"))
    parser.add_argument("--seconds", type=int, default=60, help="time in all (60)")
    parser.add_argument("--corpus", type=Path, help="folder that new inputs go to (a new one)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    options = parser.parse_args()
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{options.target}-"))
    corpus.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["linuxkit_rules", "yaml"]):
        from tests.fuzz.targets import sound
    flags = [
        f"-max_total_time={options.seconds}",
        f"-seed={options.seed}",
        f"-artifact_prefix={corpus}/find-",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-max_len=8192",
        "-print_final_stats=1",
    ]
    atheris.Setup(
        [sys.argv[0], *flags, str(corpus), str(KEPT / options.target)],
        lambda data: sound(options.target, data),
    )
    atheris.Fuzz()


main()
