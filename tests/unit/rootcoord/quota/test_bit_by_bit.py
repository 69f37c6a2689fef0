"""JSON with long lists of numbers in it, parsed bit by bit."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.rootcoord.quota.bit_by_bit import PIECE_CHARS, parse
from tests.unit.rootcoord.quota.support import whole

LONG = ("ids", "sizes")
NUMBERS = st.integers(-(2**63), 2**63)


def parsed(text: str) -> Any:
    return whole(parse(text, LONG))


def as_numbers(value: Any) -> Any:
    """What `json.loads` gives, with the names of the numbers under `sizes` as numbers."""
    if isinstance(value, list):
        return [as_numbers(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: {int(number): size for number, size in one.items()}
        if name == "sizes" and isinstance(one, dict)
        else as_numbers(one)
        for name, one in value.items()
    }


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " :\n ")])
def test_long_lists_are_parsed_piece_by_piece(separators: tuple[str, str]) -> None:
    ids = list(range(450_000_000, 450_020_000))
    value = {"a": {"ids": ids, "b": 1}, "sizes": {str(one): one % 7 for one in ids}, "ids": [5]}
    text = json.dumps(value, separators=separators)
    pauses = sum(1 for _pause in parse(text, LONG))
    assert pauses >= len(text) // (PIECE_CHARS + 100)
    assert parsed(text) == as_numbers(value)


VALUES = st.recursive(
    st.none()
    | NUMBERS
    | st.text(alphabet='ids":[]{},\\ 1', max_size=12)
    | st.builds(lambda ids: {"ids": ids}, st.lists(NUMBERS, max_size=5))
    | st.builds(lambda sizes: {"sizes": sizes}, st.dictionaries(NUMBERS.map(str), NUMBERS, max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(alphabet='ids"[]{}:\\', max_size=8).filter(lambda one: one not in LONG), inner
        )
    ),
    max_leaves=10,
)


@given(VALUES)
def test_it_is_what_json_loads_gives(value: Any) -> None:
    assert parsed(json.dumps(value)) == as_numbers(value)


@pytest.mark.parametrize("value", [None, 7, "[1]", "", {}, []])
def test_other_values_of_these_names(value: Any) -> None:
    assert parsed(json.dumps({"ids": value, "a": "ids"})) == {"ids": value, "a": "ids"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        '{"ids": [1, 2',
        '{"ids": [1, 2}',
        '{"ids": [1, [2], 3]}',
        '{"ids": [{"a": 1}]}',
        '{"ids": [1 2]}',
        '{"ids": ["a"]}',
        '{"ids": [null]}',
        '{"ids": {"x": 1}}',
        '{"sizes": {"a": 1}}',
        '{"sizes": {"1": {"2": 3}}}',
        '{"sizes": {"1": Infinity}}',
        '{"sizes": {"1"}}',
        '{"ids": [1]} {',
        r'{"id\u0073": [3]}',
    ],
)
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError, LookupError)):
        parsed(text)


@given(st.text(alphabet='ids"[]{}:\\,1 ', max_size=40))
def test_no_text_raises_anything_but_these(text: str) -> None:
    with suppress(ValueError, TypeError, OverflowError, LookupError):
        parsed(text)
