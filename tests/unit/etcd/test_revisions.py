"""Guarantees of a watch (named in etcd's tests/robustness/validate/watch.go), for any cut of a history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.etcd import Event
from coordd.etcd.revisions import OutOfOrderError, Revisions


def event(revision: int, key: str = "k") -> Event:
    return Event(key, b"v", revision, revision, 0, 1)


def history(sizes: list[int]) -> list[Event]:
    """`sizes[i]` events at revision i + 1."""
    return [event(1 + index, f"k{number}") for index, size in enumerate(sizes) for number in range(size)]


def test_a_response_is_handed_on_whole() -> None:
    revisions = Revisions(1)
    batch = revisions.events([event(1, "a"), event(1, "b"), event(4, "a")], fragment=False)
    assert batch is not None
    assert (batch.revision, len(batch.events), revisions.next_revision) == (4, 3, 5)


def test_fragments_are_held_until_their_revision_is_complete() -> None:
    revisions = Revisions(1)
    assert revisions.events([event(3, "a")], fragment=True) is None
    assert revisions.events([event(3, "b")], fragment=True) is None
    early = revisions.events([event(3, "c"), event(5, "a")], fragment=True)
    assert early is not None
    assert ([one.key for one in early.events], early.revision) == (["a", "b", "c"], 3)
    assert revisions.next_revision == 4
    last = revisions.events([event(5, "b")], fragment=False)
    assert last is not None
    assert [one.key for one in last.events] == ["a", "b"]


def test_a_revision_received_in_part_comes_again_after_a_reconnect() -> None:
    revisions = Revisions(1)
    revisions.events([event(2, "a"), event(2, "b")], fragment=True)
    revisions.reconnected()
    assert revisions.next_revision == 1
    batch = revisions.events([event(2, "a"), event(2, "b"), event(2, "c")], fragment=False)
    assert batch is not None
    assert [one.key for one in batch.events] == ["a", "b", "c"]


def test_what_was_delivered_is_not_delivered_again() -> None:
    revisions = Revisions(1)
    revisions.events([event(2), event(3)], fragment=False)
    assert revisions.events([event(2), event(3)], fragment=False) is None
    batch = revisions.events([event(3), event(4)], fragment=False)
    assert batch is not None
    assert [one.mod_revision for one in batch.events] == [4]


def test_events_out_of_order_are_refused_and_change_nothing() -> None:
    revisions = Revisions(1)
    with pytest.raises(OutOfOrderError):
        revisions.events([event(5), event(4)], fragment=False)
    assert revisions.next_revision == 1
    batch = revisions.events([event(4), event(5)], fragment=False)
    assert batch is not None
    assert len(batch.events) == 2


def test_progress_is_reported_once_and_never_moves_the_place_to_resume_from() -> None:
    revisions = Revisions(7)
    batch = revisions.progress(20)
    assert batch is not None
    assert (batch.revision, batch.events) == (20, ())
    assert revisions.progress(20) is None
    assert revisions.progress(19) is None
    assert revisions.next_revision == 7


def test_progress_of_a_member_that_lags_behind_is_no_news() -> None:
    assert Revisions(10).progress(4) is None


def test_progress_between_fragments_is_not_believed() -> None:
    revisions = Revisions(1)
    revisions.events([event(2)], fragment=True)
    assert revisions.progress(9) is None


@pytest.mark.parametrize("revision", [0, -1])
def test_a_watch_from_no_revision_is_refused(revision: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Revisions(revision)


@given(st.data())
def test_any_cut_with_reconnects_and_repeats_gives_the_history_once_in_whole_revisions(
    data: st.DataObject,
) -> None:
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))
    events = history(sizes)
    revisions, got = Revisions(1), []
    while revisions.next_revision <= len(sizes):
        # A new stream: it starts where we are, or, after a member fell behind, some revisions earlier.
        start = max(1, revisions.next_revision - data.draw(st.integers(0, 2)))
        todo = [one for one in events if one.mod_revision >= start]
        revisions.reconnected()
        if not todo:
            break
        while todo:
            whole = data.draw(st.integers(1, len(todo)))
            while whole < len(todo) and todo[whole].mod_revision == todo[whole - 1].mod_revision:
                whole += 1
            response, todo = todo[:whole], todo[whole:]
            broken = False
            while response and not broken:
                size = data.draw(st.integers(1, len(response)))
                piece, response = response[:size], response[size:]
                batch = revisions.events(piece, fragment=bool(response))
                if batch is not None:
                    got.append(batch)
                broken = data.draw(st.booleans())
            if broken:
                break
    assert [one for batch in got for one in batch.events] == events
    for batch in got:
        assert batch.revision == batch.events[-1].mod_revision
    firsts = [batch.events[0].mod_revision for batch in got]
    lasts = [batch.revision for batch in got]
    assert all(first > last for first, last in zip(firsts[1:], lasts, strict=False))
