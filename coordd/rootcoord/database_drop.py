"""DropDatabase beside collections that are being created in it: it waits for them, and then decides.

In Milvus one change is made after the other. Here a creation takes several steps; a database that went away
between two of them would leave it with nothing but an odd refusal. So a drop takes its turn after whoever
creates a collection in the database that is written already: under the keys of these collections, like
any other change of them. A creation whose first write comes after the drop finds no database, as if it had
been called later. A collection that is being undone, of this term or an earlier one, holds no key and is not
waited for, whoever may be away that has to hear of it; it keeps no database.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.etcd_meta_pb2 import CollectionState
from coordd.rootcoord.databases import Stamp, plan_drop
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.operations import Operation, Operations, Step, collection_key


@dataclass(slots=True)
class DatabaseDrop:
    """Of the database `name`. `deadline`: seconds on CLOCK_BOOTTIME."""

    tables: RootCoordTables
    layout: MetaLayout
    ddl: Ddl
    operations: Operations
    name: str
    deadline: float
    _waited_for: frozenset[str] = field(default=frozenset(), init=False)
    _undecided: bool = field(default=False, init=False)
    _revision: int = field(default=0, init=False)

    async def carry_out(self) -> int:
        """Returns the revision, 0 if there is no such database.

        Raises what `Operations.carry_out` and `Ddl.carry_out` do; a MilvusError: it is not empty, or refused.
        """
        await self._try()
        while self._undecided:
            self._waited_for = self._being_created()
            await self._try()
        return self._revision

    async def _try(self) -> None:
        operation = Operation([Step("write", self._write, may_refuse=True)])
        name = f"drop database {self.name}"
        await self.operations.carry_out(name, self._waited_for, lambda: operation, deadline=self.deadline)

    async def _write(self) -> None:
        self._revision = await self.ddl.carry_out(self._decide, deadline=self.deadline)

    def _decide(self, stamp: Stamp) -> Sequence[Write]:
        """Nothing if somebody creates a collection who was not waited for; a refusal holds all the same."""
        writes = plan_drop(self.tables, self.layout, self.name, stamp)
        self._undecided = bool(writes) and not self._being_created() <= self._waited_for
        return () if self._undecided else writes

    def _being_created(self) -> frozenset[str]:
        """Keys of the collections."""
        database = self.tables.databases.by_name(self.name)
        if database is None:
            return frozenset()
        return frozenset(
            collection_key(self.name, row.name)
            for row in self.tables.collections.in_db(database.id, available_only=False)
            if row.state == CollectionState.CollectionCreating
        )
