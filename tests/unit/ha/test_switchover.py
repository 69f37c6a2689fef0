"""The switchover request and its answers."""

import json
from dataclasses import replace

import pytest

from coordd.etcd import Compare, Event, Put
from coordd.ha.switchover import (
    SwitchoverEntry,
    SwitchoverRequest,
    SwitchoverState,
    SwitchoverTable,
    answer_done,
    answer_refused,
    decode_request,
)
from coordd.meta.codecs import DecodeError
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")
KEY = LAYOUT.switchover("rootcoord")
ASKED = SwitchoverRequest("5e0a", epoch=421, to=0, by="host-a/77", at_ms=1_700_000_000_000)


def put(value: bytes, revision: int, key: str = KEY) -> Event:
    return Event(key, value, revision, revision, 0, 1)


def table_with(value: bytes) -> SwitchoverTable:
    table = SwitchoverTable(LAYOUT)
    table.apply(put(value, 500))
    return table


def test_a_request_is_the_documented_json() -> None:
    assert json.loads(ASKED.to_json()) == {
        "ID": "5e0a",
        "Epoch": 421,
        "To": 0,
        "By": "host-a/77",
        "AtMs": 1_700_000_000_000,
        "State": "asked",
    }


@pytest.mark.parametrize(
    "request_",
    [
        ASKED,
        replace(ASKED, to=14),
        replace(ASKED, state=SwitchoverState.REFUSED, reason='no standby is "caught up"'),
        replace(ASKED, state=SwitchoverState.DONE, heir=14),
    ],
)
def test_decoding_undoes_encoding(request_: SwitchoverRequest) -> None:
    assert decode_request(KEY, request_.to_json()) == request_


def test_a_refusal_says_why_and_lies_on_no_lease() -> None:
    entry = table_with(ASKED.to_json()).asked("rootcoord")
    assert entry is not None
    answer = answer_refused(entry, "server 14 is no standby")
    assert answer == Put(KEY, answer.value, lease=0)
    assert decode_request(KEY, answer.value) == replace(
        ASKED, state=SwitchoverState.REFUSED, reason="server 14 is no standby"
    )
    assert entry.unchanged == Compare.mod_revision(KEY, 500)


def test_a_confirmation_names_the_heir() -> None:
    entry = table_with(ASKED.to_json()).asked("rootcoord")
    assert entry is not None
    answer = answer_done(entry, heir=14)
    assert answer.lease == 0
    assert decode_request(KEY, answer.value) == replace(ASKED, state=SwitchoverState.DONE, heir=14)


def test_what_is_answered_waits_no_more_and_is_not_answered_again() -> None:
    table = table_with(ASKED.to_json())
    entry = table.asked("rootcoord")
    assert entry is not None
    table.apply(put(answer_done(entry, 14).value, 501))
    assert table.asked("rootcoord") is None
    done = table.get("rootcoord")
    assert done is not None
    for answer in (lambda: answer_refused(done, "late"), lambda: answer_done(done, 15)):
        with pytest.raises(ValueError, match="waits for an answer"):
            answer()
    with pytest.raises(ValueError, match="waits for an answer"):
        answer_done(SwitchoverEntry(KEY, 3, None), 14)


def test_each_role_has_its_own_request_which_goes_with_its_key() -> None:
    table = table_with(ASKED.to_json())
    assert table.asked("datacoord") is None
    table.apply(Event(KEY, None, 501, 0, 0, 0))
    assert table.get("rootcoord") is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{}",
        b'{"ID":"a","Epoch":1}',
        b'{"ID":"a","Epoch":1,"State":"maybe"}',
        b'{"ID":1,"Epoch":1,"State":"asked"}',
        b'{"ID":"a","Epoch":"1","State":"asked"}',
        b'{"ID":"a","Epoch":1,"To":-2,"State":"asked"}',
    ],
)
def test_a_value_that_is_no_request_asks_for_nothing_but_is_known(value: bytes) -> None:
    table = SwitchoverTable(LAYOUT)
    fold = Fold([table])
    fold.apply_commit(5, [put(ASKED.to_json(), 5)])
    fold.apply_commit(6, [put(value, 6)])
    assert table.asked("rootcoord") is None
    assert table.get("rootcoord") == SwitchoverEntry(KEY, 6, None)
    assert KEY in fold.quarantine


def test_a_key_of_no_role_is_refused() -> None:
    with pytest.raises(DecodeError, match="not the key"):
        SwitchoverTable(LAYOUT).apply(put(ASKED.to_json(), 5, f"{LAYOUT.switchover_prefix}a/b"))
