"""The first windows of a term: claimed by a campaign, bequeathed by a handover, and never guessed."""

import pytest

from coordd.etcd import Compare, Event, Nested, Put
from coordd.meta.codecs import encode_time_ns
from coordd.rootcoord.first_windows import FirstWindows, WindowTable
from coordd.rootcoord.tso import LOGICAL_BITS, NS_PER_MS, WINDOW_MS, Wait
from tests.unit.rootcoord.recorded import LAYOUT

NOW_MS = 1_705_000_000_000
KEYS = LAYOUT.timestamp, LAYOUT.id_window


def write(key: str, end_ms: int, revision: int, version: int) -> Event:
    return Event(key, encode_time_ns(end_ms * NS_PER_MS), revision, 2, 0, version)


def followed(*writes: tuple[int, int]) -> WindowTable:
    """Both windows written together, as (end in ms after `NOW_MS`, revision), one write after the other."""
    table = WindowTable(LAYOUT)
    for version, (end, revision) in enumerate(writes, 1):
        for key in KEYS:
            table.apply(write(key, NOW_MS + end, revision, version))
    return table


def first_of(windows: FirstWindows) -> tuple[int, int]:
    """First timestamp and ID, as milliseconds after `NOW_MS`."""
    timestamp, id_ = windows.timestamps.allocate(1, NOW_MS), windows.ids.allocate(1)
    assert isinstance(timestamp, int)
    assert isinstance(id_, int)
    return (timestamp >> LOGICAL_BITS) - NOW_MS, (id_ >> LOGICAL_BITS) - NOW_MS


def test_a_claim_starts_above_what_was_saved_and_compares_it() -> None:
    found = followed((100, 7), (5000, 9)).next(NOW_MS)
    assert found is not None
    first, op = found
    assert op.compares == [Compare.mod_revision(key, 9) for key in KEYS]
    assert [put.key for put in op.success if isinstance(put, Put)] == list(KEYS)
    assert op.failure == ()
    first.begin()
    assert first_of(first) == (5001, 5001)


def test_nothing_is_handed_out_before_the_claim_was_granted() -> None:
    found = followed((5000, 9)).next(NOW_MS)
    assert found is not None
    assert found[0].timestamps.allocate(1, NOW_MS) is Wait.WINDOW
    assert found[0].ids.allocate(1) is Wait.WINDOW


def test_what_a_claim_saves_is_what_it_may_hand_out() -> None:
    found = followed((-60_000, 9)).next(NOW_MS)
    assert found is not None
    first, op = found
    saved = [int.from_bytes(put.value, "big") // NS_PER_MS for put in op.success if isinstance(put, Put)]
    assert saved == [first.timestamp_end_ms, first.id_end_ms] == [NOW_MS + WINDOW_MS] * 2
    first.begin()
    assert first.timestamps.window_end_ms == saved[0]
    assert first.ids.mark_ms == saved[1]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [None, b"", b"1234567", b"\0" * 8, b"\xff" * 8])
def test_what_is_absent_or_corrupt_is_not_claimed(key: str, value: bytes | None) -> None:
    table = followed((100, 7))
    table.apply(Event(key, value, 8, 2, 0, 2))
    assert table.next(NOW_MS) is None
    assert table.bequeathed(8, NOW_MS) is None


def test_nothing_followed_yet() -> None:
    assert WindowTable(LAYOUT).next(NOW_MS) is None
    assert WindowTable(LAYOUT).bequeathed(3, NOW_MS) is None


def test_an_heir_starts_above_what_stood_there_before() -> None:
    first = followed((100, 7), (5000, 9)).bequeathed(9, NOW_MS)
    assert first is not None
    assert (first.timestamp_end_ms, first.id_end_ms) == (NOW_MS + 5000, NOW_MS + 5000)
    first.begin()
    assert first_of(first) == (101, 101)


def test_only_what_the_transaction_of_the_term_wrote_is_inherited() -> None:
    assert followed((100, 7), (5000, 9)).bequeathed(10, NOW_MS) is None
    table = followed((100, 7), (5000, 9))
    table.apply(write(LAYOUT.timestamp, NOW_MS + 6000, 10, 3))
    assert table.bequeathed(10, NOW_MS) is None, "one of the two"
    assert table.bequeathed(9, NOW_MS) is None, "written again since"


def test_a_write_that_was_missed_may_have_been_larger() -> None:
    table = followed((100, 7))
    for key in KEYS:
        table.apply(write(key, NOW_MS + 5000, 9, version=3))
    assert table.bequeathed(9, NOW_MS) is None
    assert table.next(NOW_MS) is not None, "what stands there now is known all the same"


def test_the_first_write_of_a_key_has_nothing_before_it() -> None:
    assert followed((5000, 9)).bequeathed(9, NOW_MS) is None


def test_a_key_that_was_deleted_and_made_again_has_nothing_before_it() -> None:
    table = followed((100, 7), (200, 8))
    for key in KEYS:
        table.apply(Event(key, None, 9, 0, 0, 0))
        table.apply(write(key, NOW_MS + 5000, 10, version=1))
    assert table.bequeathed(10, NOW_MS) is None


def test_a_bequest_is_taken_by_who_follows_it() -> None:
    """The predecessor's transaction as the heir's watch tells it."""
    found = followed((100, 7), (4000, 9)).next(NOW_MS)
    assert found is not None
    assert isinstance(found[1], Nested)
    heir = followed((100, 7), (4000, 9))
    for put in found[1].success:
        assert isinstance(put, Put)
        heir.apply(Event(put.key, put.value, 12, 2, 0, 3))
    first = heir.bequeathed(12, NOW_MS)
    assert first is not None
    first.begin()
    assert first_of(first) == (4001, 4001)
    assert first.timestamp_end_ms == found[0].timestamp_end_ms


SECONDS = tuple((1000 * number, 10 + 5 * number) for number in range(200))
"""Windows saved once a second, at revisions 10, 15, 20 ..."""


@pytest.mark.parametrize(
    ("saves", "epoch", "revision"),
    [
        ((), 9, 0),
        (SECONDS[:120], 2000, 0),
        (SECONDS[:121], 2000, 10),
        (SECONDS, 2000, 10 + 5 * 79),
        (SECONDS, SECONDS[150][1], 10 + 5 * 29),
        ((*SECONDS, (7_200_000, 2000)), 2000, 10 + 5 * 79),
        ((*SECONDS, (7_200_000, 2000), (7_201_000, 2005)), 2000, 10 + 5 * 79),
        ((*SECONDS, (7_200_000, 1500), (7_201_000, 1505)), 2000, 10 + 5 * 83),
        ((*SECONDS[:120], (7_200_000, 1500)), 2000, 10 + 5 * 2),
        ((*SECONDS, (-5000, 1500)), 2000, 10 + 5 * 79),
    ],
    ids=[
        "nothing was saved",
        "terms have not lasted long enough",
        "just long enough",
        "longer",
        "what was saved in this term and later does not count",
        "nobody led for hours until this term",
        "nor is it known what this term has saved",
        "nobody led for hours until the last one",
        "that ended at once",
        "somebody set the window back",
    ],
)
def test_what_is_long_ago_is_so_in_the_time_of_terms(
    saves: tuple[tuple[int, int], ...], epoch: int, revision: int
) -> None:
    assert followed(*saves).long_ago(epoch) == revision


def test_a_corrupt_window_tells_no_time() -> None:
    table = followed(*SECONDS)
    table.apply(Event(LAYOUT.timestamp, b"bad", 1500, 2, 0, 201))
    assert table.long_ago(2000) == 10 + 5 * 79
