"""Standbys' reports and the active's offer: what is read of them, good and bad."""

import pytest

from coordd.etcd import Event
from coordd.ha.standbys import (
    Offer,
    OfferTable,
    StandbyReport,
    StandbyReportTable,
    encode_offer,
    encode_report,
)
from coordd.meta.codecs import DecodeError
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")


def put(key: str, value: bytes, revision: int) -> Event:
    return Event(key, value, revision, revision, 7, 1)


def deleted(key: str, revision: int) -> Event:
    return Event(key, None, revision, 0, 0, 0)


def test_values_are_the_documented_json() -> None:
    assert encode_report(13, 881, synced=True) == b'{"ServerID":13,"Revision":881,"Synced":true,"Offer":0}'
    assert encode_offer(12) == b'{"ServerID":12,"To":0}'
    assert encode_offer(12, 14) == b'{"ServerID":12,"To":14}'


def test_reports_by_role_in_order_of_server_id() -> None:
    table = StandbyReportTable(LAYOUT)
    for revision, server_id in ((90, 100), (91, 9), (92, 10)):
        report = encode_report(server_id, 88, synced=True)
        table.apply(put(LAYOUT.standby_report("rootcoord", server_id), report, revision))
    table.apply(put(LAYOUT.standby_report("datacoord", 11), encode_report(11, 92, synced=False), 93))
    assert [report.server_id for report in table.of_role("rootcoord")] == [9, 10, 100]
    assert table.get("datacoord", 11) == StandbyReport(11, 92, synced=False, offer=0, mod_revision=93)
    table.apply(deleted(LAYOUT.standby_report("rootcoord", 10), 94))
    assert table.get("rootcoord", 10) is None
    assert [report.server_id for report in table.of_role("rootcoord")] == [9, 100]


@pytest.mark.parametrize(("held", "written_at", "lag"), [(881, 882, 0), (880, 882, 1), (100, 882, 781)])
def test_lag_counts_revisions_before_the_report_itself(held: int, written_at: int, lag: int) -> None:
    assert StandbyReport(13, held, synced=True, offer=0, mod_revision=written_at).lag == lag


def test_answers_to_an_offer_come_first_answer_first() -> None:
    offers, reports = OfferTable(LAYOUT), StandbyReportTable(LAYOUT)
    offers.apply(put(LAYOUT.offer("rootcoord"), encode_offer(12), 90))
    offer = offers.get("rootcoord")
    assert offer == Offer(12, 0, 90)
    for server_id, answered, revision in ((13, 90, 93), (14, 90, 91), (15, 70, 92), (16, 0, 94)):
        value = encode_report(server_id, revision - 1, synced=True, offer=answered)
        reports.apply(put(LAYOUT.standby_report("rootcoord", server_id), value, revision))
    assert [report.server_id for report in reports.answers("rootcoord", offer)] == [14, 13]
    assert reports.answers("datacoord", offer) == []
    offers.apply(deleted(LAYOUT.offer("rootcoord"), 95))
    assert offers.get("rootcoord") is None


def test_who_may_answer_an_offer() -> None:
    assert Offer(12, 0, 90).is_for(13)
    assert Offer(12, 13, 90).is_for(13)
    assert not Offer(12, 14, 90).is_for(13)
    assert not Offer(12, 0, 90).is_for(12)


def test_a_report_from_an_earlier_version_of_coordd_is_one_that_promises_little() -> None:
    table = StandbyReportTable(LAYOUT)
    table.apply(put(LAYOUT.standby_report("rootcoord", 13), b'{"ServerID":13,"Revision":5,"New":[]}', 9))
    assert table.get("rootcoord", 13) == StandbyReport(13, 5, synced=False, offer=0, mod_revision=9)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"ServerID":13}',
        b'{"ServerID":14,"Revision":881}',
        b'{"ServerID":13,"Revision":"881"}',
        b'{"ServerID":13,"Revision":-1}',
        b'{"ServerID":13,"Revision":1e999}',
        b'{"ServerID":13,"Revision":9223372036854775808}',
        b'{"ServerID":true,"Revision":881}',
        b'{"ServerID":13,"Revision":881,"Synced":1}',
        b'{"ServerID":13,"Revision":881,"Offer":null}',
    ],
)
def test_a_report_that_does_not_decode_counts_as_none_and_the_one_before_is_dropped(value: bytes) -> None:
    table = StandbyReportTable(LAYOUT)
    fold = Fold([table])
    key = LAYOUT.standby_report("rootcoord", 13)
    fold.apply_commit(5, [put(key, encode_report(13, 4, synced=True), 5)])
    fold.apply_commit(6, [put(key, value, 6)])
    assert table.get("rootcoord", 13) is None
    assert key in fold.quarantine
    fold.apply_commit(7, [put(key, encode_report(13, 6, synced=True), 7)])
    assert table.get("rootcoord", 13) is not None
    assert key not in fold.quarantine


@pytest.mark.parametrize("value", [b"", b"{}", b'{"ServerID":"12"}', b'{"ServerID":12,"To":-1}'])
def test_an_offer_that_does_not_decode_is_none(value: bytes) -> None:
    table = OfferTable(LAYOUT)
    key = LAYOUT.offer("rootcoord")
    table.apply(put(key, encode_offer(12), 5))
    with pytest.raises(DecodeError, match="offer/rootcoord"):
        table.apply(put(key, value, 6))
    assert table.get("rootcoord") is None


def test_a_key_of_no_standby_is_refused_and_may_go_again() -> None:
    reports, offers = StandbyReportTable(LAYOUT), OfferTable(LAYOUT)
    fold = Fold([reports, offers])
    strange = [f"{LAYOUT.standby_prefix}rootcoord", f"{LAYOUT.offer_prefix}a/b"]
    fold.apply_commit(5, [put(key, encode_report(13, 4, synced=True), 5) for key in strange])
    assert all(key in fold.quarantine for key in strange)
    fold.apply_commit(6, [deleted(key, 6) for key in strange])
    assert len(fold) == 0
