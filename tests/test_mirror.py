from pathlib import Path

import pytest

from linuxkit_rules.debian import mirror
from linuxkit_rules.errors import PackageError

DEB822 = """\
# comment
Types: deb
URIs: {uri}
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {key}
"""


def _apt(tmp_path: Path, **files: str) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        place = "sources.list" if name == "main" else f"sources.list.d/{name.replace('_', '.')}"
        (tmp_path / place).write_text(text)
    return tmp_path


def test_the_setting_wins(tmp_path: Path) -> None:
    apt = _apt(tmp_path, main="deb http://other.test/debian bookworm main\n")
    assert mirror.find("http://set.test/debian/", apt) == "http://set.test/debian"


@pytest.mark.parametrize(
    "files",
    [
        {"main": "deb http://m.test/debian bookworm main\n"},
        {"main": "# deb http://no.test/debian x main\ndeb [arch=amd64] http://m.test/debian/ b main #\n"},
        {"a_list": "deb-src http://no.test/debian b main\ndeb http://m.test/debian b contrib main\n"},
        {"a_sources": DEB822.format(uri="http://m.test/debian", key="/k")},
        {
            "a_list": "deb http://other.test/apt b main\n",
            "b_sources": DEB822.format(uri="http://m.test/debian", key=""),
        },
        {"a_list": "deb http://m.test/debian-security b-security main\ndeb http://m.test/debian b main\n"},
        {"main": "deb cdrom:[x]/debian b main\ndeb file:/debian b main\ndeb http://m.test/debian b main\n"},
    ],
)
def test_apts_own_mirror_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    assert mirror.find(None, _apt(tmp_path, **files)) == "http://m.test/debian"


def test_a_mirror_under_another_name_is_known_by_its_keyring(tmp_path: Path) -> None:
    text = DEB822.format(
        uri="https://m.test/proxy/deb12", key="/usr/share/keyrings/debian-archive-keyring.gpg"
    )
    assert mirror.find(None, _apt(tmp_path, a_sources=text)) == "https://m.test/proxy/deb12"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"main": "deb http://m.test/debian bookworm contrib\n"},
        {"main": "deb http://archive.test/ubuntu noble main\n"},
        {"a_sources": "Enabled: no\n" + DEB822.format(uri="http://m.test/debian", key="")},
        {"a_disabled": "deb http://m.test/debian bookworm main\n"},
    ],
)
def test_without_a_mirror_the_error_says_what_to_set(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(PackageError, match="set LINUXKIT_DEBIAN_MIRROR"):
        mirror.find(None, _apt(tmp_path, **files))


@pytest.mark.parametrize(
    "setting", ["/srv/debian", "http://[half/debian", "ftp://m.test/debian", "http:///x"]
)
def test_a_setting_that_is_no_address_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(PackageError, match="is no address of a Debian mirror"):
        mirror.find(setting, tmp_path)


def test_the_security_archive_lies_beside_the_main_one() -> None:
    base = "http://m.test/debian"
    assert (
        mirror.url(base, "pool/main/a/a+b_1~2_all.deb") == "http://m.test/debian/pool/main/a/a+b_1~2_all.deb"
    )
    assert mirror.url(base, "pool/updates/a.deb") == "http://m.test/debian-security/pool/updates/a.deb"
    assert mirror.release_url(base, "trixie") == "http://m.test/debian/dists/trixie"
    assert (
        mirror.release_url(base, "trixie-security") == "http://m.test/debian-security/dists/trixie-security"
    )
