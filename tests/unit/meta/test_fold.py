"""What the fold promises, one test per promise; `test_fold_model.py` mixes them at random."""

import gc
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest

from coordd.etcd import Event, KeyValue, RangeResult, WatchBatch
from coordd.meta import fold as fold_module
from coordd.meta.fold import Fold
from coordd.meta.quarantine import QuarantinedValue
from tests.unit.meta.samples import delete, key_value, load_steps, put
from tests.unit.meta.tables import DictTable


def make(*prefixes: str) -> tuple[Fold, list[DictTable]]:
    tables = [DictTable(prefix) for prefix in prefixes or ("a/",)]
    return Fold(tables), tables


def batch(revision: int, *events: Event) -> WatchBatch:
    return WatchBatch(revision, events)


def result(revision: int, *kvs: KeyValue) -> RangeResult:
    return RangeResult(revision, kvs)


def test_load_then_events() -> None:
    fold, [table] = make()
    assert fold.load(result(5, key_value("a/1", b"x", 3), key_value("a/2", b"y", 5)))
    fold.apply(batch(7, put("a/1", b"z", 6), delete("a/2", 7)))
    assert table.values == {"a/1": b"z"}
    assert (fold.revision, fold.mod_revision("a/1"), fold.mod_revision("a/2"), len(fold)) == (7, 6, 0, 1)


def test_progress_without_events_moves_the_revision() -> None:
    fold, _ = make()
    fold.apply(batch(9))
    assert fold.revision == 9


def test_a_key_goes_to_the_longest_prefix_and_others_nowhere() -> None:
    fold, [outer, inner, other] = make("a/", "a/b/", "b/")
    events = [put(key, b"v", 1) for key in ("a/1", "a/b/1", "a/b", "a/c/1", "b/1", "c/1", "a", "b", "a/b0")]
    fold.apply(batch(1, *events))
    assert set(outer.values) == {"a/1", "a/b", "a/c/1", "a/b0"}
    assert set(inner.values) == {"a/b/1"}
    assert set(other.values) == {"b/1"}
    assert fold.covers("a/x")
    assert not fold.covers("c/1")
    assert len(fold) == 6


def test_prefixes_must_differ_and_not_be_empty() -> None:
    for prefixes in (("a/", "a/"), ("",)):
        with pytest.raises(ValueError, match="prefixes"):
            make(*prefixes)


def test_events_the_fold_has_already_change_nothing() -> None:
    fold, [table] = make()
    fold.load(result(5, key_value("a/1", b"new", 4)))
    fold.apply(batch(6, put("a/1", b"old", 3), put("a/2", b"x", 6)))
    fold.apply(batch(6, put("a/2", b"y", 6)))
    fold.apply(batch(4, delete("a/1", 4)))
    assert table.values == {"a/1": b"new", "a/2": b"x"}
    assert fold.revision == 6


def test_a_replayed_put_does_not_bring_back_what_was_deleted_since() -> None:
    fold, [table] = make()
    fold.apply(batch(3, put("a/1", b"x", 3)))
    fold.apply(batch(4, delete("a/1", 4)))
    fold.apply(batch(4, put("a/1", b"x", 3), delete("a/1", 4)))
    assert table.values == {}


def test_delete_of_an_unknown_key_does_not_reach_the_table() -> None:
    fold, [table] = make()
    fold.apply(batch(3, delete("a/1", 3)))
    assert table.applied == []


class TestOwnCommits:
    def test_are_in_at_once_and_their_echo_is_ignored(self) -> None:
        fold, [table] = make()
        fold.apply_commit(5, [put("a/1", b"x", 5)])
        assert table.values == {"a/1": b"x"}
        assert (fold.revision, fold.mod_revision("a/1")) == (0, 5)
        fold.apply(batch(5, put("a/1", b"x", 5)))
        assert len(table.applied) == 1
        assert fold.revision == 5

    def test_after_the_echo_change_nothing(self) -> None:
        fold, [table] = make()
        fold.apply(batch(6, put("a/1", b"x", 5), put("a/1", b"y", 6)))
        fold.apply_commit(5, [put("a/1", b"x", 5)])
        assert table.values == {"a/1": b"y"}

    def test_a_deletion_outlives_older_events_that_come_later(self) -> None:
        fold, [table] = make()
        fold.apply_commit(6, [delete("a/1", 6)])
        fold.apply(batch(5, put("a/1", b"x", 5)))
        assert table.values == {}
        fold.apply(batch(6, delete("a/1", 6)))
        fold.apply(batch(7, put("a/1", b"y", 7)))
        assert table.values == {"a/1": b"y"}

    def test_may_be_applied_out_of_order(self) -> None:
        fold, [table] = make()
        fold.apply_commit(6, [put("a/1", b"new", 6), put("a/2", b"x", 6)])
        fold.apply_commit(5, [put("a/1", b"old", 5), put("a/3", b"y", 5)])
        assert table.values == {"a/1": b"new", "a/2": b"x", "a/3": b"y"}

    def test_survive_a_load_from_before_them(self) -> None:
        fold, [table] = make()
        fold.load(result(2, key_value("a/1", b"x", 2), key_value("a/2", b"x", 2)))
        fold.apply_commit(5, [put("a/3", b"own", 5), delete("a/1", 5)])
        fold.load(result(4, key_value("a/1", b"x", 2), key_value("a/2", b"y", 4)))
        assert table.values == {"a/2": b"y", "a/3": b"own"}

    def test_that_follow_each_other_complete_the_tables_before_the_watch_does(self) -> None:
        fold, _ = make()
        fold.load(result(4))
        fold.apply_commit(6, [put("a/1", b"x", 6)])
        assert fold.complete == 4, "what 5 was is not known"
        fold.apply_commit(5, [put("elsewhere", b"x", 5)])
        assert (fold.complete, fold.revision) == (6, 4)
        fold.apply_commit(7, [delete("a/9", 7)])
        assert fold.complete == 6, "if there was nothing to delete, 7 is somebody else's"
        fold.apply_commit(9, [put("a/1", b"y", 9)])
        fold.apply(batch(8))
        assert (fold.complete, fold.revision) == (9, 8)

    def test_their_echo_is_no_news_but_what_came_between_them_is(self) -> None:
        fold, [table] = make()
        fold.load(result(4))
        fold.apply_commit(5, [put("a/1", b"x", 5)])
        fold.apply_commit(7, [put("a/1", b"z", 7)])
        assert not fold.apply(batch(5, put("a/1", b"x", 5)))
        assert fold.apply(batch(7, put("a/2", b"y", 6), put("a/1", b"z", 7)))
        assert table.values == {"a/1": b"z", "a/2": b"y"}
        assert not fold.apply(batch(7))
        assert fold.apply(batch(8)), "nothing was written at 8, and that was not known"

    def test_to_a_watched_table_are_news_when_the_watch_tells_of_them(self) -> None:
        fold = Fold([DictTable("a/")], watched=[DictTable("b/")])
        fold.load(result(4))
        fold.apply_commit(5, [put("a/1", b"x", 5), put("b/1", b"x", 5)])
        fold.apply_commit(6, [put("a/1", b"y", 6)])
        assert fold.complete == 6
        assert fold.apply(batch(5, put("a/1", b"x", 5), put("b/1", b"x", 5)))
        assert not fold.apply(batch(6, put("a/1", b"y", 6)))

    def test_keys_of_no_table_do_not_matter(self) -> None:
        fold, [table] = make()
        fold.apply_commit(5, [put("snapshots/a/1", b"x", 5), delete("b/1", 5), put("a/1", b"x", 5)])
        assert table.values == {"a/1": b"x"}
        assert fold.mod_revision("snapshots/a/1") == 0


class TestLoadAfterAGap:
    def test_applies_only_the_difference(self) -> None:
        fold, [table] = make()
        fold.load(result(3, *(key_value(f"a/{name}", b"x", 3) for name in ("kept", "changed", "gone"))))
        table.applied.clear()
        kvs = [key_value("a/kept", b"x", 3), key_value("a/changed", b"y", 8), key_value("a/new", b"z", 9)]
        fold.load(result(10, *kvs))
        assert {(event.key, event.value, event.mod_revision) for event in table.applied} == {
            ("a/gone", None, 10),
            ("a/changed", b"y", 8),
            ("a/new", b"z", 9),
        }
        assert set(table.values) == {"a/kept", "a/changed", "a/new"}
        assert fold.revision == 10

    def test_an_older_read_is_refused(self) -> None:
        fold, [table] = make()
        fold.apply(batch(5, put("a/1", b"x", 5)))
        assert not fold.load(result(4))
        assert table.values == {"a/1": b"x"}
        assert fold.revision == 5

    def test_a_read_of_the_same_revision_does_no_harm(self) -> None:
        fold, [table] = make()
        fold.apply(batch(5, put("a/1", b"x", 5)))
        assert fold.load(result(5, key_value("a/1", b"x", 5)))
        assert len(table.applied) == 1


class TestLoadInSteps:
    kvs: Sequence[KeyValue] = [key_value(f"a/{index}", b"x", 1) for index in range(10)]

    def test_first_load_fills_the_tables_as_it_goes(self) -> None:
        fold, [table] = make()
        seen = [
            (done, len(table.values), fold.revision)
            for done in load_steps(fold, result(3, *self.kvs), slice_keys=4)
        ]
        assert seen == [(4, 4, 0), (8, 8, 0), (10, 10, 0)]
        assert (len(table.values), fold.revision) == (10, 3)

    def test_later_loads_change_the_tables_in_one_step(self) -> None:
        fold, [table] = make()
        fold.load(result(3, *self.kvs))
        changed = [key_value(kv.key, b"y", 4) for kv in self.kvs[:6]]
        for _ in load_steps(fold, result(5, *changed), slice_keys=2):
            assert set(table.values.values()) == {b"x"}
            assert len(table.values) == 10
        assert table.values == {kv.key: b"y" for kv in changed}

    def test_what_comes_between_the_steps_counts(self) -> None:
        fold, [table] = make()
        fold.load(result(3, *self.kvs))
        steps = load_steps(fold, result(5, *self.kvs[:8]), slice_keys=4)
        next(steps)
        fold.apply_commit(9, [put("a/9", b"own", 9), delete("a/1", 9)])
        assert list(steps) == [8]
        assert set(table.values) == {kv.key for kv in self.kvs[:8]} - {"a/1"} | {"a/9"}

    @pytest.mark.parametrize("first", [True, False])
    def test_what_has_come_between_the_steps_and_was_deleted_since_does_not_stay(self, first: bool) -> None:
        fold, [table] = make()
        if not first:
            fold.load(result(3, *self.kvs))
        steps = load_steps(fold, result(9, *self.kvs), slice_keys=4)
        next(steps)
        fold.apply_commit(5, [put("a/x", b"own", 5)])
        assert list(steps) == [8, 10]
        assert set(table.values) == {kv.key for kv in self.kvs}

    def test_what_comes_late_of_a_key_that_was_read_already_does_not_count(self) -> None:
        fold, [table] = make()
        fold.load(result(3, *self.kvs))
        steps = load_steps(fold, result(9, *(key_value(kv.key, b"y", 6) for kv in self.kvs)), slice_keys=4)
        next(steps)
        fold.apply_commit(5, [put("a/1", b"late", 5)])
        assert list(steps) == [8, 10]
        assert table.values == {kv.key: b"y" for kv in self.kvs}
        assert fold.mod_revision("a/1") == 6

    @pytest.mark.parametrize("by_the_watch", [True, False])
    @pytest.mark.parametrize("shown_at", [5, 6])
    def test_a_key_that_it_shows_does_not_vanish_in_between(self, by_the_watch: bool, shown_at: int) -> None:
        fold, [table] = make()
        fold.load(result(3, *self.kvs))
        seen: list[Event] = []
        fold.subscribe("a/1", seen.append)
        table.applied.clear()
        newest = key_value("a/1", b"y", shown_at)
        steps = load_steps(fold, result(9, self.kvs[0], newest, *self.kvs[2:]), slice_keys=4)
        next(steps)
        late = put("a/1", b"x" if shown_at > 5 else b"y", 5)
        if by_the_watch:
            fold.apply(batch(5, late))
        else:
            fold.apply_commit(5, [late])
        assert list(steps) == [8, 10]
        told = [(5, late.value), (shown_at, b"y")][: shown_at - 4]
        assert [(event.mod_revision, event.value) for event in seen] == told
        assert table.applied == seen

    def test_the_watch_may_overtake_it(self) -> None:
        fold, [table] = make()
        fold.load(result(3, *self.kvs))
        steps = load_steps(fold, result(5), slice_keys=4)
        fold.apply(batch(6, put("a/new", b"x", 6)))
        assert list(steps) == []
        assert len(table.values) == 11
        assert fold.revision == 6

    def test_one_that_was_given_up_is_made_good_by_the_next(self) -> None:
        fold, [table] = make()
        next(load_steps(fold, result(3, *self.kvs), slice_keys=4))
        fold.load(result(4, *self.kvs[2:]))
        assert set(table.values) == {kv.key for kv in self.kvs[2:]}

    def test_one_that_another_has_overtaken_only_compares_from_then_on(self) -> None:
        fold, [table] = make()
        steps = load_steps(fold, result(5, *(key_value(kv.key, b"y", 5) for kv in self.kvs)), slice_keys=4)
        next(steps)
        fold.load(result(4, *self.kvs))
        seen = [len([value for value in table.values.values() if value == b"y"]) for _ in steps]
        assert seen == [4, 4], "whole revisions only, once the tables are complete"
        assert set(table.values.values()) == {b"y"}


class TestGarbageCollection:
    kvs: Sequence[KeyValue] = [key_value(f"a/{index}", b"x", 1) for index in range(10)]

    def test_is_paused_during_a_first_load_only(self) -> None:
        fold, _ = make()
        steps = load_steps(fold, result(3, *self.kvs), slice_keys=5)
        next(steps)
        assert not gc.isenabled()
        steps.close()
        assert gc.isenabled()
        fold.load(result(3, *self.kvs))
        assert gc.isenabled()
        next(load_steps(fold, result(4, *self.kvs), slice_keys=5))
        assert gc.isenabled(), "a later load keeps nothing but what differs"

    def test_stays_off_for_those_who_have_switched_it_off(self) -> None:
        fold, _ = make()
        gc.disable()
        try:
            fold.load(result(3, *self.kvs))
            assert not gc.isenabled()
        finally:
            gc.enable()


class TestQuarantine:
    def test_a_bad_value_takes_the_previous_one_out_and_the_rest_is_served(self) -> None:
        fold, [table] = make()
        fold.load(result(3, key_value("a/1", b"x", 3), key_value("a/2", b"x", 3)))
        fold.apply(batch(4, put("a/1", b"bad", 4), put("a/2", b"y", 4)))
        assert table.values == {"a/2": b"y"}
        assert fold.quarantine.get("a/1") == QuarantinedValue("a/1", "does not decode", 4, unexpected=False)
        assert "a/1" in fold.quarantine
        assert (len(fold.quarantine), fold.quarantine.total) == (1, 1)
        assert fold.mod_revision("a/1") == 4

    @pytest.mark.parametrize("event", [put("a/1", b"good", 5), delete("a/1", 5)])
    def test_a_good_value_or_a_delete_ends_it(self, event: Event) -> None:
        fold, [table] = make()
        fold.apply(batch(4, put("a/1", b"bad", 4)))
        fold.apply(batch(5, event))
        assert len(fold.quarantine) == 0
        assert fold.quarantine.total == 1
        assert table.values == ({} if event.value is None else {"a/1": b"good"})

    def test_ends_when_a_load_finds_the_key_gone(self) -> None:
        fold, _ = make()
        fold.apply(batch(4, put("a/1", b"bad", 4)))
        fold.load(result(5))
        assert len(fold.quarantine) == 0

    def test_bugs_of_a_table_are_kept_from_the_rest(self) -> None:
        fold, [table] = make()
        fold.apply(batch(4, put("a/1", b"bug", 4), put("a/2", b"x", 4)))
        assert table.values == {"a/2": b"x"}
        found = fold.quarantine.get("a/1")
        assert found == QuarantinedValue("a/1", "RuntimeError: a bug", 4, unexpected=True)

    def test_a_table_that_cannot_even_delete_does_not_stop_the_fold(self) -> None:
        class Broken:
            prefix = "a/"

            def apply(self, event: Event) -> None:
                raise ZeroDivisionError(event.key)

        good = DictTable("b/")
        fold = Fold([Broken(), good])
        fold.apply(batch(4, put("a/1", b"x", 4), put("b/1", b"x", 4)))
        fold.apply(batch(5, delete("a/1", 5), put("b/2", b"x", 5)))
        assert set(good.values) == {"b/1", "b/2"}
        assert fold.revision == 5

    def test_is_logged_once_per_key_and_reason(self, logs: list[MutableMapping[str, Any]]) -> None:
        fold, _ = make()
        fold.apply(batch(4, put("a/1", b"bad", 4), put("a/2", b"bad", 4)))
        fold.apply(batch(5, put("a/1", b"bad again", 5)))
        fold.load(result(6, key_value("a/1", b"bad", 5), key_value("a/2", b"bad", 4)))
        assert fold.quarantine.total == 3
        assert [(line["key"], line["reason"]) for line in logs] == [
            ("a/1", "does not decode"),
            ("a/2", "does not decode"),
        ]

    def test_one_bug_leaves_one_traceback(self, logs: list[MutableMapping[str, Any]]) -> None:
        fold, _ = make()
        fold.apply(batch(4, *(put(f"a/{index}", b"bug", 4) for index in range(3))))
        assert [line["key"] for line in logs] == ["a/0", "a/1", "a/2"]
        assert [bool(line.get("exc_info")) for line in logs] == [True, False, False]


class TestSubscribers:
    def test_hear_of_changes_once_the_whole_revision_is_in(self) -> None:
        fold, [table] = make()
        seen: list[tuple[str, bytes | None, dict[str, bytes], int]] = []
        fold.subscribe(
            "a/", lambda event: seen.append((event.key, event.value, dict(table.values), fold.revision))
        )
        fold.apply(batch(5, put("a/1", b"x", 4), put("a/2", b"y", 5)))
        whole = {"a/1": b"x", "a/2": b"y"}
        assert seen == [("a/1", b"x", whole, 5), ("a/2", b"y", whole, 5)]

    def test_hear_nothing_twice_and_nothing_of_others(self) -> None:
        fold, _ = make("a/", "b/")
        seen: list[Event] = []
        unsubscribe = fold.subscribe("a/1", seen.append)
        own = put("a/1", b"x", 5)
        fold.apply_commit(5, [own, put("b/1", b"x", 5)])
        fold.apply(batch(5, own, put("b/1", b"x", 5)))
        fold.load(result(6, key_value("a/1", b"x", 5), key_value("a/2", b"x", 6)))
        assert seen == [own]
        unsubscribe()
        unsubscribe()
        fold.apply(batch(7, delete("a/1", 7)))
        assert seen == [own]

    def test_hear_of_a_first_load_and_of_what_vanished(self) -> None:
        fold, _ = make()
        seen: list[tuple[str, bytes | None]] = []
        fold.subscribe("a/", lambda event: seen.append((event.key, event.value)))
        fold.load(result(5, key_value("a/1", b"x", 5)))
        fold.load(result(6))
        assert seen == [("a/1", b"x"), ("a/1", None)]

    def test_hear_of_what_a_load_did_that_was_given_up(self) -> None:
        fold, _ = make()
        seen: list[str] = []
        fold.subscribe("a/", lambda event: seen.append(event.key))
        steps = load_steps(
            fold, result(5, key_value("a/1", b"x", 5), key_value("a/2", b"x", 5)), slice_keys=1
        )
        next(steps)
        fold.load(result(6, key_value("a/1", b"x", 5)))
        assert list(steps) == []
        assert seen == ["a/1"]

    def test_hear_of_a_quarantined_value_as_a_delete(self) -> None:
        fold, _ = make()
        seen: list[Event] = []
        fold.apply(batch(4, put("a/1", b"x", 4)))
        fold.subscribe("a/", seen.append)
        fold.apply(batch(5, put("a/1", b"bad", 5)))
        assert seen == [delete("a/1", 5)]

    def test_may_fail_and_leave_while_being_told(self) -> None:
        fold, [table] = make()
        seen: list[str] = []

        def fail(event: Event) -> None:
            raise RuntimeError(event.key)

        def leave(event: Event) -> None:
            seen.append(event.key)
            unsubscribe()

        fold.subscribe("a/", fail)
        unsubscribe = fold.subscribe("a/", leave)
        fold.apply(batch(5, put("a/1", b"x", 5), put("a/2", b"y", 5)))
        assert seen == ["a/1"]
        assert len(table.values) == 2


def test_the_keys_changed_last_are_known_but_not_those_of_the_first_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fold_module, "RECENT_KEYS", 3)
    fold, _ = make()
    fold.load(result(5, key_value("a/1", b"x", 3), key_value("a/2", b"y", 5)))
    assert fold.recent_keys() == []
    fold.apply(batch(7, put("a/3", b"z", 6), delete("a/2", 7), put("b/1", b"no table", 7)))
    fold.apply_commit(8, [put("a/4", b"z", 8)])
    fold.apply(batch(9, put("a/3", b"zz", 9)))
    assert fold.recent_keys() == ["a/2", "a/4", "a/3"]
    fold.load(result(12, key_value("a/1", b"x", 3), key_value("a/3", b"new", 12)))
    assert fold.recent_keys() == ["a/2", "a/4", "a/3"], "of a reload what differs"
    fold.apply(batch(13, put("a/5", b"1", 13)))
    assert fold.recent_keys() == ["a/4", "a/3", "a/5"]
    assert [fold.recent_keys(after) for after in (11, 12, 13)] == [["a/4", "a/3", "a/5"], ["a/5"], []]
