"""Topics that somebody else was to create (`common.preCreatedTopic`): whether they are there.

No collection is made on one that is not: where brokers make topics on demand, it would get one with settings
that nobody meant. A term begins without looking, since a takeover waits for no message queue. It looks soon
after, and says loudly what is missing.

That is so for Kafka. Pulsar tells of no topic that it is missing (`MessageQueue.missing`): with it, a
collection is made if the brokers make the topic, and else fails with its first message. Without a message
queue nothing is looked for.

Milvus looks when it starts, and ends if a topic is missing, or if a collection lies on one that is not listed
any more. Here such a collection goes on; only new ones are not put there.

Source of truth: Milvus 2.3.5 internal/rootcoord/dml_channels.go (newDmlChannels, addChannels).
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from coordd.log import get_logger
from coordd.mq.errors import MessageQueueError
from coordd.mq.types import MessageQueue

log = get_logger("coordd.rootcoord")

LOOK_AGAIN_FIRST_S: Final = 1.0
LOOK_AGAIN_MAX_S: Final = 60.0


class TopicsMissing(MessageQueueError):
    """Topics that are configured do not exist."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(
            f"common.preCreatedTopic.names lists {', '.join(names)}, but the message queue has no such topic",
            hint="create it, or take it off the list",
        )


class MadeBeforehand:
    """Of one term. `names`: all that are listed."""

    def __init__(self, queue: MessageQueue, names: Sequence[str]) -> None:
        self._queue = queue
        self._names = tuple(names)
        self._there: set[str] = set()

    async def check(self, names: Iterable[str]) -> None:
        """Return if these are there; what was found once is not looked for again.

        Raises:
            TopicsMissing: some are not.
            MessageQueueError: that cannot be told.
        """
        unknown = [name for name in names if name not in self._there]
        if not unknown:
            return
        missing = await self._queue.missing(unknown)
        self._there.update(set(unknown).difference(missing))
        if missing:
            raise TopicsMissing(missing)

    async def look(self, used: Iterable[str]) -> None:
        """Tell the log what is wrong with the list. `used`: the channels that collections lie on."""
        strange = sorted(set(used).difference(self._names))
        if strange:
            log.error(
                "collections lie on channels that common.preCreatedTopic.names lacks; they go on there",
                channels=strange,
            )
        pause_s = LOOK_AGAIN_FIRST_S
        while True:
            try:
                await self.check(self._names)
            except MessageQueueError as error:
                if not error.retriable:
                    log.error("no collections can be made on these topics", reason=str(error))
                    return
                log.warning("the topics made beforehand cannot be looked for yet", reason=str(error))
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_AGAIN_MAX_S)
