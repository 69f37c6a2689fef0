"""Calls to the server at one address: the connection is made when it is needed, and shared by all.

A server that listens and does not accept, as one does that is about to take over, is waited for; one where
nobody listens fails the call at once. A connection that was lost is made anew by the next call. No call is
repeated.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from coordd.config.coordinators import split_address
from coordd.http2.client import CallFailed, Channel, ClientSettings
from coordd.rpc.failure import RpcCode

CONNECT_LIMIT_S: Final = 5.0
"""Bound on one attempt to connect. A coordinator that is about to take over listens before it accepts, on a
busy machine for seconds, so Milvus' 200 ms would give up too early; who calls has a deadline."""


async def connect(address: str, settings: ClientSettings) -> Channel:
    """A channel to `host:port`; bounded by the caller only, see `Channel.connect`.

    Raises:
        ValueError: no such address.
        OSError: see `Channel.connect`.
    """
    host, port = split_address(address)
    if not host or port is None or not 0 < port < 1 << 16:
        raise ValueError(f"{address!r} is not host:port")
    return await Channel.connect(host, port, settings=settings)


async def ask_once(
    address: str, path: str, body: bytes, *, metadata: Sequence[tuple[str, str]], timeout_s: float
) -> bytes:
    """Call the method at `path` over a connection of its own.

    Raises:
        CallFailed: see `Line.unary`.
    """
    line = Line(address, ClientSettings(max_receive_bytes=4 << 20), limit_s=None)
    try:
        return await line.unary(path, body, metadata=metadata, timeout_s=timeout_s)
    finally:
        await line.close()


class Line:
    """To the server at `address`. Make it inside a running loop; `close` it in the end.

    `limit_s`: how long one attempt to connect may take; None = as long as calls wait for it.
    """

    def __init__(
        self, address: str, settings: ClientSettings, *, limit_s: float | None = CONNECT_LIMIT_S
    ) -> None:
        self.address = address
        self._settings = settings
        self._limit_s = limit_s
        self._channel: Channel | None = None
        self._older: list[Channel] = []
        self._dial: asyncio.Task[Channel | CallFailed] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed, and nothing is left of its connections."""
        dialling = self._dial is not None and not self._dial.done()
        return self._closed and not dialling and all(one.closed.is_set() for one in self._channels())

    def begin(self) -> None:
        """Connect now, so that the first call finds a connection."""
        self._dialling()

    async def unary(
        self, path: str, body: bytes, *, metadata: Sequence[tuple[str, str]], timeout_s: float
    ) -> bytes:
        """Call the method at `path` once. Safe to cancel.

        Raises:
            CallFailed: see `Channel.unary`; also that there is no connection, when nothing was sent.
        """
        channel = self._channel
        if channel is None or not channel.usable:
            loop = asyncio.get_running_loop()
            began = loop.time()
            channel = await self._connected(timeout_s)
            timeout_s -= loop.time() - began
        return await channel.unary(path, body, metadata=metadata, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close now; calls under way fail with UNAVAILABLE. May be called again."""
        self._closed = True
        for channel in self._channels():
            channel.close()
        if self._dial is not None and not self._dial.done():
            self._dial.cancel()
            await asyncio.wait((self._dial,))
        for channel in self._channels():
            await channel.closed.wait()

    def _dialling(self) -> "asyncio.Task[Channel | CallFailed]":
        """The one task that connects."""
        task = self._dial
        if task is None or task.done():
            task = asyncio.get_running_loop().create_task(self._connect(), name=f"dial {self.address}")
            self._dial = task
        return task

    def _channels(self) -> list[Channel]:
        return self._older if self._channel is None else [*self._older, self._channel]

    async def _connected(self, timeout_s: float) -> Channel:
        """The connection, when it is made; all that need it wait for the same one.

        Raises:
            CallFailed: there is none.
        """
        if self._closed:
            raise self._is_closed()
        dial = self._dialling() if timeout_s > 0 else None
        if dial is not None:
            await asyncio.wait((dial,), timeout=timeout_s)
        if dial is None or not dial.done():
            text = f"no connection to {self.address} in time"
            raise CallFailed(RpcCode.DEADLINE_EXCEEDED, text, sent=False)
        outcome = self._is_closed() if dial.cancelled() else dial.result()
        if isinstance(outcome, CallFailed):
            raise outcome
        return outcome

    async def _connect(self) -> Channel | CallFailed:
        """Connect. Errors are returned, since perhaps nobody waits any more who would take them."""
        try:
            async with asyncio.timeout(self._limit_s):
                made = await connect(self.address, self._settings)
        except TimeoutError as error:
            return self._unreachable(str(error) or f"no answer within {self._limit_s} s")
        except (OSError, ValueError) as error:
            return self._unreachable(error)
        self._older = [one for one in self._channels() if not one.closed.is_set()]
        self._channel = made
        return made

    def _unreachable(self, reason: object) -> CallFailed:
        text = f"no connection to {self.address}: {reason}"
        return CallFailed(RpcCode.UNAVAILABLE, text, sent=False)

    def _is_closed(self) -> CallFailed:
        return CallFailed(RpcCode.UNAVAILABLE, f"the connection to {self.address} is closed", sent=False)
