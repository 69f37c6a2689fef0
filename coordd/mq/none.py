"""No message queue at all (`mq.type: none`): for coordinators alone, without data nodes."""

from collections.abc import Collection


class NoQueue:
    """Implements `coordd.mq.MessageQueue`; what is sent is dropped, and its message ID is empty."""

    async def send(self, channel: str, payload: bytes) -> bytes:
        """Do nothing."""
        del channel, payload
        return b""

    async def missing(self, channels: Collection[str]) -> Collection[str]:
        """None."""
        del channels
        return ()

    async def close(self) -> None:
        """Do nothing."""
