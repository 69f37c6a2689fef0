"""Collections and partitions made and dropped, with a crash before and after every effect on the outside.

A term of RootCoord runs on an etcd in memory and on other components that note what they are told. At one
effect (a transaction, a message, a call) it stops for good, as if it had been killed; the next term goes on
from what etcd holds. Afterwards a collection is there as a whole or not at all, and the repeated call
succeeds.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from coordd.clock import boottime
from coordd.config import LoadedConfig, load_config
from coordd.errors import CoorddError
from coordd.etcd import TxnResult
from coordd.etcd.errors import OutcomeUnknown
from coordd.ha.tasks import TaskScope
from coordd.meta.commit import FencedCommitter
from coordd.pb import milvus_pb2, schema_pb2
from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.etcd_meta_pb2 import DatabaseInfo, DatabaseState
from coordd.pb.schema_pb2 import DataType
from coordd.rootcoord.alteration_news import AlterationNews
from coordd.rootcoord.channels import ChannelPool, pool_names
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.known import KnownInTables
from coordd.rootcoord.life import Life, Means
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.proxies.manager import SessionsNotKnown
from coordd.rootcoord.topics import MadeBeforehand, TopicsMissing
from coordd.rpc.peer import PeerUnavailable
from coordd.rpc.status import CollectionNumLimitExceeded, MilvusError
from tests.support.etcd import eventually
from tests.unit.rootcoord.memory_etcd import Fault, MemoryEtcd
from tests.unit.rootcoord.recorded import LAYOUT, RECORDING, World, no_config, world
from tests.unit.rootcoord.term import begin_term
from tests.unit.rootcoord.test_topics import Queue

NAME = "books"


@dataclass
class Effects:
    """Everything that leaves the process, numbered. At number `crash_at` the process is dead: before the
    effect, or `after` it. `failing` are refused; of `absent` it is said whether they were reached. `held`
    ones wait until they are `let_go`. `ticks`: the readers of the channels hear what is sent. `heard`: the
    names that a proxy was told to forget, whatever it answered. `unsure`: how often it is not known who is
    to be told."""

    crash_at: int = -1
    after: bool = False
    done: list[str] = field(default_factory=list)
    crashed: asyncio.Event = field(default_factory=asyncio.Event)
    failing: set[str] = field(default_factory=set)
    absent: dict[str, bool] = field(default_factory=dict)
    ticks: bool = True
    held: set[str] = field(default_factory=set)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    heard: list[str] = field(default_factory=list)
    unsure: int = 0

    async def happen(
        self, name: str, effect: Callable[[], Any] = lambda: None, *, refusable: bool = True
    ) -> Any:
        number = len(self.done)
        self.done.append(name)
        if self.crashed.is_set() or (number == self.crash_at and not self.after):
            await self._die()
        if name in self.held:
            await self.let_go.wait()
        if name in self.failing and refusable:
            raise MilvusError(f"{name} refused")
        if name in self.absent:
            error = PeerUnavailable("peer", "nobody there", hint="wait")
            error.asked = self.absent[name]
            raise error
        result = effect()
        if number == self.crash_at:
            await self._die()
        await asyncio.sleep(0)
        return result

    async def _die(self) -> None:
        self.crashed.set()
        await asyncio.Event().wait()


@dataclass
class Outside:
    """The other components and the queue: DataCoord, QueryCoord, the proxies, the channels."""

    effects: Effects
    oracle: Oracle
    owes: bool = False
    news: list[Any] = field(default_factory=list)

    @property
    def data_coord(self) -> "Outside":
        return self

    @property
    def query_coord(self) -> "Outside":
        return self

    @property
    def proxies(self) -> "Outside":
        return self

    async def watch_channels(self, _request: Any, *, deadline: float) -> None:
        await self.effects.happen("watch channels")

    async def drop_indexes(self, _collection: int, *, deadline: float) -> None:
        await self.effects.happen("drop indexes")

    async def gc_confirm(self, _collection: int, _partition: int = -1, *, deadline: float) -> bool:
        await self.effects.happen("confirm")
        return True

    async def broadcast_altered_collection(self, _request: Any, *, deadline: float) -> None:
        await self.effects.happen("broadcast")

    async def release_collection(self, _collection: int, *, deadline: float) -> None:
        await self.effects.happen("release collection")

    async def release_partitions(self, _collection: int, _partitions: Any, *, deadline: float) -> None:
        await self.effects.happen("release partitions")

    async def sync_new_created_partition(self, _collection: int, _partition: int, *, deadline: float) -> None:
        await self.effects.happen("sync partition")

    async def invalidate_collection_meta_cache(
        self, request: Any, *, committed_at: int = 0, told: frozenset[Any] = frozenset()
    ) -> frozenset[Any]:
        """One that has refused is barred, and nobody waits for it any more."""
        assert 0 < request.base.timestamp <= self.oracle.newest_timestamp
        self.news.append(request)
        if "the proxy" not in told:
            self.effects.heard.append(request.collection_name)
            if self.effects.unsure:
                self.effects.unsure -= 1
                raise SessionsNotKnown("not yet")
            try:
                await self.effects.happen("forget", refusable=not self.owes)
            except MilvusError:
                self.owes = True
                raise
        return frozenset({"the proxy"})

    async def send(
        self, channels: Collection[str], build: Callable[[int], bytes], *, deadline: float, stamp: int = 0
    ) -> tuple[int, dict[str, bytes]]:
        timestamp = stamp or await self.oracle.wait_timestamps(1, deadline)
        kind = MsgType.Name(_header(build(timestamp)).msg_type)
        await self.effects.happen(f"send {kind}")
        return timestamp, dict.fromkeys(channels, b"position")

    def heard(self, _channels: Any, _timestamp: int) -> bool:
        return self.effects.ticks


def _header(payload: bytes) -> MsgBase:
    """Field 1 of every message."""
    return milvus_pb2.HasCollectionRequest.FromString(payload).base


class CrashingEtcd:
    """The etcd of one term: its transactions are effects."""

    def __init__(self, etcd: MemoryEtcd, effects: Effects) -> None:
        self._etcd = etcd
        self._effects = effects

    async def txn(self, *arguments: Any, **options: Any) -> TxnResult:
        loop = asyncio.get_running_loop()
        result: list[asyncio.Task[TxnResult]] = []
        done = await self._effects.happen(
            "txn", lambda: result.append(loop.create_task(self._etcd.txn(*arguments, **options)))
        )
        assert done is None
        return await result[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)


@dataclass
class Running:
    place: World
    life: Life
    effects: Effects
    operations: Operations
    means: Means
    first_id: int

    @property
    def pool(self) -> ChannelPool:
        return self.means.pool

    async def quiet(self) -> None:
        """Until nothing happens any more.

        In several looks: a process that waits for a processor sees time pass in which nothing could happen.
        """
        seen, calm = -1, 0
        while calm < 15:
            await asyncio.sleep(0.01)
            calm = calm + 1 if seen == len(self.effects.done) else 0
            seen = len(self.effects.done)


def replica() -> LoadedConfig:
    """The settings of a cluster that replicates another one."""
    return load_config(env={"COMMON_TTMSGENABLED": "false"}, cwd=RECORDING.parent)


@asynccontextmanager
async def running(
    etcd: MemoryEtcd,
    effects: Effects,
    *,
    queue: bool = True,
    config: Callable[[], LoadedConfig] = no_config,
    topics: MadeBeforehand | None = None,
) -> AsyncIterator[Running]:
    """A new term on what this etcd holds, with tables of its own."""
    place = await world({})
    place.etcd.__dict__.update(etcd.__dict__)
    place.fold.load(await place.etcd.range("", "\x7f"))
    term = begin_term(place)
    client = CrashingEtcd(place.etcd, effects)
    committer = FencedCommitter(client, term.committer._fence, place.fold, lambda: None)
    oracle = await Oracle.start(place.client, LAYOUT, term.committer, KnownInTables(place.tables))
    outside: Any = Outside(effects, oracle)
    async with TaskScope() as scope:
        scope.create_task(oracle.keep_timestamps())
        scope.create_task(oracle.keep_ids())
        operations = Operations(lambda coroutine, name: scope.create_task(coroutine, name=name))
        pool = ChannelPool(
            pool_names("dml", 16, place.tables.collections.channel_uses), place.tables.collections
        )
        means = Means(
            tables=place.tables,
            layout=LAYOUT,
            config=config,
            ddl=Ddl(committer, oracle, place.tables.ddl_mark),
            oracle=oracle,
            pool=pool,
            peers=outside,
            looks=place.looks,
            operations=operations,
            broadcaster=outside if queue else None,
            server_id=4,
            segments_every_s=0.0,
            topics=topics,
        )
        place.ddl, place.oracle, place.operations, place.peers = means.ddl, oracle, operations, outside
        place.alteration_news = AlterationNews(place.tables, operations, outside)
        try:
            yield Running(place, Life(means), effects, operations, means, oracle.ids.next_id)
        finally:
            etcd.__dict__.update(place.etcd.__dict__)
            operations.close()
            oracle.close()


def soon() -> float:
    return boottime() + 20


def create(name: str = NAME, *, shards: int = 2) -> milvus_pb2.CreateCollectionRequest:
    fields = [
        schema_pb2.FieldSchema(name="pk", data_type=DataType.Int64, is_primary_key=True),
        schema_pb2.FieldSchema(
            name="vec", data_type=DataType.FloatVector, type_params=[{"key": "dim", "value": "8"}]
        ),
    ]
    schema = schema_pb2.CollectionSchema(name=name, fields=fields)
    return milvus_pb2.CreateCollectionRequest(
        base=MsgBase(msg_type=MsgType.CreateCollection),
        collection_name=name,
        schema=schema.SerializeToString(),
        shards_num=shards,
    )


def drop(name: str = NAME) -> milvus_pb2.DropCollectionRequest:
    return milvus_pb2.DropCollectionRequest(
        base=MsgBase(msg_type=MsgType.DropCollection), collection_name=name
    )


def create_partition(partition: str) -> milvus_pb2.CreatePartitionRequest:
    return milvus_pb2.CreatePartitionRequest(
        base=MsgBase(msg_type=MsgType.CreatePartition), collection_name=NAME, partition_name=partition
    )


def drop_partition(partition: str) -> milvus_pb2.DropPartitionRequest:
    return milvus_pb2.DropPartitionRequest(
        base=MsgBase(msg_type=MsgType.DropPartition), collection_name=NAME, partition_name=partition
    )


Ask = Callable[[Life], Any]
ASK: dict[str, Ask] = {
    "create collection": lambda life: life.create_collection(create(), soon()),
    "drop collection": lambda life: life.drop_collection(drop(), soon()),
    "create partition": lambda life: life.create_partition(create_partition("p"), soon()),
    "drop partition": lambda life: life.drop_partition(drop_partition("p"), soon()),
}


def seen(place: World) -> dict[str, list[str]]:
    """What clients see: collections and their partitions."""
    out = {}
    for row in place.tables.collections:
        if row.available:
            view = place.tables.collections.whole(row.collection_id)
            assert view is not None
            assert [field.fieldID for field in view.fields] == [100, 101, 0, 1]
            out[row.name] = sorted(partition.name for partition in view.available_partitions)
    return out


def leftovers(place: World) -> int:
    """Collections and partitions that nobody sees."""
    return sum(1 for _ in place.tables.collections.unsettled())


def with_a_database() -> MemoryEtcd:
    """An etcd with nothing but the default database."""
    etcd = MemoryEtcd()
    info = DatabaseInfo(name="default", id=1, state=DatabaseState.DatabaseCreated)
    etcd.put_now(LAYOUT.database(1), info.SerializeToString())
    return etcd


async def prepared(what: str) -> MemoryEtcd:
    """An etcd in the state in which the change makes sense."""
    etcd = with_a_database()
    async with running(etcd, Effects()) as term:
        if what != "create collection":
            await term.life.create_collection(create(), soon())
        if what == "drop partition":
            await term.life.create_partition(create_partition("p"), soon())
        await term.quiet()
    return etcd


DONE = {
    "create collection": {NAME: ["_default"]},
    "drop collection": {},
    "create partition": {NAME: ["_default", "p"]},
    "drop partition": {NAME: ["_default"]},
}
UNDONE = {
    "create collection": {},
    "drop collection": {NAME: ["_default"]},
    "create partition": {NAME: ["_default"]},
    "drop partition": {NAME: ["_default", "p"]},
}
ORDER = {
    "create collection": [
        "send CreateCollection", "txn", "forget", "watch channels", "txn",
    ],
    "drop collection": [
        *("txn", "forget", "release collection", "drop indexes"),
        *("send DropCollection", "confirm", "txn"),
    ],
    "create partition": ["txn", "sync partition", "txn", "forget"],
    "drop partition": ["txn", "forget", "send DropPartition", "confirm", "txn"],
}  # fmt: skip


@pytest.mark.parametrize("what", list(ASK))
async def test_steps_in_their_order(what: str) -> None:
    etcd = await prepared(what)
    effects = Effects()
    async with running(etcd, effects) as term:
        await ASK[what](term.life)
        assert seen(term.place) == DONE[what]
        await term.quiet()
        assert effects.done == ORDER[what]
        assert leftovers(term.place) == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("what", "number"), [(what, n) for what in ASK for n in range(len(ORDER[what]))])
async def test_a_crash_at_any_effect_leaves_all_or_nothing(what: str, number: int, after: bool) -> None:
    etcd = await prepared(what)
    effects = Effects(crash_at=number, after=after)
    async with running(etcd, effects) as term:
        asked = asyncio.ensure_future(ASK[what](term.life))
        await eventually(effects.crashed.is_set)
        answered = asked.done() and asked.exception() is None
        asked.cancel()
    async with running(etcd, Effects()) as term:
        await term.life.go_on(term.first_id)
        await term.quiet()
        now = seen(term.place)
        assert now in (DONE[what], UNDONE[what])
        assert now == DONE[what] or not answered, "an acknowledged change is lost"
        assert leftovers(term.place) == 0
        await ASK[what](term.life)
        await term.quiet()
        assert seen(term.place) == DONE[what]
        assert leftovers(term.place) == 0
        used = 0 if what == "drop collection" else 2
        assert len(term.pool.in_use()) == used


@pytest.mark.parametrize("step", ["watch channels", "forget", "send CreateCollection"])
async def test_a_refused_step_of_a_creation_is_told_and_leaves_nothing(step: str) -> None:
    etcd = await prepared("create collection")
    effects = Effects(failing={step})
    async with running(etcd, effects) as term:
        with pytest.raises(MilvusError, match=f"{step} refused"):
            await ASK["create collection"](term.life)
        await term.quiet()
        assert seen(term.place) == {}
        assert leftovers(term.place) == 0
        assert term.pool.in_use() == []
        assert ("send DropCollection" in effects.done) == (step != "send CreateCollection")
        effects.failing.clear()
        await ASK["create collection"](term.life)
        assert seen(term.place) == DONE["create collection"]


async def test_a_refused_partition_is_taken_back() -> None:
    etcd = await prepared("create partition")
    effects = Effects(failing={"sync partition"})
    async with running(etcd, effects) as term:
        with pytest.raises(MilvusError, match="sync partition refused"):
            await ASK["create partition"](term.life)
        await term.quiet()
        assert seen(term.place) == UNDONE["create partition"]
        assert leftovers(term.place) == 0


@pytest.mark.parametrize("what", list(ASK))
async def test_without_a_queue_nobody_else_is_asked(what: str) -> None:
    etcd = await prepared(what)
    effects = Effects()
    async with running(etcd, effects, queue=False) as term:
        await ASK[what](term.life)
        await term.quiet()
        assert seen(term.place) == DONE[what]
        assert leftovers(term.place) == 0
        assert set(effects.done) == {"txn", "forget"}


async def test_repeated_and_competing_calls() -> None:
    etcd = await prepared("create collection")
    effects = Effects()
    async with running(etcd, effects) as term:
        await asyncio.gather(*(term.life.create_collection(create(), soon()) for _ in range(5)))
        assert effects.done.count("send CreateCollection") == 1
        await asyncio.gather(*(term.life.drop_collection(drop(), soon()) for _ in range(5)))
        await term.life.create_collection(create(), soon())
        await term.quiet()
        assert seen(term.place) == DONE["create collection"]
        assert effects.done.count("send DropCollection") == 1


async def test_pitfall_10_a_repeated_create_is_seen_before_anything_is_taken() -> None:
    def taken(term: Running) -> tuple[list[str], int, dict[str, int]]:
        users = {name: term.pool.users(name) for name in term.pool.names}
        return list(term.effects.done), term.means.oracle.ids.next_id, users

    etcd = await prepared("create collection")
    async with running(etcd, Effects()) as term:
        await term.life.create_collection(create(), soon())
        await term.quiet()
        before = taken(term)
        await term.life.create_collection(create(), soon())
        with pytest.raises(MilvusError, match="different parameters"):
            await term.life.create_collection(create(shards=1), soon())
        await term.quiet()
        assert taken(term) == before


async def test_the_limit_of_shards_is_the_number_that_is_configured() -> None:
    """The pool has more where there were more, and those of topics made beforehand: 16 here."""
    etcd = await prepared("create collection")
    for configured, text in (
        ("2", r"shard num \(17\) exceeds max configuration \(2\)"),
        ("20", "no enough channels, want: 17, got: 0"),
    ):
        env = {"ROOT_COORD_DML_CHANNEL_NUM": configured, "PROXY_MAX_SHARD_NUM": "20"}
        config = load_config(env=env, cwd=RECORDING.parent)
        async with running(etcd, Effects(), config=lambda: config) as term:  # noqa: B023
            with pytest.raises(MilvusError, match=text):
                await term.life.create_collection(create(shards=17), soon())


async def test_no_collection_is_made_on_a_topic_that_is_not_there() -> None:
    etcd = await prepared("create collection")
    queue = Queue("dml_0")
    async with running(etcd, Effects(), topics=MadeBeforehand(queue, ("dml_0", "dml_1"))) as term:
        with pytest.raises(TopicsMissing, match="dml_1"):
            await term.life.create_collection(create(shards=2), soon())
        await term.quiet()
        assert "send CreateCollection" not in term.effects.done
        assert seen(term.place) == {}
        assert leftovers(term.place) == 0
        assert term.pool.in_use() == []
        queue.there |= set(term.pool.names)
        await term.life.create_collection(create(shards=2), soon())
        assert seen(term.place) == DONE["create collection"]


@pytest.mark.parametrize("limit", ["MAXCOLLECTIONNUM", "MAXCOLLECTIONNUMPERDB"])
async def test_of_many_that_come_at_once_no_more_are_made_than_there_may_be(limit: str) -> None:
    """All pass the first look. Changes that wait at the same time share a transaction, but not these."""
    config = load_config(env={f"QUOTAANDLIMITS_LIMITS_{limit}": "3"}, cwd=RECORDING.parent)
    etcd = await prepared("create collection")
    effects = Effects(held={"watch channels"})
    async with running(etcd, effects, config=lambda: config) as term:
        asked = [
            asyncio.ensure_future(term.life.create_collection(create(f"c{n}"), soon())) for n in range(8)
        ]
        await eventually(lambda: effects.done.count("watch channels") == 8)
        effects.let_go.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, CollectionNumLimitExceeded)]
        assert (answers.count(None), len(refused)) == (3, 5)
        await term.quiet()
        assert len(seen(term.place)) == 3
        assert leftovers(term.place) == 0


@pytest.mark.parametrize("what", ["drop collection", "drop partition"])
async def test_a_drop_that_a_proxy_refuses_to_hear_of_is_finished_all_the_same(what: str) -> None:
    etcd = await prepared(what)
    effects = Effects(failing={"forget"})
    async with running(etcd, effects) as term:
        with pytest.raises(MilvusError, match="forget refused"):
            await ASK[what](term.life)
        effects.failing.clear()
        await eventually(lambda: leftovers(term.place) == 0, 10)
        assert seen(term.place) == DONE[what]


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("what", list(ASK))
async def test_an_unknown_outcome_leaves_nothing_half_made(what: str, *, applied: bool) -> None:
    etcd = await prepared(what)
    async with running(etcd, Effects()) as term:
        lost = OutcomeUnknown("not answered")
        fault = Fault(after=lost) if applied else Fault(before=lost)
        term.place.etcd.faults.extend([fault] * 3)
        with suppress(CoorddError):
            await ASK[what](term.life)
        await eventually(lambda: not term.place.etcd.faults and leftovers(term.place) == 0, 15)
        await ASK[what](term.life)
        await eventually(lambda: leftovers(term.place) == 0, 15)
        assert seen(term.place) == DONE[what]


async def test_a_new_term_does_not_undo_what_it_makes_itself() -> None:
    etcd = await prepared("create collection")
    async with running(etcd, Effects(crash_at=3)) as term:  # stands still while DataCoord is asked
        asked = asyncio.ensure_future(ASK["create collection"](term.life))
        await eventually(term.effects.crashed.is_set)
        assert leftovers(term.place) == 1
        term.effects.crashed.clear()
        await term.life.go_on(term.first_id)
        await term.quiet()
        assert leftovers(term.place) == 1, "it is being made"
        asked.cancel()


@pytest.mark.parametrize("reached", [False, True])
async def test_who_was_never_asked_need_not_take_back(reached: bool) -> None:
    """Without a DataCoord, or a QueryCoord, there is none to have made anything of it."""
    for what, step, undo in (
        ("create collection", "watch channels", "send DropCollection"),
        ("create partition", "sync partition", "release partitions"),
    ):
        etcd = await prepared(what)
        effects = Effects(absent={step: reached})
        async with running(etcd, effects) as term:
            with pytest.raises(PeerUnavailable):
                await ASK[what](term.life)
            await term.quiet()
            assert (undo in effects.done) == reached
            assert seen(term.place) == UNDONE[what]
            assert leftovers(term.place) == 0


@pytest.mark.parametrize("what", ["create collection", "create partition"])
async def test_what_turns_out_to_be_made_is_not_taken_back(what: str) -> None:
    """The last write is applied, and nobody hears so until the caller's time is up."""
    etcd = await prepared(what)
    async with running(etcd, Effects()) as term:
        lost = Fault(after=OutcomeUnknown("not answered"))
        term.place.etcd.faults.extend([Fault(), *[lost] * 100])
        life = term.life
        with suppress(CoorddError):
            if what == "create collection":
                await life.create_collection(create(), boottime() + 1.0)
            else:
                await life.create_partition(create_partition("p"), boottime() + 1.0)
        term.place.etcd.faults.clear()
        assert seen(term.place) == UNDONE[what], "not known yet"
        term.place.fold.load(await term.place.etcd.range("", "\x7f"))  # what the watch does
        await term.quiet()
        await eventually(lambda: leftovers(term.place) == 0, 15)
        assert seen(term.place) == DONE[what]
        assert len(term.pool.in_use()) == 2
        assert "release partitions" not in term.effects.done
        assert "send DropCollection" not in term.effects.done


async def test_a_partition_that_a_proxy_refuses_to_hear_of_is_there() -> None:
    """They are told last, so nothing is taken back; the repeated call tells them anew."""
    etcd = await prepared("create partition")
    effects = Effects(failing={"forget"})
    async with running(etcd, effects) as term:
        with pytest.raises(MilvusError, match="forget refused"):
            await ASK["create partition"](term.life)
        await term.quiet()
        assert seen(term.place) == DONE["create partition"]
        effects.failing.clear()
        effects.done.clear()
        await ASK["create partition"](term.life)
        assert effects.done == ["forget"]


async def test_a_repeated_creation_finds_what_an_unanswered_one_has_made() -> None:
    """Though it begins before that is known, and would write a second one."""
    etcd = await prepared("create collection")
    async with running(etcd, Effects()) as term:
        lost = Fault(after=OutcomeUnknown("not answered"))
        term.place.etcd.faults.extend([Fault(), *[lost] * 100])
        with suppress(CoorddError):
            await term.life.create_collection(create(), boottime() + 1.0)
        term.place.etcd.faults.clear()
        assert seen(term.place) == {}, "not known yet"
        again = asyncio.ensure_future(term.life.create_collection(create(), soon()))
        await eventually(lambda: term.effects.done.count("send CreateCollection") == 2, 10)
        await asyncio.sleep(0.1)
        term.place.fold.load(await term.place.etcd.range("", "\x7f"))  # what the watch does
        await again
        await eventually(lambda: leftovers(term.place) == 0, 15)
        assert seen(term.place) == DONE["create collection"]
        assert term.effects.done.count("watch channels") == 1
        await eventually(lambda: len(term.pool.in_use()) == 2, 10)
