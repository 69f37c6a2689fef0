"""RootCoord as a sender: while it sends DDL messages, the ticks of their channels stay below them.

    with holds.on(channels) as hold:
        stamp = ...          # a timestamp from the oracle, taken inside the block
        ...                  # send messages that carry it
    # from here on ticks may pass it

What holds: a timestamp handed out inside the block lies above the newest one at its beginning, and that is
RootCoord's promise for the held channels until the block is left; so no tick reaches it. The block must not
be left before the queue has taken the messages, or will certainly never deliver them. For a send that failed
after it may have gone out, this rests on the queue keeping the order of what one producer sends to one
channel: the tick then comes after the message, if that comes at all.

Holds are short, since nothing on these channels becomes visible to strongly consistent readers meanwhile:
take one for the sends, not for a whole DDL. Other channels go on.

Source of truth: Milvus 2.3.5 internal/rootcoord/{ddl_ts_lock_manager,scheduler}.go; these hold all channels.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coordd.rootcoord.timetick.protocol import Report


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """No tick on `channels` is above `promised` while it lasts."""

    channels: frozenset[str]
    promised: int

    def check(self, channel: str, timestamp: int) -> None:
        """To be called before a send, for what a mistake would damage silently.

        Raises:
            ValueError: this hold does not keep the ticks of the channel below the timestamp.
        """
        if channel not in self.channels:
            raise ValueError(f"ticks of {channel} are not held back")
        if timestamp <= self.promised:
            raise ValueError(f"timestamp {timestamp} is older than the hold: ticks may have passed it")


class DdlHolds:
    """The holds of one term. `newest`: no timestamp handed out from now on is at or below it."""

    def __init__(self, newest: Callable[[], int]) -> None:
        self._newest = newest
        self._holds: set[Hold] = set()

    @contextmanager
    def on(self, channels: Iterable[str]) -> Iterator[Hold]:
        """Hold the ticks of these channels back inside the block; see the module's docstring."""
        hold = Hold(frozenset(channels), self._newest())
        self._holds.add(hold)
        try:
            yield hold
        finally:
            self._holds.discard(hold)

    def report(self, fresh: int) -> Report:
        """What RootCoord promises now; `fresh` was handed out just now, for this and nothing else."""
        held: dict[str, int] = {}
        for hold in self._holds:
            for channel in hold.channels:
                held[channel] = min(hold.promised, held.get(channel, fresh))
        return Report(held, fresh)
