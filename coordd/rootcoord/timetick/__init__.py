"""Time ticks: what RootCoord tells the readers of every channel about how far they have heard all.

After a tick T on a channel, nothing with a timestamp of T or below follows on it. `protocol` holds that
rule, `holds` is RootCoord's own part in it as a sender, `ticker` runs both and sends. `sessions` says whom
ticks wait for; `gone`, `untold` and `absentees` keep one that is dead, or cannot be told of changes, from
stopping them all.

Source of truth: Milvus 2.3.5 internal/rootcoord/{timeticksync,ddl_ts_lock_manager}.go.
"""

from coordd.rootcoord.timetick.holds import DdlHolds, Hold
from coordd.rootcoord.timetick.protocol import Report, TimeTicks
from coordd.rootcoord.timetick.ticker import TickConditions, TimeTicker

__all__ = ["DdlHolds", "Hold", "Report", "TickConditions", "TimeTicker", "TimeTicks"]
