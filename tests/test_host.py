"""What the machine and its user say."""

import pytest

from linuxkit_rules.host import is_locked, is_set


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("1", "yes", "true", "TRUE", "on", "2")),
        *((text, False) for text in ("", "0", "no", "No", "false", "False", "off", " 0 ")),
    ],
)
def test_yes_and_no(text: str, expected: bool) -> None:
    assert is_set(text) is expected


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("", {}, False),
        ("", {"CI": "true"}, True),
        ("", {"CI": "false"}, False),
        ("0", {"CI": "true"}, False),
        ("False", {"CI": "true"}, False),
        ("1", {}, True),
    ],
)
def test_locked(text: str, environment: dict[str, str], expected: bool) -> None:
    assert is_locked(text, environment) is expected
