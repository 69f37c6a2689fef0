"""Requests to etcd over a network that delays, loses and holds back messages, in either direction.

A request whose answer does not arrive in time has an unknown outcome: it may never reach etcd, have been
carried out already, or be carried out later. A partition holds some messages back until it heals, as TCP
does.
"""

import random
from collections.abc import Callable
from typing import Any

from .etcd_model import EtcdModel
from .event_queue import EventQueue
from .process_model import Process

Done = Callable[[Any, float], None]


class Request:
    """One request. `sent_at` is the sender's clock before sending, `deadline` true time."""

    __slots__ = ("arguments", "deadline", "done", "operation", "process", "sent_at", "settled")

    def __init__(
        self,
        process: Process,
        done: Done,
        deadline: float,
        operation: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self.process = process
        self.done = done
        self.sent_at = process.clock()
        self.deadline = deadline
        self.operation = operation
        self.arguments = arguments
        self.settled = False


class Network:
    """The way from every process to etcd and back."""

    def __init__(self, queue: EventQueue, etcd: EtcdModel, rng: random.Random) -> None:
        self._queue = queue
        self._etcd = etcd
        self._random = rng.random
        self.delay_s = 0.01
        self.slow_delay_s = 0.0
        self.slow_share = 0.0
        self.loss = 0.0

    def delay(self) -> float:
        """How long the next message takes."""
        drawn = self._random()
        if drawn < self.slow_share:
            return self.slow_delay_s * self._random()
        return self.delay_s * drawn

    def call(
        self, process: Process, timeout_s: float, done: Done, operation: Callable[..., Any], *arguments: Any
    ) -> None:
        """Have etcd carry `operation` out, then call `done(answer, sent_at)`; no answer in time is None."""
        request = Request(process, done, self._queue.now + timeout_s / process.rate, operation, arguments)
        if process.partitioned:
            self._hold_back(request)
        elif self._random() < self.loss:
            self._give_up(request)
        else:
            stuck_s = 6.0 * self._random() if process.overtaking and self._random() < 0.3 else 0.0
            arrives = self._queue.now + self.delay() + stuck_s
            self._queue.at(arrives, None, self._arrive, request)
            if arrives > request.deadline:
                self._give_up(request)

    def heal(self, process: Process) -> None:
        """End a partition: what was held back goes on its way."""
        process.partitioned = False
        held, process.held_back = process.held_back, []
        for request in held:
            self._queue.at(self._queue.now + self.delay(), None, self._arrive, request)

    def _hold_back(self, request: Request) -> None:
        if self._random() < 0.5:
            request.process.held_back.append(request)
        self._give_up(request)

    def _arrive(self, request: Request) -> None:
        if request.process.partitioned:
            self._hold_back(request)
            return
        if not self._etcd.up:
            if self._etcd.refusing and not request.settled:
                self._queue.at(self._queue.now + self.delay(), request.process, self._timed_out, request)
            else:
                self._give_up(request)
            return
        answer = request.operation(*request.arguments)
        arrives = self._queue.now + self.delay()
        if arrives > request.deadline or self._random() < self.loss:
            self._give_up(request)
        else:
            self._queue.at(arrives, request.process, self._answered, request, answer)

    def _answered(self, request: Request, answer: Any) -> None:
        if request.process.partitioned:
            self._give_up(request)
            return
        if request.settled:
            return
        request.settled = True
        # A sender that slept over its deadline finds answer and time-out ready; either may come first.
        late = self._queue.now > request.deadline and self._random() < 0.5
        request.done(None if late else answer, request.sent_at)

    def _give_up(self, request: Request) -> None:
        if not request.settled:
            when = max(request.deadline, self._queue.now)
            self._queue.at(when, request.process, self._timed_out, request)

    def _timed_out(self, request: Request) -> None:
        if not request.settled:
            request.settled = True
            request.done(None, request.sent_at)
