"""Databases: what is written and what is refused. Texts and values were recorded from Milvus 2.3.5."""

from typing import Any

import pytest

from coordd import clock
from coordd.etcd import Put
from coordd.etcd.errors import Unavailable
from coordd.meta.codecs import TOMBSTONE
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import ErrorCode, KeyValuePair, MsgBase, MsgType, Status
from coordd.pb.etcd_meta_pb2 import DatabaseInfo
from coordd.pb.root_coord_pb2 import (
    AlterDatabaseRequest,
    DescribeDatabaseRequest,
    ShowCollectionIDsRequest,
)
from coordd.rootcoord.databases import Stamp, plan_alter, plan_create, plan_drop
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import DatabaseInvalidName, MilvusError
from tests.unit.meta.samples import CREATING, DROPPING, LAYOUT, collection, database, loaded
from tests.unit.rootcoord.memory_etcd import LOST_REQUEST, Fault
from tests.unit.rootcoord.recorded import World, world
from tests.unit.rootcoord.term import begin_term, start_oracle
from tests.unit.rootcoord.test_handlers import ask

DEFAULT = database(1, "default")
STAMP = Stamp(timestamp=470716483765272578, id=470716483670900739)
NOW_NS = 1795640883508458371
# The value that a 2.3.5 process wrote for database `a` with that ID at that time.
VALUE = b"\x12\x01a\x18\x83\x80\x80\xf9\xdd\xc4\x94\xc4\x06 \x01(\x83\xe7\xc2\xed\xea\xbb\xd9\xf5\x18"
PLAIN = "by-dev/meta/root-coord/database/db-info/470716483670900739"
HISTORY = "by-dev/meta/snapshots/root-coord/database/db-info/470716483670900739_ts470716483765272578"
NO_NAME = "database name couldn't be empty: invalid database name[database=]"


def create(tables: Any, name: str, *, limit: int = 64) -> list[Any]:
    return list(plan_create(tables, LAYOUT, name, STAMP, limit=limit, now_ns=NOW_NS))


class TestCreate:
    def test_it_is_written_as_milvus_writes_it(self) -> None:
        tables, _ = loaded(DEFAULT)
        assert create(tables, "a") == [Put(PLAIN, VALUE), Put(HISTORY, VALUE)]

    @pytest.mark.parametrize("name", ["1bad", "a b/c", "ü", "x" * 300, "_ts1"])
    def test_names_are_left_to_the_proxy(self, name: str) -> None:
        tables, _ = loaded(DEFAULT)
        assert len(create(tables, name)) == 2

    @pytest.mark.parametrize("name", ["default", "music"])
    def test_a_name_that_is_taken_is_refused(self, name: str) -> None:
        tables, _ = loaded(DEFAULT, database(7, "music"))
        with pytest.raises(MilvusError, match=f"^database already exist: {name}$") as caught:
            create(tables, name)
        assert caught.value.code == 65535

    def test_the_empty_name_is_refused(self) -> None:
        tables, _ = loaded(DEFAULT)
        with pytest.raises(DatabaseInvalidName) as caught:
            create(tables, "")
        assert caught.value.to_status().reason == caught.value.to_status().detail == NO_NAME

    def test_one_more_than_the_limit_can_be_there(self) -> None:
        tables, _ = loaded(DEFAULT, database(7, "a"), database(8, "b"))
        assert create(tables, "c", limit=3)
        with pytest.raises(MilvusError, match=r"^exceeded the limit number of database\[limit=2\]$"):
            create(tables, "c", limit=2)

    def test_the_limit_goes_before_the_name(self) -> None:
        tables, _ = loaded(DEFAULT, database(7, "a"))
        with pytest.raises(MilvusError, match="exceeded the limit"):
            create(tables, "a", limit=1)


class TestDrop:
    def test_tombstones_go_to_the_key_and_its_history(self) -> None:
        tables, _ = loaded(DEFAULT, database(7, "a"))
        assert plan_drop(tables, LAYOUT, "a", STAMP) == (
            Put(LAYOUT.database(7), TOMBSTONE),
            Put(LAYOUT.snapshot(LAYOUT.database(7), STAMP.timestamp), TOMBSTONE),
        )

    def test_what_does_not_exist_needs_no_write(self) -> None:
        tables, _ = loaded(DEFAULT)
        assert plan_drop(tables, LAYOUT, "a", STAMP) == ()

    @pytest.mark.parametrize(("name", "text"), [("default", "can not drop default database"), ("", NO_NAME)])
    def test_the_default_one_stays(self, name: str, text: str) -> None:
        tables, _ = loaded(DEFAULT)
        with pytest.raises(MilvusError) as caught:
            plan_drop(tables, LAYOUT, name, STAMP)
        assert caught.value.message == text

    def test_an_available_collection_keeps_it(self) -> None:
        tables, _ = loaded(DEFAULT, database(7, "a"), collection(100, "c", db_id=7))
        with pytest.raises(MilvusError) as caught:
            plan_drop(tables, LAYOUT, "a", STAMP)
        assert caught.value.message == (
            "database:a not empty, must drop all collections before drop database"
        )

    @pytest.mark.parametrize("state", [CREATING, DROPPING])
    def test_a_collection_that_is_not_available_does_not(self, state: int) -> None:
        tables, _ = loaded(DEFAULT, database(7, "a"), collection(100, "c", db_id=7, state=state))
        assert len(plan_drop(tables, LAYOUT, "a", STAMP)) == 2


class TestAlter:
    def alter(self, tables: Any, name: str, *gone: str, **properties: str) -> list[Any]:
        pairs = [KeyValuePair(key=key, value=value) for key, value in properties.items()]
        request = AlterDatabaseRequest(db_name=name, properties=pairs, delete_keys=gone)
        return list(plan_alter(tables, LAYOUT, request, STAMP))

    def made(self, **properties: str) -> Any:
        pairs = [KeyValuePair(key=key, value=value) for key, value in properties.items()]
        info = DatabaseInfo(id=7, name="a", state=1, created_time=5, tenant_id="t", properties=pairs)  # type: ignore[arg-type]
        return loaded(DEFAULT, {LAYOUT.database(7): info.SerializeToString()})[0]

    def stored(self, writes: list[Any]) -> dict[str, str]:
        plain, history = writes
        assert (plain.key, history.key) == (
            LAYOUT.database(7),
            LAYOUT.snapshot(LAYOUT.database(7), STAMP.timestamp),
        )
        assert plain.value == history.value
        info = DatabaseInfo.FromString(plain.value)
        assert (info.id, info.name, info.state, info.created_time, info.tenant_id) == (7, "a", 1, 5, "t")
        return {pair.key: pair.value for pair in info.properties}

    def test_properties_are_merged(self) -> None:
        tables = self.made(x="1", y="2")
        assert self.stored(self.alter(tables, "a", y="3", z="4")) == {"x": "1", "y": "3", "z": "4"}
        assert self.stored(self.alter(tables, "a", "x", "no_such")) == {"y": "2"}

    def test_what_is_so_already_needs_no_write(self) -> None:
        tables = self.made(x="1")
        assert self.alter(tables, "a", x="1") == []
        assert self.alter(tables, "a", "y") == []

    def test_refusals(self) -> None:
        tables = self.made()
        neither = "alter database requires either properties or deletekeys to modify or delete keys"
        for call, text in (
            (lambda: self.alter(tables, "", x="1"), "alter database failed, database name does not exists"),
            (lambda: self.alter(tables, "a"), f"{neither}, both cannot be empty"),
            (
                lambda: self.alter(tables, "a", "x", y="1"),
                "alter database operation cannot modify properties and delete keys at the same time",
            ),
            (lambda: self.alter(tables, "no", x="1"), "database not found[database=no]"),
        ):
            with pytest.raises(MilvusError) as caught:
                call()
            assert caught.value.message == text

    def test_a_database_with_collections_cannot_begin_to_mirror(self) -> None:
        tables, _ = loaded(DEFAULT, database(7, "a"), collection(100, "c", db_id=7))
        with pytest.raises(MilvusError, match=r"^can't set replicate id on database with collections$"):
            self.alter(tables, "a", **{"replicate.id": "x"})

    def test_the_end_of_mirroring_takes_the_id_away(self) -> None:
        stored = self.stored(self.alter(self.made(**{"replicate.id": "x"}), "a", **{"replicate.endTS": "9"}))
        assert stored == {"replicate.id": "", "replicate.endTS": "9"}


async def change(place: World, method: str, name: str, *, deadline: float | None = None) -> Status:
    kinds: dict[str, Any] = {
        "CreateDatabase": milvus_pb2.CreateDatabaseRequest,
        "DropDatabase": milvus_pb2.DropDatabaseRequest,
    }
    answer = await ask(place, method, kinds[method](db_name=name), deadline=deadline)
    assert isinstance(answer, Status)
    return answer


async def names(place: World) -> list[str]:
    answer = await ask(place, "ListDatabases", milvus_pb2.ListDatabasesRequest())
    return list(answer.db_names)


async def test_a_database_comes_and_goes() -> None:
    place = await world()
    async with start_oracle(place):
        before = await names(place)
        assert await change(place, "CreateDatabase", "music") == Status()
        assert await names(place) == [*before, "music"]
        again = await change(place, "CreateDatabase", "music")
        assert again == Status(
            error_code=ErrorCode.UnexpectedError,
            code=65535,
            reason="database already exist: music",
            detail="database already exist: music",
        )
        assert await change(place, "DropDatabase", "music") == Status()
        assert await change(place, "DropDatabase", "music") == Status()
        assert await names(place) == before
        assert await change(place, "CreateDatabase", "music") == Status()
        assert await names(place) == [*before, "music"]


async def test_properties_are_kept_and_shown() -> None:
    place = await world()
    async with start_oracle(place):
        pairs = [KeyValuePair(key="x", value="1")]
        create = milvus_pb2.CreateDatabaseRequest(db_name="music", properties=pairs)
        assert await ask(place, "CreateDatabase", create) == Status()
        alter = AlterDatabaseRequest(db_name="music", properties=[KeyValuePair(key="y", value="2")])
        assert await ask(place, "AlterDatabase", alter) == Status()
        shown = await ask(place, "DescribeDatabase", DescribeDatabaseRequest(db_name="music"))
        assert {pair.key: pair.value for pair in shown.properties} == {"x": "1", "y": "2"}
        [listed] = [one for one in place.tables.databases if one.name == "music"]
        assert (shown.db_name, shown.dbID, shown.created_timestamp) == (
            "music",
            listed.id,
            listed.created_time,
        )
        default = await ask(place, "DescribeDatabase", DescribeDatabaseRequest())
        assert (default.db_name, default.dbID) == ("default", 1)
        refused = await ask(place, "DescribeDatabase", DescribeDatabaseRequest(db_name="no"))
        assert (refused.status.code, refused.status.reason) == (800, "database not found[database=no]")


async def test_ids_of_collections_by_database() -> None:
    place = await world()
    answer = await ask(place, "ShowCollectionIDs", ShowCollectionIDsRequest())
    shown = {one.db_name: list(one.collectionIDs) for one in answer.db_collections}
    assert set(shown) == {"default", "analytics", "empty_db"}
    assert shown["empty_db"] == []
    for name, ids in shown.items():
        database_ = place.tables.databases.by_name(name)
        assert database_ is not None
        assert ids == [row.collection_id for row in place.tables.collections.in_db(database_.id)]
    one = await ask(place, "ShowCollectionIDs", ShowCollectionIDsRequest(db_names=["analytics"]))
    assert [list(each.collectionIDs) for each in one.db_collections] == [shown["analytics"]]
    dropping = ShowCollectionIDsRequest(allowUnavailable=True)
    more = await ask(place, "ShowCollectionIDs", dropping)
    assert sum(len(each.collectionIDs) for each in more.db_collections) > sum(map(len, shown.values()))
    refused = await ask(place, "ShowCollectionIDs", ShowCollectionIDsRequest(db_names=["no"]))
    assert refused.status.code == 800


async def test_a_database_of_the_recorded_cluster_is_not_empty() -> None:
    place = await world()
    async with start_oracle(place):
        refused = await change(place, "DropDatabase", "analytics")
        assert (
            refused.detail == "database:analytics not empty, must drop all collections before drop database"
        )
        assert (await change(place, "DropDatabase", "empty_db")) == Status()
        assert await names(place) == ["default", "analytics"]


async def test_the_message_type_plays_no_part() -> None:
    place = await world()
    async with start_oracle(place):
        base = MsgBase(msg_type=MsgType.DropCollection)
        request = milvus_pb2.CreateDatabaseRequest(base=base, db_name="music")
        assert await ask(place, "CreateDatabase", request) == Status()


async def test_without_a_timestamp_the_caller_is_asked_to_come_again() -> None:
    place = await world()
    now_ms = [clock.unix_ms()]
    async with start_oracle(place, now_ms=lambda: now_ms[0]):
        no_etcd(place)
        now_ms[0] += 60_000
        answer = await change(place, "CreateDatabase", "music", deadline=clock.boottime() + 0.4)
        assert (answer.code, answer.retriable) == (2, True)
        assert "no timestamp or ID" in answer.reason
        assert "music" not in await names(place)


async def test_while_etcd_is_away_the_caller_is_asked_to_come_again() -> None:
    place = await world()
    async with start_oracle(place):
        no_etcd(place)
        answer = await change(place, "CreateDatabase", "music", deadline=clock.boottime() + 0.4)
        assert (answer.code, answer.retriable) == (2, True)
        assert "connection refused" in answer.reason
        place.etcd.faults.clear()
        assert await change(place, "CreateDatabase", "music") == Status()


async def test_an_outcome_that_is_unknown_is_said_to_be() -> None:
    place = await world()
    async with start_oracle(place):
        place.etcd.faults.extend(LOST_REQUEST for _ in range(1000))
        with pytest.raises(RpcFailure, match="not known whether the write was done") as caught:
            await change(place, "CreateDatabase", "music", deadline=clock.boottime() + 0.4)
        assert caught.value.code is RpcCode.UNKNOWN


def no_etcd(place: World) -> None:
    """Until `faults` are cleared."""
    place.etcd.faults.extend(Fault(before=Unavailable("connection refused")) for _ in range(1000))


async def test_after_the_term_the_caller_is_sent_elsewhere() -> None:
    place = await world()
    term = begin_term(place)
    async with start_oracle(place, term):
        place.etcd.put_now(LAYOUT.session("rootcoord"), b"another")
        with pytest.raises(RpcFailure) as caught:
            await change(place, "CreateDatabase", "music")
        assert caught.value.code is RpcCode.UNAVAILABLE
    assert term.lost == [True]
    with pytest.raises(RpcFailure) as caught:
        await change(place, "DropDatabase", "empty_db")
    assert caught.value.code is RpcCode.UNAVAILABLE
