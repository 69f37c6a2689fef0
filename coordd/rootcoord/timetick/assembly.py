"""The time ticks of a term, put together and started."""

from collections.abc import Callable, Collection, Mapping

from coordd.config import LoadedConfig
from coordd.ha.coordinator import Term
from coordd.ha.leadership import SessionEntry, SessionTable
from coordd.mq.types import MessageQueue
from coordd.rootcoord.channels import ChannelPool
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.timetick.absentees import Absentees
from coordd.rootcoord.timetick.gone import REFUSED_UNHEARD_S
from coordd.rootcoord.timetick.probe import who_is_there
from coordd.rootcoord.timetick.sessions import ProxySessions
from coordd.rootcoord.timetick.ticker import TickConditions, TimeTicker
from coordd.rootcoord.tso import LOGICAL_BITS


def begin_time_ticks(
    term: Term,
    *,
    oracle: Oracle,
    pool: ChannelPool,
    sessions: SessionTable,
    queue: MessageQueue | None,
    config: Callable[[], LoadedConfig],
    may_send_s: Callable[[], float],
    barred: Callable[[], Collection[int]],
    ended: Callable[[float], Mapping[int, SessionEntry]],
) -> TimeTicker:
    """Start the ticks of `term`; its oracle must not have handed out anything yet.

    `may_send_s`: for how many seconds this replica may act outward, 0 for not now. `barred`: the
    proxies that get no timestamps. `ended`: those of them whose sessions ended less than so many seconds ago.
    """
    floor = oracle.timestamps.physical_ms << LOGICAL_BITS
    proxies = ProxySessions(sessions)
    # An earlier term may have ended their sessions while they were alive, and may not have seen their end.
    for server_id, entry in ended(config().settings.common.session_ttl_s + REFUSED_UNHEARD_S).items():
        proxies.leave(server_id, entry)

    def enabled() -> bool:
        return config().settings.common.tt_msg_enabled

    ticker = TimeTicker(
        floor=floor,
        newest=lambda: max(oracle.timestamps.last, floor - 1),
        timestamps=oracle,
        proxies=proxies,
        queue=queue,
        conditions=TickConditions(
            channels=pool.in_use,
            may_send_s=may_send_s,
            enabled=enabled,
            interval_s=config().settings.proxy.time_tick_interval_ms / 1000,
            server_id=term.server_id,
        ),
    )
    # Where there are no ticks proxies do not report, so that their silence says nothing.
    absentees = Absentees(
        ticker,
        proxies,
        term.committer,
        who_is_there,
        may_act=lambda: enabled() and may_send_s() > 0,
        barred=barred,
        ttl_s=lambda: config().settings.common.session_ttl_s,
    )
    term.start_task(ticker.run(), "time ticks")
    term.start_task(absentees.run(), "silent proxies")
    return ticker
