"""The mark of a barred proxy in its session record."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.ha.session import BARRED_FIELD, SessionRecord
from coordd.rootcoord.proxies.bar_record import marked

RECORD = (
    b'{"ServerID":7,"ServerName":"proxy","Address":"127.0.0.1:1","TriggerKill":true,"Version":"2.3.5",'
    b'"IndexEngineVersion":{},"LeaseID":7587862094770471430,"HostName":"h\xc3\xb6st"}'
)
"""As a proxy of Milvus 2.3.5 writes it."""


def test_the_mark_is_put_in_and_taken_out_and_all_else_stays() -> None:
    with_mark = marked(RECORD, barred=True)
    assert with_mark is not None
    assert with_mark == RECORD[:-1] + b',"CoorddBarred":true}'
    assert marked(with_mark, barred=True) == with_mark
    assert marked(with_mark, barred=False) == RECORD
    assert marked(RECORD, barred=False) is RECORD
    before, after = SessionRecord.from_json(RECORD), SessionRecord.from_json(with_mark)
    assert (before.barred, after.barred) == (False, True)
    assert SessionRecord.from_json(after.to_json()).barred


@pytest.mark.parametrize("value", [b"", b"[]", b"7", b"{", b'"text"'])
def test_what_is_no_record_has_no_mark(value: bytes) -> None:
    assert marked(value, barred=True) is None


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()))
)
def test_fields_that_nobody_here_knows_are_kept(fields: dict[str, object]) -> None:
    fields.pop(BARRED_FIELD, None)
    value = json.dumps(fields).encode()
    with_mark = marked(value, barred=True)
    assert with_mark is not None
    assert json.loads(with_mark) == {**fields, BARRED_FIELD: True}
    back = marked(with_mark, barred=False)
    assert back is not None
    assert json.loads(back) == fields
