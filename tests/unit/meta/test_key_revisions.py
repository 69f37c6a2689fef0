"""The revisions of keys behave as in a dict, and take less memory."""

import tracemalloc
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from coordd.meta.key_revisions import KeyRevisions

KEYS = st.sampled_from(
    ["/", "//", "a", "/a", "a/", "a/b", "a//b", "/a/b", "a/b/1", "a/b/1234", "a/b/12345", "a/1/7", "a/2/7"]
)


@given(st.lists(st.tuples(KEYS, st.integers(min_value=0, max_value=1 << 40))))
def test_it_is_as_a_dict(steps: list[tuple[str, int]]) -> None:
    """A revision of 0 stands for dropping the key."""
    expected: dict[str, int] = {}
    revisions = KeyRevisions()
    for key, revision in steps:
        if revision:
            revisions.put(key, revision)
            expected[key] = revision
        else:
            assert revisions.drop(key) == (expected.pop(key, None) is not None)
        assert revisions.get(key) == expected.get(key, 0)
        assert len(revisions) == len(expected)
    assert sorted(revisions) == sorted(expected)
    assert {key: revisions.get(key) for key in revisions} == expected


def test_many_fields_take_half_of_what_they_would_in_a_dict() -> None:
    def fill(put: Callable[[str, int], None]) -> int:
        tracemalloc.start()
        try:
            for number in range(500):
                for field in (0, 1, 100, 101, 102):
                    put(
                        f"by-dev/meta/root-coord/fields/{440_000_000_000_000_000 + number}/{field}",
                        number + 1_000,
                    )
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    plain: dict[str, int] = {}
    revisions = KeyRevisions()
    assert fill(revisions.put) < fill(plain.__setitem__) / 2
    assert len(revisions) == len(plain) == 2_500
