"""The other processes of the cluster: what RootCoord asks of DataCoord and QueryCoord, and the proxies.

Each method of the two coordinators' clients takes a deadline in seconds on CLOCK_BOOTTIME. Until then it
waits for a peer that is absent, not ready or in the middle of a failover (`coordd.rpc.peer` says how), so it
may be carried out more than once: all of these methods stand that. All raise

* `PeerUnavailable`: the peer gave no usable answer until the deadline;
* `MilvusError`: the peer refused; the text is the one with which Milvus' RootCoord passes the refusal on;
* `RpcFailure`: the term is over (UNAVAILABLE), or the peer has no such method (UNIMPLEMENTED).

Source of truth: Milvus 2.3.5 internal/rootcoord/broker.go, import_helper.go, quota_center.go.
"""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from coordd.ha.session_watch import SessionWatch
from coordd.pb.common_pb2 import ErrorCode, MsgBase, MsgType, Status
from coordd.pb.data_coord_pb2 import (
    AlterCollectionRequest,
    FlushRequest,
    FlushResponse,
    GcConfirmRequest,
    GcConfirmResponse,
    GetSegmentStatesRequest,
    GetSegmentStatesResponse,
    ImportTask,
    ImportTaskRequest,
    ImportTaskResponse,
    MarkSegmentsDroppedRequest,
    SegmentStateInfo,
    UnsetIsImportingStateRequest,
    WatchChannelsRequest,
    WatchChannelsResponse,
)
from coordd.pb.index_coord_pb2 import DropIndexRequest
from coordd.pb.milvus_pb2 import (
    GetFlushAllStateRequest,
    GetFlushAllStateResponse,
    GetMetricsRequest,
    GetMetricsResponse,
)
from coordd.pb.query_coord_pb2 import (
    ReleaseCollectionRequest,
    ReleasePartitionsRequest,
    SyncNewCreatedPartitionRequest,
)
from coordd.rootcoord.proxies import BarRecords, ProxyManager, TimestampBar
from coordd.rpc.connection import ClientOptions
from coordd.rpc.peer import Peer
from coordd.rpc.status import MilvusError, is_success

DATA_COORD = "/milvus.proto.data.DataCoord/"
QUERY_COORD = "/milvus.proto.query.QueryCoord/"

ALL_PARTITIONS = -1
"""In `gc_confirm`: the whole collection."""

NO_DATABASE = "-"
"""No name that Milvus takes for a database."""

SYSTEM_INFO = '{"metric_type":"system_info"}'


class DataCoordClient:
    """DataCoord, as RootCoord uses it. `keep` must run as a task of the term."""

    def __init__(self, sessions: SessionWatch, options: ClientOptions) -> None:
        self._peer = Peer("datacoord", sessions, options)
        self.keep = self._peer.keep

    async def watch_channels(self, request: WatchChannelsRequest, *, deadline: float) -> None:
        """Have data nodes consume the channels of a new collection; doing so again is success."""
        answer = await self._peer.call(f"{DATA_COORD}WatchChannels", request, WatchChannelsResponse, deadline)
        if not is_success(answer.status):
            raise _refused("failed to watch channels", answer.status)

    async def gc_confirm(
        self, collection_id: int, partition_id: int = ALL_PARTITIONS, *, deadline: float
    ) -> bool:
        """Whether all segments of a dropped collection or partition are gone.

        Milvus takes an error for "not yet"; here it is raised, and the caller may do the same.
        """
        request = GcConfirmRequest(collection_id=collection_id, partition_id=partition_id)
        answer = await self._peer.call(f"{DATA_COORD}GcConfirm", request, GcConfirmResponse, deadline)
        if not is_success(answer.status):
            raise MilvusError(f"gc is not finished: {answer.status.reason}")
        return answer.gc_finished

    async def drop_indexes(
        self, collection_id: int, partition_ids: Sequence[int] = (), *, deadline: float
    ) -> None:
        """Drop all indexes of a collection, or those of some of its partitions; none left is success."""
        request = DropIndexRequest(collectionID=collection_id, partitionIDs=partition_ids, drop_all=True)
        status = await self._peer.call(f"{DATA_COORD}DropIndex", request, Status, deadline)
        if not is_success(status):
            raise MilvusError(status.reason)

    async def broadcast_altered_collection(self, request: AlterCollectionRequest, *, deadline: float) -> None:
        """Tell what a collection is like now. `properties` replace what DataCoord has: send all of them."""
        status = await self._peer.call(f"{DATA_COORD}BroadcastAlteredCollection", request, Status, deadline)
        if not is_success(status):
            raise MilvusError(status.reason)

    async def flush_imported(
        self, collection_id: int, segment_ids: Sequence[int], *, deadline: float
    ) -> FlushResponse:
        """Seal the segments that a bulk insert has made."""
        request = FlushRequest(
            base=MsgBase(msg_type=MsgType.Flush),
            collectionID=collection_id,
            segmentIDs=segment_ids,
            isImport=True,
        )
        answer = await self._peer.call(f"{DATA_COORD}Flush", request, FlushResponse, deadline)
        if not is_success(answer.status):
            raise MilvusError(answer.status.reason)
        return answer

    async def import_task(
        self, task: ImportTask, busy_nodes: Sequence[int] = (), *, deadline: float
    ) -> ImportTaskResponse:
        """Give a bulk insert to a data node that is not one of `busy_nodes`; the answer names the node.

        A refusal is an answer here: that all nodes are busy is nothing wrong.
        """
        request = ImportTaskRequest(import_task=task, working_nodes=busy_nodes)
        return await self._peer.call(f"{DATA_COORD}Import", request, ImportTaskResponse, deadline)

    async def unset_is_importing(self, segment_ids: Sequence[int], *, deadline: float) -> None:
        """Make the segments of a finished bulk insert visible."""
        request = UnsetIsImportingStateRequest(segment_ids=segment_ids)
        status = await self._peer.call(f"{DATA_COORD}UnsetIsImportingState", request, Status, deadline)
        if not is_success(status):
            raise MilvusError(status.reason)

    async def mark_segments_dropped(self, segment_ids: Sequence[int], *, deadline: float) -> None:
        """Have the segments of a failed bulk insert removed."""
        request = MarkSegmentsDroppedRequest(segment_ids=segment_ids)
        status = await self._peer.call(f"{DATA_COORD}MarkSegmentsDropped", request, Status, deadline)
        if not is_success(status):
            raise MilvusError(status.reason)

    async def segment_states(
        self, segment_ids: Sequence[int], *, deadline: float
    ) -> Sequence[SegmentStateInfo]:
        """What has become of the segments, in the order asked for; an unknown one is NotExist."""
        request = GetSegmentStatesRequest(
            base=MsgBase(msg_type=MsgType.GetSegmentState), segmentIDs=segment_ids
        )
        answer = await self._peer.call(
            f"{DATA_COORD}GetSegmentStates", request, GetSegmentStatesResponse, deadline
        )
        if not is_success(answer.status):
            raise MilvusError(answer.status.reason)
        return answer.states

    async def look_anew(self, *, deadline: float) -> None:
        """Have DataCoord call RootCoord now, so that it is connected to the present one.

        Milvus' client finds out by a call that fails, and sleeps 0.2 s then. Else that call would be the one
        for a segment that an insert waits for, whose proxy has slept for as long already. It asks about a
        database that cannot exist, for which DataCoord lists the databases.
        """
        request = GetFlushAllStateRequest(db_name=NO_DATABASE)
        await self._peer.call(f"{DATA_COORD}GetFlushAllState", request, GetFlushAllStateResponse, deadline)

    async def metrics(self, *, deadline: float) -> str:
        """GetMetrics `system_info`: the JSON text that the quota centre reads."""
        return await _metrics(self._peer, DATA_COORD, deadline)


class QueryCoordClient:
    """QueryCoord, as RootCoord uses it. `keep` must run as a task of the term."""

    def __init__(self, sessions: SessionWatch, options: ClientOptions, server_id: int) -> None:
        """`server_id`: of this RootCoord."""
        self._peer = Peer("querycoord", sessions, options)
        self._server_id = server_id
        self.keep = self._peer.keep

    async def release_collection(self, collection_id: int, *, deadline: float) -> None:
        """Release a collection; one that is not loaded is success."""
        request = ReleaseCollectionRequest(
            base=MsgBase(msg_type=MsgType.ReleaseCollection),
            collectionID=collection_id,
            nodeID=self._server_id,
        )
        status = await self._peer.call(f"{QUERY_COORD}ReleaseCollection", request, Status, deadline)
        if not is_success(status):
            raise _refused("failed to release collection", status)

    async def release_partitions(
        self, collection_id: int, partition_ids: Sequence[int], *, deadline: float
    ) -> None:
        """Release partitions; without any there is nothing to ask."""
        if not partition_ids:
            return
        request = ReleasePartitionsRequest(
            base=MsgBase(msg_type=MsgType.ReleasePartitions),
            collectionID=collection_id,
            partitionIDs=partition_ids,
        )
        status = await self._peer.call(f"{QUERY_COORD}ReleasePartitions", request, Status, deadline)
        if not is_success(status):
            raise MilvusError(f"release partition failed, reason: {status.reason}")

    async def sync_new_created_partition(
        self, collection_id: int, partition_id: int, *, deadline: float
    ) -> None:
        """Have a new partition loaded if its collection is. (The message type is Milvus' own.)"""
        request = SyncNewCreatedPartitionRequest(
            base=MsgBase(msg_type=MsgType.ReleasePartitions),
            collectionID=collection_id,
            partitionID=partition_id,
        )
        status = await self._peer.call(f"{QUERY_COORD}SyncNewCreatedPartition", request, Status, deadline)
        if not is_success(status):
            raise MilvusError(f"sync new partition failed, reason: {status.reason}")

    async def metrics(self, *, deadline: float) -> str:
        """GetMetrics `system_info`: the JSON text that the quota centre reads."""
        return await _metrics(self._peer, QUERY_COORD, deadline)


async def _metrics(peer: Peer, service: str, deadline: float) -> str:
    request = GetMetricsRequest(base=MsgBase(msg_type=MsgType.SystemInfo), request=SYSTEM_INFO)
    answer = await peer.call(f"{service}GetMetrics", request, GetMetricsResponse, deadline)
    if not is_success(answer.status):
        raise MilvusError(answer.status.reason)
    return answer.response


def _refused(what: str, status: Status) -> MilvusError:
    return MilvusError(f"{what}, code: {ErrorCode.Name(status.error_code)}, reason: {status.reason}")


class Peers:
    """All other processes as one term sees them. Make it inside a running loop."""

    def __init__(
        self,
        sessions: SessionWatch,
        options: ClientOptions,
        bar: TimestampBar,
        server_id: int,
        records: BarRecords | None = None,
        *,
        users: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`server_id`: of this RootCoord. `records`, `users`: see `ProxyManager`."""
        self.proxies = ProxyManager(sessions, bar, options, records=records, users=users)
        self.data_coord = DataCoordClient(sessions, options)
        self.query_coord = QueryCoordClient(sessions, options, server_id)

    def tasks(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What must run while this is used, by name; each ends by cancellation and closes its connections."""
        return {
            "proxies": self.proxies.run(),
            "datacoord client": self.data_coord.keep(),
            "querycoord client": self.query_coord.keep(),
        }
