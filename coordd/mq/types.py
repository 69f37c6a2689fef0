"""What a message queue is to the rest of coordd."""

from collections.abc import Collection
from typing import Protocol


class MessageQueue(Protocol):
    """Appends messages to physical channels; one instance belongs to one term of leadership."""

    async def send(self, channel: str, payload: bytes) -> bytes:
        """Append `payload` to `channel` and wait until the queue has it.

        Returns the message's ID in the form in which start positions store it. Channels are made on first
        use. Messages of one channel lie in the order in which they were sent if each `send` is awaited before
        the next one; one that failed or was given up comes before those sent later, or never, as far as the
        queue can promise that. It takes at most the delivery timeout of the queue, longer only if its client
        has to be replaced; a caller that must not send any more after some moment cancels it then
        (`asyncio.timeout`): what has not yet been given to the network is not sent any more after that.

        Raises:
            MessageQueueError: the message may be in the queue all the same, unless the error says otherwise.
        """

    async def missing(self, channels: Collection[str]) -> Collection[str]:
        """Those of the channels that the queue does not have, without making any.

        None where channels are made by looking for them. Takes at most the delivery timeout.

        Raises:
            MessageQueueError: that cannot be told.
        """

    async def close(self) -> None:
        """Send nothing more; messages under way fail with `QueueClosed`. May be called again."""
