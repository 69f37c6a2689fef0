"""Aliases, RenameCollection, AlterCollection and AlterCollectionField: changes of one transaction.

The proxies forget what they know of the names in it, beside the write or after it (`coordd.rootcoord.word`);
then DataCoord is told what was altered of a collection. That goes on if the caller leaves. It is done again,
or for the first time, when a call is repeated whose change is there already. In a call that is refused, the
proxies forget the request's names too: an earlier copy of it may have been carried out by a term that ended
before it told anybody. If it is not known what became of a change, all are told in the background, when that
is known (`coordd.rootcoord.settling`).

Source of truth: Milvus 2.3.5 internal/rootcoord/{create,drop,alter}_alias_task.go, rename_collection_task.go,
alter_collection_task.go, expire_cache.go, branch 2.5 for fields. There the proxies forget before the change
is made; one that asks in between knows the old state again.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.log import get_logger
from coordd.meta.commit import TIMEOUT_S, FenceLost
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import DEFAULT_DB_NAME, RootCoordTables
from coordd.pb.common_pb2 import Status
from coordd.pb.milvus_pb2 import (
    AlterAliasRequest,
    AlterCollectionFieldRequest,
    AlterCollectionRequest,
    CreateAliasRequest,
    DropAliasRequest,
    RenameCollectionRequest,
)
from coordd.rootcoord.alteration_news import AlterationNews
from coordd.rootcoord.batch import Decide
from coordd.rootcoord.collections import (
    Change,
    plan_alter,
    plan_alter_alias,
    plan_alter_field,
    plan_create_alias,
    plan_drop_alias,
    plan_rename,
)
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.ddl import Asked, Ddl
from coordd.rootcoord.errors import elsewhere
from coordd.rootcoord.handlers.changing import PEERS_PATIENCE_S, asked_by, deadline_of
from coordd.rootcoord.life.means import STEP_MARGIN_S
from coordd.rootcoord.looks import Looks
from coordd.rootcoord.operations import Operation, Operations, collection_key
from coordd.rootcoord.oracle import NotHandedOutError, Oracle, TermOverError
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.settling import settle_and_forget
from coordd.rootcoord.steps import Lane, Step
from coordd.rootcoord.word import Telling, Word
from coordd.rpc.call import Call
from coordd.rpc.gate import ServeGate
from coordd.rpc.status import MilvusError, ServiceUnavailable, success

log = get_logger("coordd.rootcoord.alterations")

Plan: TypeAlias = Callable[[RootCoordTables, MetaLayout, Any, int], Change]

OF_DATA_COORD: Sequence[Plan] = (plan_alter, plan_alter_field)
"""Changes of which DataCoord is told before they are answered."""


@dataclass(slots=True)
class _Alteration:
    """One request on its way. `made`: what was planned last; before, the request's names."""

    name: str
    plan: Plan
    request: Any
    made: Change
    telling: Telling
    asked: Asked | None = None


class AlterationHandlers:
    """`_ddl`, `_operations`, `_alteration_news`, `_peers` and `_oracle` give what belongs to the present
    term. `_looks`: who asks for what.
    """

    _tables: RootCoordTables
    _layout: MetaLayout
    _ddl: Callable[[], Ddl]
    _operations: Callable[[], Operations]
    _alteration_news: Callable[[], AlterationNews]
    _peers: Callable[[], Peers]
    _oracle: Callable[[], Oracle]
    _looks: Looks
    _gate: ServeGate

    async def create_alias(self, request: CreateAliasRequest, call: Call) -> Status:
        """Make an alias. Idempotent."""
        return await self._alter(plan_create_alias, request, (request.alias, request.collection_name), call)

    async def drop_alias(self, request: DropAliasRequest, call: Call) -> Status:
        """Delete an alias. Idempotent."""
        return await self._alter(plan_drop_alias, request, (request.alias,), call)

    async def alter_alias(self, request: AlterAliasRequest, call: Call) -> Status:
        """Make an alias lead elsewhere. Idempotent."""
        return await self._alter(plan_alter_alias, request, (request.alias,), call)

    async def rename_collection(self, request: RenameCollectionRequest, call: Call) -> Status:
        """Give a collection another name, or move it to another database. A repetition finds it done."""

        def renamed() -> bool:
            old, new = request.db_name, request.newDBName or request.db_name
            return self._is_there(new, request.newName) and not self._is_there(old, request.oldName)

        asked = asked_by(call, renamed, base=request.base)
        return await self._alter(plan_rename, request, (request.oldName,), call, asked)

    def _is_there(self, db_name: str, name: str) -> bool:
        database = self._tables.databases.by_name(db_name)
        return database is not None and self._tables.collections.find(database.id, name) is not None

    async def alter_collection(self, request: AlterCollectionRequest, call: Call) -> Status:
        """Set or delete properties. Idempotent. If DataCoord is not told in time, the call fails; it is told
        later.
        """
        return await self._alter(plan_alter, request, (request.collection_name,), call)

    async def alter_collection_field(self, request: AlterCollectionFieldRequest, call: Call) -> Status:
        """Set or delete parameters of a field (2.5). Otherwise as `alter_collection`."""
        return await self._alter(plan_alter_field, request, (request.collection_name,), call)

    async def _alter(
        self, plan: Plan, request: Any, names: tuple[str, ...], call: Call, asked: Asked | None = None
    ) -> Status:
        deadline = deadline_of(call, PEERS_PATIENCE_S if plan in OF_DATA_COORD else TIMEOUT_S)
        named = Change((), request.db_name or DEFAULT_DB_NAME, names)
        keys = [collection_key(named.db_name, name) for name in names]
        try:
            telling = Telling(self._word, self._looks, self._operations().start)
            alteration = _Alteration(call.method.rpartition("/")[2], plan, request, named, telling, asked)
            operation = Operation(self._steps(alteration, deadline - STEP_MARGIN_S))
            await self._operations().carry_out(
                alteration.name, keys, lambda: operation, deadline=deadline, function=alteration.name
            )
        except MilvusError:
            await self._word(named).spread(0)
            raise
        except TermOverError as error:
            raise elsewhere(error) from error
        except NotHandedOutError as error:
            raise ServiceUnavailable(f"no timestamp or ID for the change: {error}") from error
        return success()

    def _steps(self, alteration: _Alteration, deadline: float) -> Sequence[Step]:
        steps = [
            Step("write", lambda: self._write(alteration), may_refuse=True),
            Step("proxies forget", lambda: alteration.telling.tell(alteration.made)),
        ]
        if alteration.plan in OF_DATA_COORD:
            steps.append(Step("tell DataCoord", lambda: self._announce(alteration, deadline)))
        return steps

    async def _write(self, alteration: _Alteration) -> None:
        named = alteration.made

        def plan(stamp: Stamp) -> Change:
            alteration.made = alteration.plan(self._tables, self._layout, alteration.request, stamp.timestamp)
            return alteration.made

        def commit(decide: Decide) -> Awaitable[int]:
            return self._ddl().carry_out(decide, deadline=boottime() + TIMEOUT_S, asked=alteration.asked)

        try:
            revision = await alteration.telling.write(plan, commit)
        except (FenceLost, MilvusError):
            raise
        except CoorddError:
            self._tell_when_settled(alteration, named)
            raise
        if revision:
            log.info(
                "metadata changed",
                change=alteration.name,
                database=alteration.made.db_name,
                names=alteration.made.names,
                revision=revision,
            )

    def _tell_when_settled(self, alteration: _Alteration, named: Change) -> None:
        """`named`: the request's names."""
        steps = settle_and_forget(self._ddl(), lambda: alteration.telling.tell(named))
        if alteration.plan in OF_DATA_COORD:
            news = self._alteration_news()

            async def announce() -> None:
                news.tell_in_background([alteration.made.collection_id])

            steps.append(Step("tell DataCoord", announce, lane=Lane.LOOK))
        self._operations().in_background(f"{alteration.name}, outcome unknown", steps, urgent=True)

    async def _announce(self, alteration: _Alteration, deadline: float) -> None:
        """Tell DataCoord; if that fails, again and again in the background, with what holds by then.

        It fails at `deadline`, but not before `TIMEOUT_S` have passed.
        """
        collection_id = alteration.made.collection_id
        news = self._alteration_news()
        try:
            await news.tell(collection_id, max(deadline, boottime() + TIMEOUT_S))
        except CoorddError:
            news.tell_in_background([collection_id])
            raise

    def _word(self, change: Change) -> Word:
        oracle, server_id = self._oracle(), self._gate.server_id
        proxies = self._peers().proxies
        return Word(proxies, change, server_id=server_id, timestamp=lambda: oracle.newest_timestamp)
