"""The record of a proxy's bar, while the proxy is told."""

import asyncio
from typing import Any, cast

from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest
from coordd.rootcoord.proxies.bar import TimestampBar
from coordd.rootcoord.proxies.bar_record import BarRecords
from coordd.rootcoord.proxies.link import ProxyLink
from tests.support.peers import OPTIONS


class SlowRecords:
    """Writes that take until they are let go."""

    def __init__(self) -> None:
        self.written: list[bool] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def write(self, _server_id: int, *, barred: bool) -> None:
        self.begun.set()
        await self.go_on.wait()
        self.written.append(barred)


async def test_a_proxy_that_is_told_while_its_bar_is_written_down_is_not_left_barred_there() -> None:
    """A successor would have it started anew."""
    records = SlowRecords()
    link = ProxyLink(
        7, "127.0.0.1:1", OPTIONS, TimestampBar(), records=cast("BarRecords", cast("Any", records))
    )
    link.owe(InvalidateCollMetaCacheRequest(collection_name="a"))
    keeping = asyncio.get_running_loop().create_task(link.keep_bar())
    await records.begun.wait()
    [entry] = link._outbox.pending()
    link._outbox.delivered(entry)
    records.go_on.set()
    await keeping
    assert records.written == [True, False]
