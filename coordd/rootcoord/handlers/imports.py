"""Import, GetImportState, ListImportTasks and ReportImport: bulk inserts.

Reads are answered from the table, so from the first moment of a term. Import is not idempotent, as in Milvus:
the same files may be asked for twice.

Not Milvus': an Import that a proxy repeats because a term ended before it was answered, does not make another
task of the same files, whose rows would be there twice. It is known by all that is in it. A proxy of 2.3.5
passes on what its client sent, without an ID, a timestamp or a trace in message or headers. So nothing tells
a repetition from another client's call for the same: within a minute of one whose answer may not have arrived
(a takeover came in between, or etcd left it open) both get the one task, unless that has failed. And an
unknown collection is answered with a status: there it is a gRPC error, which a proxy repeats until its time
is up.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go; texts recorded from a running 2.3.5, and what
its proxy sends was seen there.
"""

from collections.abc import Callable

from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.pb.common_pb2 import Status
from coordd.pb.milvus_pb2 import (
    GetImportStateRequest,
    GetImportStateResponse,
    ImportRequest,
    ImportResponse,
    ListImportTasksRequest,
    ListImportTasksResponse,
)
from coordd.pb.root_coord_pb2 import ImportResult
from coordd.rootcoord.errors import elsewhere
from coordd.rootcoord.handlers.changing import asked_by, deadline_of
from coordd.rootcoord.imports.answers import describe, listed
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.lookup import CollectionLookup, Wanted
from coordd.rootcoord.oracle import NotHandedOutError, TermOverError
from coordd.rpc.call import Call
from coordd.rpc.status import (
    CollectionNotFound,
    IoKeyNotFound,
    MilvusError,
    ServiceUnavailable,
    success,
)


class ImportHandlers:
    """`_imports` gives what belongs to the present term."""

    _tables: RootCoordTables
    _layout: MetaLayout
    _lookup: CollectionLookup
    _imports: Callable[[], Imports]

    async def import_(self, request: ImportRequest, call: Call) -> ImportResponse:
        """Take files to be inserted; the task that does it goes on when this is answered."""
        try:
            imports = self._imports()
            asked = asked_by(call, lambda: imports.made_before(request), identity=call.body)
            task_id = await imports.create(request, asked, deadline=deadline_of(call))
        except TermOverError as error:
            raise elsewhere(error) from error
        except NotHandedOutError as error:
            raise ServiceUnavailable(f"no timestamp or ID for the task: {error}") from error
        return ImportResponse(status=success(), tasks=[task_id])

    def get_import_state(self, request: GetImportStateRequest, _call: Call) -> GetImportStateResponse:
        """How far one task is."""
        tasks, task_id = self._tables.import_tasks, request.task
        task = tasks.get(task_id)
        if task is not None:
            return describe(task)
        if tasks.is_damaged(task_id):
            raise MilvusError(f"the record of import task {task_id} is damaged")
        raise IoKeyNotFound(key=f"{self._layout.import_task_prefix}{task_id}")

    def list_import_tasks(self, request: ListImportTasksRequest, _call: Call) -> ListImportTasksResponse:
        """The tasks of one collection, or all, oldest first."""
        collection_id = None
        name = request.collection_name
        if name:
            try:
                collection_id = self._lookup.now(Wanted(request.db_name, name, 0)).collection_id
            except CollectionNotFound as error:
                raise error.wrap(f"failed to find collection ID from its name: '{name}', error") from None
        tasks = listed(self._tables.import_tasks, collection_id=collection_id, limit=request.limit)
        return ListImportTasksResponse(status=success(), tasks=tasks)

    async def report_import(self, request: ImportResult, call: Call) -> Status:
        """A data node tells how far its task is. Idempotent."""
        try:
            await self._imports().report(request, deadline=deadline_of(call))
        except TermOverError as error:
            raise elsewhere(error) from error
        except NotHandedOutError as error:
            raise ServiceUnavailable(f"no timestamp or ID for the change: {error}") from error
        return success()
