import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.etcd import prefix_end
from coordd.etcd.types import decode_key, encode_key


@given(st.binary())
def test_every_key_survives_the_way_in_and_out(raw: bytes) -> None:
    assert encode_key(decode_key(raw)) == raw


@given(st.binary(min_size=1, max_size=6), st.binary(max_size=6))
def test_prefix_end_bounds_exactly_the_keys_with_the_prefix(prefix: bytes, key: bytes) -> None:
    end = encode_key(prefix_end(decode_key(prefix)))
    inside = prefix <= key and (end == b"\0" or key < end)
    assert inside == key.startswith(prefix)


@pytest.mark.parametrize(
    ("prefix", "end"), [("a/", "a0"), ("by-dev/meta/session", "by-dev/meta/sessioo"), ("", "\0")]
)
def test_prefix_end_of_usual_prefixes(prefix: str, end: str) -> None:
    assert prefix_end(prefix) == end
