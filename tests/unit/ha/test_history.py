"""The log of leadership: records, the plans that keep it, and what is counted."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.etcd import Delete, Event, Put
from coordd.etcd.types import MAX_TXN_OPS
from coordd.ha.election_events import TermCause
from coordd.ha.history import (
    MAX_DELETES,
    SEEN_END,
    HistoryTable,
    TermEnd,
    TermLog,
    TermRecord,
    decode_term,
    phases_ms,
    plan_begin,
    plan_end,
)
from coordd.ha.phases import Phases
from coordd.meta.codecs import DecodeError
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")


def term(epoch: int, server_id: int = 14, **fields: object) -> TermRecord:
    standard: dict[str, object] = {
        "role": "rootcoord", "epoch": epoch, "server_id": server_id, "address": "10.0.0.5:53100",
        "host_name": "a", "cause": TermCause.CRASH, "predecessor": 12,
        "started_ms": 1_700_000_000_000 + epoch,
        "phases_ms": {"detect": 0.4, "fence": 2.125, "activate": 0.8, "serve": 1.3},
    }  # fmt: skip
    return TermRecord(**{**standard, **fields})


def apply(table: HistoryTable, ops: Iterable[Put | Delete], revision: int) -> None:
    """What the watch would tell of a transaction."""
    for op in ops:
        value = op.value if isinstance(op, Put) else None
        table.apply(Event(op.key, value, revision, revision, 0, 1))


def table_of(*records: TermRecord) -> HistoryTable:
    table = HistoryTable(LAYOUT)
    for record in records:
        key = LAYOUT.history(record.role, record.epoch)
        table.apply(Event(key, record.to_json(), record.epoch + 1, record.epoch + 1, 0, 1))
    return table


def records(table: HistoryTable, role: str = "rootcoord") -> list[TermRecord]:
    return [entry.record for entry in table.of_role(role) if entry.record is not None]


def test_a_record_is_the_documented_json() -> None:
    assert json.loads(term(421).ended(TermEnd.HANDED_OVER, 1_700_000_009_000).to_json()) == {
        "ServerID": 14,
        "Address": "10.0.0.5:53100",
        "HostName": "a",
        "Cause": "crash",
        "Predecessor": 12,
        "StartedMs": 1_700_000_000_421,
        "PhasesMs": {"detect": 0.4, "fence": 2.125, "activate": 0.8, "serve": 1.3},
        "EndedMs": 1_700_000_009_000,
        "End": "handed over",
    }
    assert json.loads(term(421).to_json())["End"] == ""


@given(
    st.sampled_from(TermCause),
    st.none() | st.sampled_from(TermEnd),
    st.text(),
    st.dictionaries(st.sampled_from(["detect", "fence", "activate", "serve"]), st.integers(0, 10**6)),
)
def test_decoding_undoes_encoding(
    cause: TermCause, end: TermEnd | None, host: str, lengths: dict[str, int]
) -> None:
    record = term(421, cause=cause, end=end, host_name=host, phases_ms=lengths)
    assert decode_term("key", "rootcoord", 421, record.to_json()) == record


def test_words_of_a_later_version_are_read_as_unknown() -> None:
    fields = json.loads(term(421).to_json()) | {"Cause": "comet", "End": "eclipse", "Extra": {}}
    record = decode_term("key", "rootcoord", 421, json.dumps(fields).encode())
    assert (record.cause, record.end) == (TermCause.UNKNOWN, TermEnd.UNKNOWN)


def test_how_long_a_term_lasted() -> None:
    record = term(421, started_ms=1000)
    assert record.lasted_s is None
    assert record.ended(TermEnd.CRASH, 3500).lasted_s == 2.5
    assert record.ended(TermEnd.CRASH, 900).lasted_s == 0  # the clock was set back


def test_terms_of_a_role_come_oldest_first() -> None:
    table = table_of(term(1000), term(9), term(421), term(5, role="datacoord"))
    assert [record.epoch for record in records(table)] == [9, 421, 1000]
    assert [entry.epoch for entry in table.everything()] == [5, 9, 421, 1000]
    entry = table.get("rootcoord", 421)
    assert entry is not None
    assert (entry.mod_revision, entry.record) == (422, term(421))
    table.apply(Event(LAYOUT.history("rootcoord", 421), None, 2000, 0, 0, 0))
    assert table.get("rootcoord", 421) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b'{"ServerID":14}',
        b'{"ServerID":14,"StartedMs":"now"}',
        b'{"ServerID":14,"StartedMs":1,"PhasesMs":[]}',
        b'{"ServerID":14,"StartedMs":1,"PhasesMs":{"fence":-1}}',
        b'{"ServerID":14,"StartedMs":1,"PhasesMs":{"fence":NaN}}',
        b'{"ServerID":14,"StartedMs":1,"PhasesMs":{"fence":true}}',
        b'{"ServerID":14,"StartedMs":1,"End":5}',
    ],
)
def test_an_unreadable_record_stays_known_and_is_quarantined(value: bytes) -> None:
    table = HistoryTable(LAYOUT)
    fold = Fold([table])
    key = LAYOUT.history("rootcoord", 421)
    fold.apply_commit(430, [Event(key, value, 430, 430, 0, 1)])
    (entry,) = table.of_role("rootcoord")
    assert (entry.epoch, entry.record) == (421, None)
    assert key in fold.quarantine


def test_a_key_that_names_no_term_is_shown_under_its_role_and_left_alone() -> None:
    table = table_of(term(421))
    strange = f"{LAYOUT.history_of('rootcoord')}latest"
    with pytest.raises(DecodeError, match="not the key of a term"):
        table.apply(Event(strange, b"{}", 430, 430, 0, 1))
    assert [entry.epoch for entry in table.of_role("rootcoord")] == [0, 421]
    assert strange not in {op.key for op in plan_begin(table, term(500), keep=1)}
    table.apply(Event(strange, None, 431, 0, 0, 0))
    assert [entry.epoch for entry in table.of_role("rootcoord")] == [421]


# --- plans ---


@pytest.mark.parametrize(("cause", "end"), SEEN_END.items())
def test_the_successor_writes_the_end_that_it_saw(cause: TermCause, end: TermEnd) -> None:
    table = table_of(term(421, server_id=12))
    successor = term(500, server_id=14, cause=cause, predecessor=12)
    apply(table, plan_begin(table, successor), 501)
    assert records(table) == [term(421, server_id=12).ended(end, successor.started_ms), successor]


def test_an_end_that_is_written_already_stands() -> None:
    resigned = term(421, server_id=12).ended(TermEnd.HANDED_OVER, 1_700_000_000_450)
    table = table_of(resigned)
    apply(table, plan_begin(table, term(500, cause=TermCause.HANDOVER)), 501)
    assert records(table)[0] == resigned


def test_of_terms_before_its_predecessor_a_successor_knows_no_end() -> None:
    table = table_of(term(300, server_id=9), term(421, server_id=12))
    apply(table, plan_begin(table, term(500, predecessor=12)), 501)
    assert [record.end for record in records(table)] == [TermEnd.UNKNOWN, TermEnd.CRASH, None]


@pytest.mark.parametrize("cause", [TermCause.FIRST, TermCause.UNKNOWN])
def test_nothing_is_made_up_about_a_predecessor(cause: TermCause) -> None:
    table = table_of(term(421, server_id=12))
    apply(table, plan_begin(table, term(500, cause=cause)), 501)
    assert records(table)[0].end is TermEnd.UNKNOWN


def test_other_roles_and_unreadable_records_are_not_rewritten() -> None:
    table = table_of(term(421, role="datacoord", server_id=12))
    with pytest.raises(DecodeError):
        table.apply(Event(LAYOUT.history("rootcoord", 430), b"?", 431, 431, 0, 1))
    assert plan_begin(table, term(500)) == [Put(LAYOUT.history("rootcoord", 500), term(500).to_json())]


@given(st.integers(0, 150), st.integers(1, 64), st.integers(0, 3))
def test_plans_keep_the_newest_and_fit_into_a_transaction(count: int, keep: int, unreadable: int) -> None:
    table = table_of(*(term(epoch, server_id=epoch) for epoch in range(10, 10 + count)))
    for epoch in range(10, 10 + min(unreadable, count)):
        with pytest.raises(DecodeError):
            table.apply(Event(LAYOUT.history("rootcoord", epoch), b"?", 900, 900, 0, 1))
    new = term(1000, server_id=1000)
    plan = plan_begin(table, new, keep)
    assert len(plan) <= MAX_TXN_OPS
    assert len({op.key for op in plan}) == len(plan)
    before = [entry.epoch for entry in table.of_role("rootcoord")]
    apply(table, plan, 1001)
    left = [entry.epoch for entry in table.of_role("rootcoord")]
    assert left == [*before, 1000][min(MAX_DELETES, max(0, count + 1 - keep)) :]


def test_a_plan_made_again_changes_nothing_more() -> None:
    table = table_of(*(term(epoch, server_id=12) for epoch in (300, 421)))
    new = term(500)
    apply(table, plan_begin(table, new, keep=2), 501)
    once = records(table)
    apply(table, plan_begin(table, new, keep=2), 502)
    assert records(table) == once
    assert [record.epoch for record in once] == [421, 500]


def test_the_own_end_replaces_the_own_record() -> None:
    table = table_of(term(421))
    put = plan_end(table, term(421), TermEnd.RESIGNED, 1_700_000_000_999)
    apply(table, [put], 600)
    assert records(table) == [term(421, end=TermEnd.RESIGNED, ended_ms=1_700_000_000_999)]


# --- phases and counts ---


def test_phases_begin_with_the_last_sign_of_the_predecessor() -> None:
    phases = Phases(last_sign_at=10.0, evidence_at=12.5, won_at=12.75, activated_at=13.0, serving_at=13.125)
    assert phases.durations_s() == {"detect": 2.5, "fence": 0.25, "activate": 0.25, "serve": 0.125}
    assert phases_ms(phases.durations_s())["detect"] == 2500
    phases.last_sign_at = 0.0  # nobody before
    assert list(phases.durations_s()) == ["fence", "activate", "serve"]


def test_terms_are_counted_by_cause_and_end() -> None:
    log = TermLog()
    log.began(term(421))
    log.ended(term(421).ended(TermEnd.HANDED_OVER, 2))
    log.began(term(500, cause=TermCause.HANDOVER, phases_ms={"fence": 2000.0}))
    assert log.begun == {TermCause.CRASH: 1, TermCause.HANDOVER: 1}
    assert log.finished == {TermEnd.HANDED_OVER: 1}
    assert log.latest is not None
    assert log.latest.epoch == 500
    assert log.phases["fence"].total_s == pytest.approx(2.002125)
    assert sum(log.phases["fence"].buckets) == 2
    assert sum(log.phases["detect"].buckets) == 1


def test_an_end_counts_once_and_the_first_reason_stands() -> None:
    log = TermLog()
    log.began(term(421))
    log.ended(term(421).ended(TermEnd.DEPOSED, 2))
    log.ended(term(421).ended(TermEnd.LEASE_ENDED, 3))
    assert log.finished == {TermEnd.DEPOSED: 1}
    assert log.latest is not None
    assert log.latest.end is TermEnd.DEPOSED


def test_a_term_that_never_served_still_ends() -> None:
    log = TermLog()
    log.ended(term(421).ended(TermEnd.ACTIVATION_FAILED, 2))
    assert log.begun == {}
    assert log.finished == {TermEnd.ACTIVATION_FAILED: 1}
    with pytest.raises(ValueError, match="has no end"):
        log.ended(replace(term(500), end=None))
