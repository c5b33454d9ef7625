import itertools

import pytest

from linuxkit_rules.debian.version import Version
from linuxkit_rules.errors import PackageError

# In the order that `dpkg --compare-versions` gives.
ORDERED = """0~~ 0~ 0 0+ 1.0~~a 1.0~rc1-1 1.0~rc1-1+b1 1.0
1.0-0+b1 1.0-1~deb12u1 1.0-1 1.0-1+b1 1.0-1+deb12u1 1.0-2 1.0a-1 1.0+dfsg-1
1.0.1-1 1.2 1.10 1:0.1 2:0.0.1-1
""".split()  # noqa: SIM905 - reads better


@pytest.mark.parametrize(("low", "high"), list(itertools.combinations(ORDERED, 2)))
def test_lower_sorts_before_higher(low: str, high: str) -> None:
    assert Version(low) < Version(high)
    assert not Version(high) < Version(low)
    assert Version(low) != Version(high)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.00", "1.0"), ("1.01", "1.1"), ("a", "a0")]
)
def test_versions_that_are_equal_though_written_otherwise(one: str, other: str) -> None:
    assert Version(one) == Version(other)
    assert hash(Version(one)) == hash(Version(other))
    assert not Version(one) < Version(other)


@pytest.mark.parametrize("text", ["", "1_0", "x:1", "1.0 ", "1.0-", ":1"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(PackageError, match="not a Debian version"):
        Version(text)
