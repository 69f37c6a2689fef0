"""Asks the processes of the cluster how they are, and tells the proxies what to let through, round by round.

A round begins every `quotaCenterCollectInterval`. It asks DataCoord, QueryCoord and each proxy at the same
time, waits for them no longer than `PATIENCE_S`, and tells each proxy what follows from what each has said
last. Whoever has not answered by then goes on answering in its own time, up to `TIMEOUT_S`, and is not asked
or told anything else meanwhile; the others are. Before both coordinators have answered once in the term
nothing is told: proxies keep what the term before has told them.

Nothing here waits for, or holds up, a change of metadata. The first round comes a whole interval after the
term has begun, so it adds nothing to a takeover; the end of the term ends all that is under way.

Source of truth: Milvus 2.3.5 internal/rootcoord/quota_center.go (syncMetrics, setRates).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Generator, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from coordd.clock import boottime
from coordd.config.quota import QuotaAndLimitsSettings
from coordd.errors import CoorddError
from coordd.ha.tasks import TaskScope
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.tables.collections import CollectionTable
from coordd.pb.common_pb2 import MsgBase, MsgType, Status
from coordd.pb.milvus_pb2 import GetMetricsRequest, GetMetricsResponse
from coordd.pb.proxy_pb2 import CollectionRate, SetRatesRequest
from coordd.rootcoord.peers import SYSTEM_INFO, Peers
from coordd.rootcoord.quota.bit_by_bit import cut
from coordd.rootcoord.quota.limits import Judgement, judge
from coordd.rootcoord.quota.measures import (
    DataSide,
    Measures,
    ProxyLoad,
    QueryNode,
    read_data_coord,
    read_proxy,
    read_query_coord,
)
from coordd.rootcoord.quota.properties import OwnCeilings
from coordd.rootcoord.quota.request import collection_rate
from coordd.rootcoord.quota.state import QuotaState, changes
from coordd.rootcoord.tso import LOGICAL_BITS
from coordd.rpc.connection import Encoded

log = get_logger("coordd.rootcoord.quota")

T = TypeVar("T")

PATIENCE_S = 1.0
"""How long a round waits for answers. A coordinator asks its nodes in turn; one that hangs holds it up."""
TIMEOUT_S = 10.0
"""Milvus' bound on each of these calls."""
LOOK_S = 1.0
"""How long another interval in the settings may go unnoticed."""
TOLD_AT_ONCE = 100
"""Collections of which the proxies are told, written without a pause, if no two of them are alike: three
milliseconds."""

DATA_COORD = "datacoord's nodes"
QUERY_COORD = "querycoord's nodes"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the quota centre has from the term.

    `settings`: those in force now. `now_ms`: Unix milliseconds by the clock of timestamps. `may_send_s`: for
    how many seconds something may be sent outward, 0 for not now. `server_id`: ours.
    """

    peers: Peers
    collections: CollectionTable
    settings: Callable[[], QuotaAndLimitsSettings]
    now_ms: Callable[[], int]
    may_send_s: Callable[[], float]
    server_id: int


@dataclass(slots=True)
class _Said:
    """What each has said last in this term; None: nothing yet."""

    data: DataSide | None = None
    query_nodes: tuple[QueryNode, ...] | None = None
    proxies: dict[int, ProxyLoad] = field(default_factory=dict)

    def measures(self) -> Measures | None:
        """All of it, once both coordinators have answered."""
        if self.data is None or self.query_nodes is None:
            return None
        return Measures(self.data, self.query_nodes, tuple(self.proxies.values()))


class QuotaCenter:
    """The quota centre of one term. `run` is a task of the term.

    Attributes:
        state: what the latest round came to, for metrics; None before it.
    """

    def __init__(self, surroundings: Surroundings, patience_s: float = PATIENCE_S) -> None:
        self.state: QuotaState | None = None
        self._around = surroundings
        self._patience_s = patience_s
        self._own = OwnCeilings(surroundings.collections)
        self._said = _Said()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._troubles: dict[str, Trouble] = {}

    async def run(self) -> None:
        """Make rounds until cancelled, whatever becomes of the others."""
        async with TaskScope() as scope:
            while True:
                await self._pause()
                settings = self._around.settings()
                if settings.enabled and self._around.may_send_s() > 0:
                    await self._round(scope, settings)

    async def _pause(self) -> None:
        begun = boottime()
        while True:
            left_s = begun + self._around.settings().collect_interval_s - boottime()
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, LOOK_S))

    async def _round(self, scope: TaskScope, settings: QuotaAndLimitsSettings) -> None:
        proxies = self._around.peers.proxies.server_ids()
        self._forget_others(proxies)
        if not proxies:
            return
        asked = [
            self._start(scope, DATA_COORD, self._ask_data_coord),
            self._start(scope, QUERY_COORD, self._ask_query_coord),
            *(self._start(scope, _load_of(one), partial(self._ask_proxy, one)) for one in proxies),
        ]
        begun = [task for task in asked if task is not None]
        if begun:
            await asyncio.wait(begun, timeout=self._patience_s)
        measures = self._said.measures()
        if measures is None:
            return
        await _bit_by_bit(self._own.look())
        own = await _bit_by_bit(self._own.by(settings))
        judgement = await _bit_by_bit(judge(measures, settings, own))
        request = await _bit_by_bit(self._request(judgement, len(proxies)))
        self._note(await _bit_by_bit(QuotaState.of(judgement)))
        if self._around.may_send_s() <= 0:
            return
        for one in proxies:
            self._start(scope, _rates_of(one), partial(self._tell_proxy, one, request))

    def _forget_others(self, proxies: Collection[int]) -> None:
        """All of proxies that have no session any more."""
        said, troubles = self._said.proxies, self._troubles
        names = {DATA_COORD, QUERY_COORD, *map(_load_of, proxies), *map(_rates_of, proxies)}
        self._said.proxies = {one: said[one] for one in proxies if one in said}
        self._troubles = {name: troubles[name] for name in names if name in troubles}

    def _start(
        self, scope: TaskScope, name: str, work: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[None] | None:
        """Do `work` by itself; None if the last work of this name is still being done."""
        if name in self._under_way:
            return None
        task = scope.create_task(self._do(name, work), name=f"rootcoord:quota:{name}")
        self._under_way[name] = task
        task.add_done_callback(lambda _task: self._under_way.pop(name, None))
        return task

    async def _do(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except CoorddError as error:
            if self._troubles.setdefault(name, Trouble()).is_news(error):
                log.warning("the quota centre goes on without an answer", about=name, reason=error.message)
        else:
            self._troubles.pop(name, None)

    # --- what is asked and told ---

    async def _ask_data_coord(self) -> None:
        text = await self._around.peers.data_coord.metrics(deadline=boottime() + TIMEOUT_S)
        self._said.data = await _bit_by_bit(read_data_coord(text, self._around.now_ms()))

    async def _ask_query_coord(self) -> None:
        text = await self._around.peers.query_coord.metrics(deadline=boottime() + TIMEOUT_S)
        self._said.query_nodes = await _bit_by_bit(read_query_coord(text, self._around.now_ms()))

    async def _ask_proxy(self, server_id: int) -> None:
        request = GetMetricsRequest(base=MsgBase(msg_type=MsgType.SystemInfo), request=SYSTEM_INFO)
        answer = await self._around.peers.proxies.ask(
            server_id, "GetProxyMetrics", request, GetMetricsResponse, deadline=boottime() + TIMEOUT_S
        )
        self._said.proxies[server_id] = read_proxy(answer.response)

    async def _tell_proxy(self, server_id: int, request: Encoded) -> None:
        await self._around.peers.proxies.ask(
            server_id, "SetRates", request, Status, deadline=boottime() + TIMEOUT_S
        )

    def _request(self, judgement: Judgement, proxies: int) -> Generator[None, None, Encoded]:
        """What each of the proxies is told. Encoded in parts: one after the other they are the message."""
        now = self._around.now_ms() << LOGICAL_BITS
        base = MsgBase(msgID=now, timestamp=now, sourceID=self._around.server_id)
        encoded = bytearray(SetRatesRequest(base=base).SerializeToString())
        known: dict[Hashable, CollectionRate | None] = {}
        for some in cut(judgement.collections(), TOLD_AT_ONCE):
            part = SetRatesRequest()
            for collection_id in some:
                alike = judgement.alike(collection_id)
                if alike not in known:
                    limits = judgement.of(collection_id)
                    known[alike] = collection_rate(collection_id, limits, proxies) if limits.limited else None
                rate = known[alike]
                if rate is not None:
                    rate.collection = collection_id
                    part.rates.append(rate)
            encoded += part.SerializeToString()
            yield
        return Encoded(encoded)

    def _note(self, state: QuotaState) -> None:
        for change in changes(self.state, state):
            log.warning("what the quota centre denies has changed", **change)
        self.state = state


async def _bit_by_bit(work: Generator[None, None, T]) -> T:
    """What `work` comes to; other tasks get their turn whenever it yields."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


def _load_of(server_id: int) -> str:
    return f"load of proxy {server_id}"


def _rates_of(server_id: int) -> str:
    return f"rates of proxy {server_id}"
