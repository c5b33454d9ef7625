"""Each target, for a bounded time, from the corpus that is kept; longer runs are made by hand."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, sound

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 8
LEAST = {"tar": 500, "cpio": 500, "manifest": 500, "yaml": 500}
"""Inputs tried at the least: far fewer than a slow and busy machine manages."""


def test_every_target_has_a_corpus_and_all_are_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 500_000


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_handled(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert len(inputs) >= 10
    for path in inputs:
        sound(target, path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_fuzzing_finds_nothing(target: str, tmp_path: Path, count: Callable[..., None]) -> None:
    found = tmp_path / "corpus"
    command = [sys.executable, "-m", "tests.fuzz", target, "--seconds", str(SECONDS), "--corpus", str(found)]
    done = subprocess.run(command, cwd=CORPUS.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert not list(found.glob("find-*"))
    match = re.search(r"number_of_executed_units: *([0-9]+)", done.stderr)
    assert match, done.stderr[-4000:]
    assert int(match[1]) >= LEAST[target]
    count("fuzz inputs tried", int(match[1]))
