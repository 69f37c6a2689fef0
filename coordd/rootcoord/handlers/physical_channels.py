"""GetPChannelInfo: a method of Milvus 2.5, for its streaming nodes.

Source of truth: Milvus branch 2.5 internal/rootcoord/meta_table.go.
"""

import asyncio

from coordd.meta.tables import CollectionRow, RootCoordTables
from coordd.pb.root_coord_pb2 import (
    CollectionInfoOnPChannel,
    GetPChannelInfoRequest,
    GetPChannelInfoResponse,
    PartitionInfoOnPChannel,
)
from coordd.rootcoord.known import in_slices
from coordd.rpc.call import Call
from coordd.rpc.status import success


class PhysicalChannelHandlers:
    """Answers from the tables alone."""

    _tables: RootCoordTables

    async def get_p_channel_info(
        self, request: GetPChannelInfoRequest, _call: Call
    ) -> GetPChannelInfoResponse:
        """The collections on a physical channel with their partitions, by ID; none on an unknown channel.

        Those that are being created or dropped are among them. One whose metadata is damaged fails the call:
        without its partitions a channel could not be recovered faithfully.
        """
        found: list[CollectionInfoOnPChannel] = []
        for rows in in_slices(self._tables.collections):
            found += [one for row in rows if (one := self._on_channel(row, request.pchannel)) is not None]
            await asyncio.sleep(0)
        found.sort(key=lambda one: one.collection_id)
        return GetPChannelInfoResponse(status=success(), collections=found)

    def _on_channel(self, row: CollectionRow, channel: str) -> CollectionInfoOnPChannel | None:
        if channel not in row.physical_channels:
            return None
        view = self._tables.collections.whole(row.collection_id)
        if view is None:
            return None  # dropped since the first slice
        info = view.info
        virtual = dict(zip(info.physical_channel_names, info.virtual_channel_names, strict=False))
        return CollectionInfoOnPChannel(
            collection_id=view.id,
            vchannel=virtual.get(channel, ""),
            partitions=[PartitionInfoOnPChannel(partition_id=one.id) for one in view.partitions],
        )
