"""Topics that somebody else was to create."""

import asyncio
from collections.abc import Collection

import pytest
from structlog.testing import capture_logs

from coordd.mq.errors import QueueUnavailable
from coordd.rootcoord import topics
from coordd.rootcoord.topics import MadeBeforehand, TopicsMissing


class Queue:
    """Has the topics `there`; first it is `away` for so many questions."""

    def __init__(self, *there: str, away: int = 0) -> None:
        self.there = set(there)
        self.away = away
        self.asked: list[list[str]] = []

    async def missing(self, channels: Collection[str]) -> Collection[str]:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise QueueUnavailable("nobody answers")
        self.asked.append(list(channels))
        return [name for name in channels if name not in self.there]

    async def send(self, channel: str, payload: bytes) -> bytes:
        raise AssertionError

    async def close(self) -> None:
        return


async def test_what_was_found_is_not_looked_for_again() -> None:
    queue = Queue("one", "two")
    made = MadeBeforehand(queue, ("one", "two", "three"))
    await made.check(["one", "two"])
    await made.check(["two", "one"])
    assert queue.asked == [["one", "two"]]


async def test_what_is_missing_is_named_with_the_key_until_it_is_there() -> None:
    queue = Queue("one")
    made = MadeBeforehand(queue, ("one", "two"))
    for _ in range(2):
        with pytest.raises(TopicsMissing, match=r"common\.preCreatedTopic\.names lists two, but"):
            await made.check(["one", "two"])
    assert queue.asked == [["one", "two"], ["two"]]
    queue.there.add("two")
    await made.check(["one", "two"])


async def test_the_log_is_told_what_is_missing_and_what_lies_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "LOOK_AGAIN_FIRST_S", 0.0)
    made = MadeBeforehand(Queue("one", away=2), ("one", "two"))
    with capture_logs() as lines:
        await made.look(["old_1", "one", "old_0"])
    assert [line["log_level"] for line in lines] == ["error", "warning", "warning", "error"]
    assert lines[0]["channels"] == ["old_0", "old_1"]
    assert "lists two, but" in lines[-1]["reason"]


async def test_nothing_is_told_if_all_is_well() -> None:
    with capture_logs() as lines:
        await MadeBeforehand(Queue("one", "two"), ("one", "two")).look(["two"])
    assert lines == []
