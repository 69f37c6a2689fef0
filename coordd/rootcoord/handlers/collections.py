"""Collections and partitions: Describe, Show, Has.

Lists whose order Milvus leaves to chance come by ID (creation order), names of aliases sorted.

Source of truth: Milvus 2.3.5 internal/rootcoord/{describe_collection,show_collection,has_collection,
show_partition,has_partition}_task.go, root_coord.go (convertModelToDesc); recorded replies.
"""

from collections.abc import Awaitable, Callable, Iterable

from coordd.meta.layout import SNAPSHOT_SEPARATOR
from coordd.meta.tables import DEFAULT_DB_NAME, CollectionRow, CollectionView, Partition, RootCoordTables
from coordd.pb.common_pb2 import MsgType
from coordd.pb.milvus_pb2 import (
    BoolResponse,
    DescribeCollectionRequest,
    DescribeCollectionResponse,
    HasCollectionRequest,
    HasPartitionRequest,
    ShowCollectionsRequest,
    ShowCollectionsResponse,
    ShowPartitionsRequest,
    ShowPartitionsResponse,
)
from coordd.pb.schema_pb2 import FieldSchema
from coordd.rootcoord.errors import check_msg_type, no_collection_with_name, no_database
from coordd.rootcoord.kept_answers import KeptAnswers
from coordd.rootcoord.lookup import CollectionLookup, Wanted
from coordd.rootcoord.past import PastLookup
from coordd.rootcoord.tso import physical_of
from coordd.rpc.call import Call
from coordd.rpc.status import CollectionNotFound, MilvusError, success


class CollectionHandlers:
    """Needs `_tables`, `_lookup` (present state), `_past` (etcd) and `_kept` (the term's answers)."""

    _tables: RootCoordTables
    _lookup: CollectionLookup
    _past: PastLookup
    _kept: Callable[[], KeptAnswers]

    def describe_collection(
        self, request: DescribeCollectionRequest, _call: Call
    ) -> DescribeCollectionResponse | Awaitable[DescribeCollectionResponse]:
        """An available collection with its available partitions."""
        return self._describe(request, unavailable=False)

    def describe_collection_internal(
        self, request: DescribeCollectionRequest, _call: Call
    ) -> DescribeCollectionResponse | Awaitable[DescribeCollectionResponse]:
        """The same; by ID also collections and partitions that are being created or dropped."""
        return self._describe(request, unavailable=True)

    def has_collection(
        self, request: HasCollectionRequest, _call: Call
    ) -> BoolResponse | Awaitable[BoolResponse]:
        """Whether the name, or alias, stands for an available collection; never fails but for the type."""
        check_msg_type(request.base, MsgType.HasCollection)
        wanted = Wanted(request.db_name, request.collection_name, 0, request.time_stamp)
        if not wanted.name:
            return BoolResponse(status=success(), value=False)
        if not wanted.is_latest and self._lookup.then_from_memory(wanted) is None:
            return self._has_then(wanted)
        try:
            self._lookup.now(wanted)
        except CollectionNotFound:
            return BoolResponse(status=success(), value=False)
        return BoolResponse(status=success(), value=True)

    def show_collections(
        self, request: ShowCollectionsRequest, _call: Call
    ) -> ShowCollectionsResponse | Awaitable[ShowCollectionsResponse]:
        """The available collections of a database. Type and names in the request play no part here."""
        check_msg_type(request.base, MsgType.ShowCollections)
        if not Wanted(request.db_name, "", 0, request.time_stamp).is_latest:
            return self._show_then(request)
        database = self._lookup.database(request.db_name)
        if database is None:
            raise no_database(request.db_name)
        kept = self._kept().shown
        answer = kept.get(database.id)
        if answer is None:
            answer = _shown(self._tables.collections.in_db(database.id))
            kept.put(database.id, answer)
        return answer

    def show_partitions(self, request: ShowPartitionsRequest, _call: Call) -> ShowPartitionsResponse:
        """The available partitions of an available collection."""
        return self._show_partitions(request, unavailable=False)

    def show_partitions_internal(self, request: ShowPartitionsRequest, _call: Call) -> ShowPartitionsResponse:
        """The same; by ID also those that are being created or dropped."""
        return self._show_partitions(request, unavailable=True)

    def has_partition(self, request: HasPartitionRequest, _call: Call) -> BoolResponse:
        """Whether an available collection has an available partition of that name."""
        check_msg_type(request.base, MsgType.HasPartition)
        db_name = request.db_name or DEFAULT_DB_NAME
        if not request.collection_name:
            raise no_collection_with_name(db_name, "")
        view = self._lookup.view(self._lookup.now(Wanted(db_name, request.collection_name, 0)))
        names = {partition.name for partition in view.available_partitions}
        return BoolResponse(status=success(), value=request.partition_name in names)

    def _describe(
        self, request: DescribeCollectionRequest, *, unavailable: bool
    ) -> DescribeCollectionResponse | Awaitable[DescribeCollectionResponse]:
        check_msg_type(request.base, MsgType.DescribeCollection)
        wanted = Wanted(
            request.db_name, request.collection_name, request.collectionID, request.time_stamp, unavailable
        )
        row = self._lookup.now(wanted) if wanted.is_latest else self._lookup.then_from_memory(wanted)
        if row is None:
            return self._describe_then(wanted)
        question = (row.collection_id, wanted.takes_unavailable, wanted.db_name)
        kept = self._kept().described
        answer = kept.get(question)
        if answer is None:
            answer = self._answer(self._lookup.view(row), wanted)
            if self._lookup.database(wanted.db_name) is not None:  # by ID any name will do, and is answered
                kept.put(question, answer)
        return answer

    async def _describe_then(self, wanted: Wanted) -> DescribeCollectionResponse:
        view = await self._past.collection(wanted)
        answer = self._answer(view, wanted)
        if view.row.inline_partitions is None:
            answer.schema.fields.sort(key=_snapshot_order)
        return answer

    def _answer(self, view: CollectionView, wanted: Wanted) -> DescribeCollectionResponse:
        partitions = view.partitions if wanted.takes_unavailable else view.available_partitions
        info = view.info
        return DescribeCollectionResponse(
            status=success(),
            schema=view.schema(),
            collectionID=view.id,
            virtual_channel_names=info.virtual_channel_names,
            physical_channel_names=info.physical_channel_names,
            created_timestamp=info.create_time,
            created_utc_timestamp=physical_of(info.create_time),
            shards_num=view.shards_num,
            aliases=self._tables.aliases.of_collection(view.id),
            start_positions=info.start_positions,
            consistency_level=info.consistency_level,
            collection_name=view.name,
            properties=info.properties,
            db_name=wanted.db_name,
            num_partitions=len(partitions),
        )

    async def _has_then(self, wanted: Wanted) -> BoolResponse:
        try:
            await self._past.collection(wanted)
        except MilvusError:
            return BoolResponse(status=success(), value=False)
        return BoolResponse(status=success(), value=True)

    async def _show_then(self, request: ShowCollectionsRequest) -> ShowCollectionsResponse:
        return _shown(await self._past.collections(request.db_name, request.time_stamp))

    def _show_partitions(
        self, request: ShowPartitionsRequest, *, unavailable: bool
    ) -> ShowPartitionsResponse:
        check_msg_type(request.base, MsgType.ShowPartitions)
        wanted = Wanted(
            request.db_name, request.collection_name, request.collectionID, unavailable=unavailable
        )
        view = self._lookup.view(self._lookup.now(wanted))
        partitions: Iterable[Partition] = (
            view.partitions if wanted.takes_unavailable else view.available_partitions
        )
        response = ShowPartitionsResponse(status=success())
        for partition in partitions:
            response.partitionIDs.append(partition.id)
            response.partition_names.append(partition.name)
            response.created_timestamps.append(partition.created_timestamp)
            response.created_utc_timestamps.append(physical_of(partition.created_timestamp))
        return response


def _snapshot_order(field: FieldSchema) -> str:
    """What Milvus reads from etcd comes in the order of the snapshot keys: 0, 100, 101, ..., 1."""
    return f"{field.fieldID}{SNAPSHOT_SEPARATOR}"


def _shown(rows: Iterable[CollectionRow]) -> ShowCollectionsResponse:
    response = ShowCollectionsResponse(status=success())
    for row in rows:
        response.collection_names.append(row.name)
        response.collection_ids.append(row.collection_id)
        response.created_timestamps.append(row.create_time)
        response.created_utc_timestamps.append(physical_of(row.create_time))
    return response
