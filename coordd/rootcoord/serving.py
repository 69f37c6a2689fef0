"""What a term has where the replica serves: put together, started, and begun when callers have been answered.

Source of truth for the order: Milvus 2.3.5 internal/rootcoord/root_coord.go (initInternal).
"""

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from coordd import clock
from coordd.config import LoadedConfig
from coordd.errors import CoorddError
from coordd.ha.coordinator import Term
from coordd.ha.gate import LeadershipGate
from coordd.ha.leadership import SessionTable
from coordd.ha.session_watch import SessionWatch
from coordd.log import get_logger
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.mq.types import MessageQueue
from coordd.rootcoord import inherited
from coordd.rootcoord.alteration_news import AlterationNews, altered
from coordd.rootcoord.broadcast import Broadcaster
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.imports.records import ImportRecords
from coordd.rootcoord.life import Life, Means
from coordd.rootcoord.looks import Looks
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.parts import Services, TermParts
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.proxies import BarRecords, Departures, ProxyManager, TimestampBar
from coordd.rootcoord.quota.center import QuotaCenter, Surroundings
from coordd.rootcoord.timetick import TimeTicker
from coordd.rootcoord.timetick.assembly import begin_time_ticks
from coordd.rootcoord.topics import MadeBeforehand
from coordd.rpc.connection import ClientOptions

log = get_logger("coordd.rootcoord")

CALLERS_FIRST_S = 0.02
LOOK_ANEW_S = 2.0
"""For which DataCoord is asked to look for the new RootCoord; later it has done so by itself."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is there for as long as the process serves.

    `bar`: the proxies that get no timestamps. `looks`: who asks for what.
    """

    config: Callable[[], LoadedConfig]
    layout: MetaLayout
    tables: RootCoordTables
    bar: TimestampBar
    departures: Departures
    looks: Looks
    gate: LeadershipGate
    sessions: SessionTable
    watch: SessionWatch

    def begin(self, term: Term, parts: TermParts, queue: MessageQueue | None) -> Services:
        """Put together and start what serves in `term`, whose oracle must not have handed out anything yet.

        `queue`: None if there is none.
        """
        ticks = self._time_ticks(term, parts, queue)
        peers = self._meet_peers(term)
        quota = self._quota(term, parts, peers)
        life = self._life(term, parts, ticks, peers, queue)
        no_data_nodes = queue is None and parts.no_queue is None
        data_coord = None if no_data_nodes else peers.data_coord
        news = AlterationNews(self.tables, parts.operations, data_coord)
        self._make_good(term, parts, peers, news)
        return Services(ticks, peers, news, quota, life, self._imports(term, parts, peers))

    def may_send_s(self) -> float:
        """For how many seconds this replica may act outward, 0 for not now."""
        return self.gate.guard_remaining_s() if self.gate.serving() else 0.0

    def _time_ticks(self, term: Term, parts: TermParts, queue: MessageQueue | None) -> TimeTicker:
        return begin_time_ticks(
            term,
            oracle=parts.oracle,
            pool=parts.channels,
            sessions=self.sessions,
            queue=queue,
            config=self.config,
            may_send_s=self.may_send_s,
            barred=lambda: self.bar.ids,
            ended=self.departures.barred,
        )

    def _meet_peers(self, term: Term) -> Peers:
        settings = self.config().settings
        options = ClientOptions(
            cluster=settings.common.cluster,
            max_receive_bytes=settings.root_coord.client_max_recv_size,
            max_send_bytes=settings.root_coord.client_max_send_size,
            keepalive_time_ms=settings.grpc.client_keep_alive_time_ms,
            keepalive_timeout_ms=settings.grpc.client_keep_alive_timeout_ms,
        )
        peers = Peers(
            self.watch,
            options,
            self.bar,
            term.server_id,
            BarRecords(term.committer, self.layout),
            users=self.tables.users.known_names,
        )
        for name, task in peers.tasks().items():
            term.start_task(task, name)
        term.start_task(self._tell_data_coord(peers), "datacoord looks anew")
        return peers

    def _quota(self, term: Term, parts: TermParts, peers: Peers) -> QuotaCenter:
        timestamps = parts.oracle.timestamps
        quota = QuotaCenter(
            Surroundings(
                peers=peers,
                collections=self.tables.collections,
                settings=lambda: self.config().settings.quota_and_limits,
                now_ms=lambda: max(timestamps.physical_ms, clock.unix_ms()),
                may_send_s=self.may_send_s,
                server_id=term.server_id,
            )
        )
        term.start_task(quota.run(), "quota centre")
        return quota

    def _life(
        self, term: Term, parts: TermParts, ticks: TimeTicker, peers: Peers, queue: MessageQueue | None
    ) -> Life:
        broadcaster = None
        if queue is not None:
            broadcaster = Broadcaster(queue, ticks, parts.oracle, self.may_send_s)
        means = Means(
            tables=self.tables,
            layout=self.layout,
            config=self.config,
            ddl=parts.ddl,
            oracle=parts.oracle,
            pool=parts.channels,
            peers=peers,
            looks=self.looks,
            operations=parts.operations,
            broadcaster=broadcaster,
            server_id=term.server_id,
            topics=self._topics(term, parts, queue),
        )
        life = Life(means)
        term.start_task(self._go_on(life, parts, parts.oracle.ids.next_id), "unfinished changes")
        return life

    def _topics(self, term: Term, parts: TermParts, queue: MessageQueue | None) -> MadeBeforehand | None:
        if queue is None or not self.config().settings.common.pre_created_topic.enabled:
            return None
        topics = MadeBeforehand(queue, parts.channels.names)
        term.start_task(self._look_at_topics(topics), "topics made beforehand")
        return topics

    def _make_good(self, term: Term, parts: TermParts, peers: Peers, news: AlterationNews) -> None:
        """What earlier terms may have left unsaid."""
        untold = term.committer.recent_keys(after=parts.told_until)
        to_proxies = self._tell_proxies(peers.proxies, parts.oracle, untold, term.server_id)
        term.start_task(to_proxies, "news of earlier terms")
        changed = term.committer.recent_keys()
        term.start_task(self._tell_alterations(news, changed), "alterations of earlier terms")

    def _imports(self, term: Term, parts: TermParts, peers: Peers) -> Imports:
        ddl = Ddl(term.committer, parts.oracle, self.tables.import_mark)
        records = ImportRecords(self.tables, self.layout, self.config, ddl)
        imports = Imports(records, peers.data_coord, self._data_nodes, self.may_send_s)
        term.start_task(self._drive(imports), "import tasks")
        return imports

    def _data_nodes(self) -> Collection[int] | None:
        """IDs of the data nodes that live; None: that is not known now."""
        return self.watch.nodes("datanode") if self.watch.synced else None

    # --- what begins when callers have been answered ---

    async def _until_serving(self) -> None:
        while self.may_send_s() <= 0:
            await self.gate.wait_change(math.inf)

    async def _go_on(self, life: Life, parts: TermParts, first_id: int) -> None:
        """With what is unfinished, if there is a queue to tell others by."""
        await self._until_serving()
        if parts.no_queue is None:
            await life.go_on(first_id)

    async def _look_at_topics(self, topics: MadeBeforehand) -> None:
        await self._until_serving()
        await topics.look(self.tables.collections.channel_uses)

    async def _drive(self, imports: Imports) -> None:
        await self._until_serving()
        await imports.run()

    async def _tell_proxies(
        self, proxies: ProxyManager, oracle: Oracle, changed: Sequence[str], server_id: int
    ) -> None:
        """This may take a while. `changed`: keys."""
        await self._until_serving()
        made = inherited.changes(self.tables, self.layout, changed)
        await inherited.tell(proxies, made, server_id, oracle.newest_timestamp)

    async def _tell_alterations(self, news: AlterationNews, changed: Sequence[str]) -> None:
        await self._until_serving()
        news.tell_in_background(altered(self.layout, changed))

    async def _tell_data_coord(self, peers: Peers) -> None:
        """Early in a term, but after the first callers; whatever comes of it."""
        await self._until_serving()
        await asyncio.sleep(CALLERS_FIRST_S)
        if self.watch.active("datacoord") is not None:
            try:
                await peers.data_coord.look_anew(deadline=clock.boottime() + LOOK_ANEW_S)
            except CoorddError as error:
                log.debug("datacoord was not told to look for this rootcoord", reason=str(error))
