"""DescribeAlias and ListAliases. They do not check the message type, as in Milvus.

Source of truth: Milvus 2.3.5 (both methods are in the released binary), recorded replies.
"""

from coordd.meta.tables import DEFAULT_DB_NAME, Alias, Database, RootCoordTables
from coordd.pb.milvus_pb2 import (
    DescribeAliasRequest,
    DescribeAliasResponse,
    ListAliasesRequest,
    ListAliasesResponse,
)
from coordd.rootcoord.errors import ParameterMissing, no_database
from coordd.rpc.call import Call
from coordd.rpc.status import AliasNotFound, CollectionNotFound, success


class AliasHandlers:
    """Needs `_tables`. `db_name` of an answer is the request's, not the resolved one."""

    _tables: RootCoordTables

    def describe_alias(self, request: DescribeAliasRequest, _call: Call) -> DescribeAliasResponse:
        """The collection behind an alias."""
        if not request.alias:
            raise ParameterMissing(missing_param="alias").wrap("no input alias")
        database = self._database(request.db_name)
        alias = self._tables.aliases.get(database.id, request.alias)
        row = None if alias is None else self._tables.collections.get(alias.collection_id)
        if row is None or not row.available:
            raise AliasNotFound(database=database.name, alias=request.alias)
        return DescribeAliasResponse(
            status=success(), db_name=request.db_name, alias=request.alias, collection=row.name
        )

    def list_aliases(self, request: ListAliasesRequest, _call: Call) -> ListAliasesResponse:
        """The aliases of a collection, given by its own name, or of a whole database; sorted."""
        database = self._database(request.db_name)
        if request.collection_name:
            row = self._tables.collections.find(database.id, request.collection_name)
            if row is None:
                raise CollectionNotFound(collection=request.collection_name)
            names = self._tables.aliases.of_collection(row.collection_id)
        else:
            names = [alias.name for alias in self._tables.aliases.in_db(database.id) if self._is_live(alias)]
        return ListAliasesResponse(status=success(), db_name=request.db_name, aliases=names)

    def _is_live(self, alias: Alias) -> bool:
        row = self._tables.collections.get(alias.collection_id)
        return row is not None and row.available

    def _database(self, db_name: str) -> Database:
        database = self._tables.databases.by_name(db_name)
        if database is None:
            raise no_database(db_name or DEFAULT_DB_NAME)
        return database
