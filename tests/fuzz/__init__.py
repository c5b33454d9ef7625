"""Coverage-guided fuzzing (atheris, which is libFuzzer for Python): ``python -m tests.fuzz TARGET``."""
