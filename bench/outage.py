"""What a client noticed of an event, from the notes of bench.open_loop. Pure; CLOCK_MONOTONIC seconds.

A request is ``[sent, ended, server_id, error or None]``. The outage is the longest time between two good
answers that follow each other, from the last one before the event on; of several clients the one that
suffered longest counts.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

Request = Sequence[Any]


class NoAnswersError(Exception):
    """The client was not answered before an event, or not after it."""


class Notes:
    """All that the clients noted, ordered once for any number of questions."""

    def __init__(self, clients: Sequence[dict[str, Any]]) -> None:
        self._requests: list[list[Request]] = [client["requests"] for client in clients]
        self._sent = [[request[0] for request in requests] for requests in self._requests]
        self._good = [sorted(r[1] for r in requests if r[3] is None) for requests in self._requests]
        self.backwards = sum(client["backwards"] for client in clients)

    @property
    def total(self) -> int:
        """Requests that have ended."""
        return sum(map(len, self._requests))

    def errors(self) -> Counter[str]:
        """How often each error occurred."""
        return Counter(request[3] for requests in self._requests for request in requests if request[3])

    def first_failure(self, at: float) -> float | None:
        """When the first request ended badly, from a moment on."""
        every = (r[1] for requests in self._requests for r in requests if r[3] and r[1] >= at)
        return min(every, default=None)

    def first_answer(self, server_id: int) -> float | None:
        """When a server gave its first good answer to a request that was sent to it."""
        every = (r[1] for requests in self._requests for r in requests if not r[3] and r[2] == server_id)
        return min(every, default=None)

    def judge(self, at: float, until: float) -> dict[str, Any]:
        """The event that came at ``at`` and was over by ``until``; milliseconds. Raises: NoAnswersError.

        ``failed``: requests that ended badly, of those sent within a second before the event, or until its
        end. ``late_ms``: how late the client itself was at worst in sending.
        """
        found = [self._judge(index, at, until) for index in range(len(self._requests))]
        errors = sum((one["errors"] for one in found), Counter[str]())
        worst = {
            name: max(one[name] for one in found) for name in ("outage_ms", "slowest_answer_ms", "late_ms")
        }
        return {**worst, "failed": errors.total(), "errors": dict(errors)}

    def _judge(self, index: int, at: float, until: float) -> dict[str, Any]:
        good = self._good[index]
        first, last = bisect_right(good, at), bisect_right(good, until)
        if first in (0, last):
            raise NoAnswersError("the client got no answers before, or none after the event")
        sent = self._sent[index]
        around = self._requests[index][bisect_left(sent, at - 1) : bisect_right(sent, until)]
        times = sent[max(0, bisect_left(sent, at) - 1) : bisect_right(sent, until)]
        return {
            "outage_ms": longest(good[first - 1 : last]) * 1000,
            "slowest_answer_ms": max(r[1] - r[0] for r in around if r[3] is None) * 1000,
            "late_ms": longest(times) * 1000,
            "errors": Counter(r[3] for r in around if r[3] and r[1] >= at),
        }


def longest(moments: Iterable[float]) -> float:
    """The longest time between two moments that follow each other."""
    return max(later - earlier for earlier, later in pairwise(moments))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    ascending = sorted(values)
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]
