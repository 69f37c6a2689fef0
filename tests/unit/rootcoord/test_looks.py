"""Who has asked for a collection, while it changes or right before."""

from coordd.rootcoord.looks import ON_ITS_WAY_S, Looks


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_only_the_collection_that_is_watched_counts() -> None:
    looks = Looks(Clock())
    look, other = looks.watch(7), looks.watch(8)
    looks.note(7)
    assert (look.seen, other.seen) == (True, False)


def test_nothing_counts_after_the_end() -> None:
    looks = Looks(Clock())
    look, same = looks.watch(7), looks.watch(7)
    look.end()
    look.end()
    looks.note(7)
    assert (look.seen, same.seen) == (False, True)


def test_what_was_asked_just_before_counts_and_what_is_long_ago_does_not() -> None:
    seen = {}
    for passed in (0.0, 0.5, 0.99, 2.0, 100.0):
        clock = Clock()
        looks = Looks(clock)
        clock.now += 0.5
        looks.note(7)
        clock.now += passed * ON_ITS_WAY_S
        look = looks.watch(7)
        seen[passed] = look.seen
        look.end()
    assert seen == {0.0: True, 0.5: True, 0.99: True, 2.0: False, 100.0: False}


def test_looks_at_others_forget_no_recent_one() -> None:
    clock = Clock()
    looks = Looks(clock)
    looks.note(7)
    for _ in range(9):
        clock.now += ON_ITS_WAY_S / 10
        looks.note(8)
    assert looks.watch(7).seen
    assert looks.watch(8).seen


def test_when_a_term_begins_everything_counts_as_just_asked_for() -> None:
    """Another process may have answered just before."""
    seen = {}
    for passed in (0.0, 0.5, 1.0, 1.9, 2.0, 100.0):
        clock = Clock()
        looks = Looks(clock)
        clock.now += 1000.0
        looks.begin_term()
        clock.now += passed * ON_ITS_WAY_S
        look = looks.watch(7)
        seen[passed] = look.seen
        look.end()
    assert seen == {0.0: True, 0.5: True, 1.0: True, 1.9: True, 2.0: False, 100.0: False}


def test_what_is_kept_is_bounded_by_time() -> None:
    clock = Clock()
    looks = Looks(clock)
    for collection_id in range(100):
        looks.note(collection_id)
        clock.now += ON_ITS_WAY_S
    assert len(looks._latest) + len(looks._before) <= 3
