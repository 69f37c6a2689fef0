"""Finding an endpoint to connect to: all of them side by side, for as long as it takes.

The preferred endpoint has a head start of `HEAD_START_S`; whoever is connected first wins. After its first
failure an endpoint is knocked at (`coordd.etcd.knock`) and dialled again the moment it takes connections, so
that an etcd that comes back is in use within milliseconds, however long it was away, and an endpoint that
swallows packets, or answers nothing, holds up none of the others.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

from coordd.etcd.backoff import Backoff
from coordd.etcd.connection import Connection
from coordd.etcd.endpoints import Endpoint
from coordd.etcd.errors import EtcdError, TlsError, Unavailable
from coordd.etcd.knock import knock
from coordd.log import get_logger

_LOG = get_logger("coordd.etcd")

DIAL_LIMITS_S = (0.5, 1.0, 2.0, 5.0)
"""How long a dial may take, by attempt: a dead connection is given up soon, a slow network still works."""
HEAD_START_S = 0.25
PAUSE_FIRST_S = 0.02
PAUSE_MAX_S = 0.05
TLS_PAUSE_MAX_S = 1.0
"""Two sides that do not trust each other will hardly do so a moment later."""

Dial = Callable[[Endpoint, float], Awaitable[Connection]]


class Dialler:
    """Dials the endpoints of one cluster. `errors`: why those that failed last did so, by endpoint."""

    def __init__(self, endpoints: Sequence[Endpoint], dial: Dial) -> None:
        self._endpoints = tuple(endpoints)
        self._dial = dial
        self.errors: dict[Endpoint, EtcdError] = {}

    async def connect(self, preferred: int) -> Connection:
        """The first connection to be had; `preferred` is the index of the endpoint to begin with.

        Waits for ever. Safe to cancel.

        Raises:
            TlsError: no endpoint can be spoken to over TLS as configured.
        """
        count = len(self._endpoints)
        order = [self._endpoints[(preferred + number) % count] for number in range(count)]
        race = _Race(self, order)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(race.run(number), name=f"etcd dial {endpoint.name}")
                    for number, endpoint in enumerate(order)
                ]
                await race.over.wait()
                for task in tasks:
                    task.cancel()
        except BaseException:
            if race.winner is not None:
                race.winner.close()
            raise
        if race.winner is None:
            raise self.errors[order[0]]
        return race.winner

    async def attempt(self, endpoint: Endpoint, limit_s: float) -> Connection | None:
        """One dial; None, and a note in `errors`, if it failed."""
        try:
            connection = await self._dial(endpoint, limit_s)
        except (Unavailable, TlsError) as error:
            if endpoint not in self.errors:
                _LOG.warning("etcd endpoint cannot be reached", endpoint=endpoint.name, reason=error.message)
            self.errors[endpoint] = error
            return None
        self.errors.pop(endpoint, None)
        return connection


class _Race:
    """One search. `over` is set with a `winner`, or without one when all is hopeless."""

    def __init__(self, dialler: Dialler, order: Sequence[Endpoint]) -> None:
        self._dialler = dialler
        self._order = order
        self._failed = [asyncio.Event() for _ in order]
        self._distrusted: set[Endpoint] = set()
        self.over = asyncio.Event()
        self.winner: Connection | None = None

    async def run(self, number: int) -> None:
        """Dial one endpoint until somebody has won."""
        await self._wait_turn(number)
        endpoint = self._order[number]
        limits_s = itertools.chain(DIAL_LIMITS_S, itertools.repeat(DIAL_LIMITS_S[-1]))
        backoff, tls_backoff = Backoff(PAUSE_FIRST_S, PAUSE_MAX_S), Backoff(PAUSE_FIRST_S, TLS_PAUSE_MAX_S)
        while (connection := await self._dialler.attempt(endpoint, next(limits_s))) is None:
            self._failed[number].set()
            await asyncio.sleep((tls_backoff if self._note_distrust(endpoint) else backoff).pause_s())
            await knock(endpoint)
        if self.winner is not None:
            connection.close()
            return
        self.winner = connection
        self.over.set()

    def _note_distrust(self, endpoint: Endpoint) -> bool:
        """Whether it was TLS that failed; with all of them, the search is over."""
        if not isinstance(self._dialler.errors.get(endpoint), TlsError):
            self._distrusted.discard(endpoint)
            return False
        self._distrusted.add(endpoint)
        if len(self._distrusted) == len(self._order):
            self.over.set()
        return True

    async def _wait_turn(self, number: int) -> None:
        """Until the endpoint before this one has failed, or had its head start."""
        for event in self._failed[:number]:
            try:
                async with asyncio.timeout(HEAD_START_S):
                    await event.wait()
            except TimeoutError:
                continue
