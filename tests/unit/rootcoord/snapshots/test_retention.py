"""Which versions go: every look-up from the horizon on gets the same answer, at every step of the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.rootcoord.snapshots.histories import History, Version
from coordd.rootcoord.snapshots.retention import Horizon, Removal, removal, transactions
from coordd.rootcoord.tso import LOGICAL_BITS

KEY = "by-dev/meta/root-coord/database/aliases/1/a"
NOW_MS = 1_700_000_000_000
ABSENT = "absent"

times = st.lists(st.integers(1, 100), min_size=1, max_size=20, unique=True)


@st.composite
def histories(draw: st.DrawFn) -> History:
    stamps = sorted(draw(times))
    return History(KEY, tuple(Version(ts, draw(st.booleans()), ts) for ts in stamps))


@st.composite
def horizons(draw: st.DrawFn) -> Horizon:
    history, deleted = sorted((draw(st.integers(0, 110)), draw(st.integers(0, 110))))
    return Horizon(history, deleted)


def at(versions: tuple[Version, ...], ts: int) -> object:
    """What a look-up sees: the version, or that there is none."""
    seen = [version for version in versions if version.ts <= ts]
    return seen[-1] if seen and not seen[-1].deleted else ABSENT


def without(history: History, gone: tuple[Version, ...]) -> tuple[Version, ...]:
    return tuple(version for version in history.versions if version not in gone)


@given(histories(), horizons())
def test_what_may_go(history: History, horizon: Horizon) -> None:
    going = removal(history, horizon)
    newest = history.versions[-1]
    if going is None:
        assert not (newest.deleted and newest.ts <= horizon.deleted)
        return
    assert going.key == KEY
    assert going.versions
    assert going.versions == history.versions[: len(going.versions)], "oldest first, none left out"
    assert going.forget == (newest.deleted and newest.ts <= horizon.deleted)
    assert going.forget == (going.versions == history.versions)
    for version, next_one in zip(going.versions, history.versions[1:], strict=False):
        assert going.forget or next_one.ts <= horizon.history, f"{version} was still to be seen"


@given(histories(), horizons())
def test_look_ups_from_the_horizon_on_do_not_notice(history: History, horizon: Horizon) -> None:
    going = removal(history, horizon) or Removal(KEY, ())
    first = horizon.deleted if going.forget else horizon.history
    for done in range(len(going.versions) + 1):  # a round may end anywhere
        left = without(history, going.versions[:done])
        for ts in range(first, 112):
            assert at(left, ts) == at(history.versions, ts)
        assert at(left, 1000) == at(history.versions, 1000), "now"


@given(histories(), horizons())
def test_nothing_more_can_go_afterwards(history: History, horizon: Horizon) -> None:
    going = removal(history, horizon)
    if going is not None and not going.forget:
        assert removal(History(KEY, without(history, going.versions)), horizon) is None


@given(histories(), horizons())
def test_pitfall_15_the_newest_version_of_what_exists_stays(history: History, horizon: Horizon) -> None:
    going = removal(history, horizon)
    if going is not None and not history.versions[-1].deleted:
        assert history.versions[-1] not in going.versions
        assert not going.forget


removals = st.lists(
    st.tuples(st.integers(1, 40), st.booleans()).map(
        lambda size: Removal(KEY, tuple(Version(ts, False, 1) for ts in range(size[0])), size[1])
    ),
    max_size=12,
)


@given(removals, st.integers(2, 20))
def test_transactions_hold_everything_in_order(wanted: list[Removal], most: int) -> None:
    cut = list(transactions(wanted, most=most))
    parts = [part for transaction in cut for part in transaction]
    for transaction in cut:
        assert 0 < sum(len(part.versions) + part.forget for part in transaction) <= most
    assert [version for part in parts for version in part.versions] == [
        version for one in wanted for version in one.versions
    ]
    assert [part.versions[-1] for part in parts if part.forget] == [
        one.versions[-1] for one in wanted if one.forget
    ], "the plain key goes with the last version"


def test_a_transaction_is_well_below_what_etcd_takes() -> None:
    many = Removal(KEY, tuple(Version(ts, ts == 299, 1) for ts in range(300)), forget=True)
    sizes = [
        sum(len(part.versions) + part.forget for part in transaction) for transaction in transactions([many])
    ]
    assert sizes == [64, 64, 64, 64, 45]
    assert list(transactions([])) == []


@pytest.mark.parametrize(
    ("ttl_s", "reserve_s", "history_s", "deleted_s"),
    [(86_400, 3600, 86_400, 3600), (60, 3600, 3600, 3600), (0, 0, 0, 0)],
)
def test_horizons(ttl_s: int, reserve_s: int, history_s: int, deleted_s: int) -> None:
    now = (NOW_MS << LOGICAL_BITS) + 77
    horizon = Horizon.at(now, ttl_s=ttl_s, reserve_s=reserve_s)
    assert horizon.history == (NOW_MS - 1000 * history_s) << LOGICAL_BITS
    assert horizon.deleted == (NOW_MS - 1000 * deleted_s) << LOGICAL_BITS


def test_a_clock_of_the_seventies_keeps_everything() -> None:
    assert Horizon.at(5 << LOGICAL_BITS, ttl_s=86_400, reserve_s=3600) == Horizon(0, 0)
