import pytest

from coordd.etcd.version import RECOMMENDED, version_warnings


def issues(version: str) -> str:
    return "\n".join(version_warnings(version))


@pytest.mark.parametrize("version", ["3.5.28", "3.5.33", "3.6.9", "3.6.14", "3.7.1", "4.0.0"])
def test_no_known_data_bugs(version: str) -> None:
    assert version_warnings(version) == []


def test_the_version_in_the_wheel_is_warned_about_with_reasons() -> None:
    found = issues("3.5.1")
    for source in ("13766", "14370", "20418"):
        assert source in found
    assert all(line.startswith("etcd 3.5.1: ") and RECOMMENDED in line for line in version_warnings("3.5.1"))


@pytest.mark.parametrize(
    ("bad", "good", "source"),
    [
        ("3.5.2", "3.5.3", "issue 13766"),
        ("3.5.4", "3.5.5", "issue 14370"),
        ("3.4.20", "3.4.21", "issue 14370"),
        ("3.5.5", "3.5.6", "issue 14571"),
        ("3.5.12", "3.5.13", "17612"),
        ("3.4.30", "3.4.31", "17612"),
        ("3.5.16", "3.5.17", "issue 18679"),
        ("3.5.27", "3.5.28", "issue 20418"),
        ("3.6.8", "3.6.9", "issue 20418"),
        ("3.4.41", "3.4.42", "issue 20418"),
    ],
)
def test_windows_end_where_the_changelog_says(bad: str, good: str, source: str) -> None:
    assert source in issues(bad)
    assert source not in issues(good)
    assert f"fixed in {good}" in issues(bad)


def test_pre_releases_count_as_their_release() -> None:
    assert "20418" in issues("3.6.0-rc.2")


@pytest.mark.parametrize("version", ["3.3.27", "2.3.8"])
def test_unmaintained_versions(version: str) -> None:
    assert "older than all" in issues(version)


def test_the_last_3_4_is_only_unmaintained() -> None:
    assert version_warnings("3.4.45") == [f"etcd 3.4.45: the 3.4 line gets no more fixes; use {RECOMMENDED}"]


@pytest.mark.parametrize("version", ["", "not decided", "3.5"])
def test_what_is_no_version_is_said_to_be_none(version: str) -> None:
    assert "not understood" in issues(version)
