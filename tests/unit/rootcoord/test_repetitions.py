"""Calls that are not idempotent, repeated because their caller was not answered: known, and not refused."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from coordd.clock import boottime
from coordd.etcd import MAX_TXN_OPS, Compare, EtcdClient, Put
from coordd.etcd.errors import OutcomeUnknown
from coordd.meta import commit as commit_module
from coordd.meta.commit import FencedCommitter
from coordd.meta.fold import Fold
from coordd.meta.tables import RootCoordTables
from coordd.meta.tables.ddl_mark import CALLS_KEPT, CALLS_KEPT_S, DdlMark
from coordd.meta.transaction import TransactionTooLarge
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import MsgBase, MsgType, Status
from coordd.pb.internal_pb2 import CredentialInfo
from coordd.rootcoord.databases import plan_create
from coordd.rootcoord.ddl import Asked, Ddl
from coordd.rootcoord.known import KnownInTables
from coordd.rootcoord.oracle import Oracle
from coordd.rpc.call import Call
from coordd.rpc.status import MilvusError
from tests.unit.meta.fake_etcd import FakeEtcd, delay_request
from tests.unit.meta.samples import LAYOUT, put
from tests.unit.rootcoord.memory_etcd import LOST_REQUEST, Fault
from tests.unit.rootcoord.recorded import World, world
from tests.unit.rootcoord.term import begin_term, start_oracle
from tests.unit.rootcoord.test_ddl import ACTIVE, NOW_MS, SHORTLY_S, SOON_S, Scene, following, new_scene

ONE, OTHER = "0123456789ab", "ba9876543210"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "RETRY_MIN_S", 0.0005)
    monkeypatch.setattr(commit_module, "RETRY_MAX_S", 0.001)


@pytest.fixture
async def scene() -> Scene:
    return await new_scene()


async def next_term(etcd: FakeEtcd, *, now_ms: int = NOW_MS) -> Scene:
    """A successor that has loaded what etcd holds."""
    epoch = etcd.put(ACTIVE, b"another")
    tables = RootCoordTables(LAYOUT)
    fold = Fold(tables.tables)
    fold.apply(etcd.since(0))
    committer = FencedCommitter(etcd, Compare.mod_revision(ACTIVE, epoch), fold, lambda: None)
    oracle = await Oracle.start(
        cast("EtcdClient", etcd), LAYOUT, committer, KnownInTables(tables), now_ms=lambda: now_ms
    )
    return Scene(etcd, tables, fold, oracle, Ddl(committer, oracle, tables.ddl_mark))


def is_there(scene: Scene, name: str) -> Callable[[], bool]:
    return lambda: scene.tables.databases.by_name(name) is not None


async def create(
    scene: Scene, name: str, call: str = ONE, *, within_s: float = SOON_S, more: bool = False
) -> int:
    return await scene.ddl.carry_out(
        lambda stamp: plan_create(scene.tables, LAYOUT, name, stamp, limit=scene.limit, now_ns=7),
        deadline=boottime() + within_s,
        asked=Asked(call, is_there(scene, name), more),
    )


async def test_a_call_of_an_earlier_term_is_known_when_it_is_repeated(scene: Scene) -> None:
    await create(scene, "a")
    heir = await next_term(scene.etcd)
    for _ in range(2):
        assert await create(heir, "a") == 0
    with pytest.raises(MilvusError, match="already exist"):
        await create(heir, "a", OTHER)
    assert heir.in_etcd() == ["a"]


async def test_one_that_was_answered_in_this_term_is_refused_as_in_milvus(scene: Scene) -> None:
    await create(scene, "a")
    with pytest.raises(MilvusError, match="already exist"):
        await create(scene, "a")


async def test_one_whose_outcome_was_unknown_is_known_in_the_same_term(scene: Scene) -> None:
    scene.etcd.faults += [delay_request] * 1000
    with pytest.raises(OutcomeUnknown):
        await create(scene, "a", within_s=SHORTLY_S)
    scene.etcd.faults.clear()
    scene.etcd.deliver()
    async with following(scene):
        assert await create(scene, "a") == 0
    with pytest.raises(MilvusError, match="already exist"):
        await create(scene, "a", OTHER)


async def test_one_that_never_arrived_is_carried_out_when_it_is_repeated(scene: Scene) -> None:
    scene.etcd.faults += [delay_request] * 1000
    with pytest.raises(OutcomeUnknown):
        await create(scene, "a", within_s=SHORTLY_S)
    scene.etcd.faults.clear()
    assert await create(scene, "a") > 0
    scene.etcd.deliver()
    with pytest.raises(MilvusError, match="already exist"):
        await create(scene, "a")


async def test_what_has_been_undone_since_is_refused(scene: Scene) -> None:
    await create(scene, "a")
    heir = await next_term(scene.etcd)
    await heir.drop("a")
    heir.limit = 0
    with pytest.raises(MilvusError, match="exceeded the limit"):
        await create(heir, "a")


async def test_a_call_of_several_changes_is_known_until_the_last_of_them(scene: Scene) -> None:
    assert await create(scene, "a", more=True) > 0
    assert await create(scene, "a", more=True) == 0, "broken off, and begun again"
    with pytest.raises(TransactionTooLarge):
        await scene.ddl.carry_out(
            lambda _stamp: [Put(LAYOUT.database(1000 + number), b"") for number in range(MAX_TXN_OPS)],
            deadline=boottime() + SOON_S,
            asked=Asked(ONE, lambda: False),
        )
    assert await create(scene, "a", more=True) == 0, "so far nothing but the first has been made"
    assert await create(scene, "b") > 0
    for name in ("a", "b"):
        with pytest.raises(MilvusError, match="already exist"):
            await create(scene, name)
    assert scene.in_etcd() == ["a", "b"]


async def test_after_a_while_it_is_another_call(scene: Scene) -> None:
    await create(scene, "a")
    heir = await next_term(scene.etcd, now_ms=NOW_MS + 1000 * (CALLS_KEPT_S + 2))
    with pytest.raises(MilvusError, match="already exist"):
        await create(heir, "a")


class TestMark:
    """The value of the mark, written by one term and read by another."""

    def written(self, *calls: tuple[str, int]) -> DdlMark:
        mark = DdlMark(LAYOUT, "rootcoord")
        for number, (call, at_s) in enumerate(calls, 1):
            mark._apply(put(mark.key, mark.next_value(number, at_s, call), number))
        return mark

    def test_a_change_without_a_call_is_its_timestamp_alone(self) -> None:
        assert DdlMark(LAYOUT, "rootcoord").next_value(17, 1) == b"17"

    def test_calls_are_carried_along_the_newest_last(self) -> None:
        mark = self.written((ONE, 1), ("", 2), (OTHER, 3), (ONE, 4))
        assert list(mark.calls.items()) == [(OTHER, 3), (ONE, 4)]
        assert mark.next_value(9, 5) == f"9 {OTHER}:3 {ONE}:4".encode()

    def test_old_ones_and_too_many_are_left_out(self) -> None:
        mark = self.written((ONE, 1), (OTHER, 2), ("", 2 + CALLS_KEPT_S))
        assert list(mark.calls) == [OTHER]
        many = [(f"{number:012x}", 1) for number in range(CALLS_KEPT + 5)]
        assert list(self.written(*many).calls) == [call for call, _ in many[5:]]

    @pytest.mark.parametrize("value", [b"", b"x", b"17 x", b"17 0123:5", b"17 \xff\xfe:1", None])
    def test_what_it_does_not_understand_it_leaves_alone(self, value: bytes | None) -> None:
        mark = self.written((ONE, 1))
        mark._apply(put(mark.key, value, 9) if value is not None else put(mark.key, b"1", 9))
        assert mark.calls == {}


def restore(users: int) -> milvus_pb2.RestoreRBACMetaRequest:
    """Of users, a role that all of them have, and a group; without an ID."""
    role = milvus_pb2.RoleEntity(name="writer")
    group = milvus_pb2.PrivilegeGroupInfo(
        group_name="writers", privileges=[milvus_pb2.PrivilegeEntity(name="Insert")] * 2
    )
    meta = milvus_pb2.RBACMeta(
        users=[milvus_pb2.UserInfo(user=f"u{n}", password=f"$2a${n}", roles=[role]) for n in range(users)],
        roles=[role],
        privilege_groups=[group],
    )
    return milvus_pb2.RestoreRBACMetaRequest(RBAC_meta=meta)


NOT_IDEMPOTENT: dict[str, Any] = {
    "create_database": milvus_pb2.CreateDatabaseRequest(base=MsgBase(msgID=7), db_name="a"),
    "create_role": milvus_pb2.CreateRoleRequest(
        base=MsgBase(targetID=7), entity=milvus_pb2.RoleEntity(name="a")
    ),
    "create_credential": CredentialInfo(username="a", encrypted_password="$2a$x", sha256_password="00"),
    "create_privilege_group": milvus_pb2.CreatePrivilegeGroupRequest(
        base=MsgBase(timestamp=7), group_name="a"
    ),
    "drop_role": milvus_pb2.DropRoleRequest(base=MsgBase(targetID=7), role_name="reader"),
    "restore_rbac": restore(1),
}


async def ask(place: World, name: str, request: Any = None, within_s: float = 10) -> int:
    request = NOT_IDEMPOTENT[name] if request is None else request
    call = Call(method=name, metadata={}, deadline=boottime() + within_s, body=request.SerializeToString())
    status: Status = await getattr(place.handlers, name)(request, call)
    return status.code


@pytest.mark.parametrize("name", list(NOT_IDEMPOTENT))
async def test_handlers_know_a_repetition_after_a_takeover_and_no_other(name: str) -> None:
    place = await world({LAYOUT.role("reader"): b""})
    async with start_oracle(place, begin_term(place)):
        assert await ask(place, name) == 0
        with pytest.raises(MilvusError):
            await ask(place, name)
    async with start_oracle(place, begin_term(place)):
        assert await ask(place, name) == 0


async def test_a_password_is_no_part_of_what_is_stored() -> None:
    """A fingerprint of it, quick to compute, would be easier to guess from than its bcrypt hash."""
    seen = set()
    for secret in ("00", "11"):
        NOT_IDEMPOTENT["create_credential"].sha256_password = secret
        place = await world({})
        async with start_oracle(place, begin_term(place)):
            assert await ask(place, "create_credential") == 0
        seen |= set(place.tables.access_mark.calls)
    assert len(seen) == 1


async def test_without_an_id_of_its_own_a_call_is_any_call_for_the_same() -> None:
    """Two clients may send the very same bytes; of the second nobody can say that it has been carried out."""
    place = await world({})
    base = MsgBase(msg_type=MsgType.CreateDatabase, sourceID=9)
    request = milvus_pb2.CreateDatabaseRequest(base=base, db_name="a")
    async with start_oracle(place, begin_term(place)):
        assert await ask(place, "create_database", request) == 0
    async with start_oracle(place, begin_term(place)):
        with pytest.raises(MilvusError, match="already exist"):
            await ask(place, "create_database", request)


@pytest.mark.parametrize("made", [1, 2, 3, 4])
@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("new_id", [0, 8])
async def test_a_restore_of_many_names_goes_on_where_it_was_broken_off(
    made: int, new_id: int, *, takeover: bool
) -> None:
    """250 users: two transactions for the roles that they have, then three for the names.

    Who repeats it by hand sends another ID, and the server ID of the replica that is active now.
    """
    request = restore(250)
    place = await world({})
    async with start_oracle(place, begin_term(place)):
        place.etcd.faults.extend([*[Fault()] * made, *[LOST_REQUEST] * 1000])
        with pytest.raises(OutcomeUnknown):
            await ask(place, "restore_rbac", request, within_s=0.5)
        place.etcd.faults.clear()
        assert len(place.tables.users.names()) < 250
        if new_id:
            request.base.msgID = request.base.targetID = new_id
        if not takeover:
            assert await ask(place, "restore_rbac", request) == 0
    if takeover:
        async with start_oracle(place, begin_term(place)):
            assert await ask(place, "restore_rbac", request) == 0
    assert len(place.tables.users.names()) == 250
    assert len(place.tables.user_roles.users_of("writer")) == 250


async def test_a_restore_is_refused_if_a_name_is_taken_by_another() -> None:
    """What was made meanwhile under a name of the backup, and differs, was not made by the call."""
    request = restore(2)
    place = await world({})
    async with start_oracle(place, begin_term(place)):
        assert await ask(place, "restore_rbac", request) == 0
    async with start_oracle(place, begin_term(place)):
        other = CredentialInfo(username="u1", encrypted_password="$2a$other")
        assert await ask(place, "update_credential", other) == 0
        with pytest.raises(MilvusError, match="already exists"):
            await ask(place, "restore_rbac", request)


async def test_of_two_restores_at_once_one_is_made_and_the_other_is_not() -> None:
    """250 users each, of which the last one has the same name, and grants to a role of the same name."""
    requests = [restore(250), restore(250)]
    for number, request in enumerate(requests):
        for user in request.RBAC_meta.users[:-1]:
            user.user = f"{number}-{user.user}"
        request.RBAC_meta.privilege_groups[0].group_name = f"{number}-writers"
    place = await world({})
    place.etcd.remote = True
    async with start_oracle(place, begin_term(place)):
        outcomes = await asyncio.gather(
            *(ask(place, "restore_rbac", request) for request in requests), return_exceptions=True
        )
        made = outcomes.index(0)
        assert "already exists" in str(outcomes[1 - made])
    names = {user.user for user in requests[made].RBAC_meta.users}
    assert set(place.tables.users.names()) == names
    assert set(place.tables.user_roles.users_of("writer")) == names


async def test_a_role_that_is_made_during_a_restore_gets_nothing_of_it() -> None:
    request = restore(250)
    role = milvus_pb2.CreateRoleRequest(base=MsgBase(targetID=7), entity=milvus_pb2.RoleEntity(name="writer"))
    place = await world({})
    place.etcd.remote = True
    async with start_oracle(place, begin_term(place)):
        outcomes = await asyncio.gather(
            ask(place, "restore_rbac", request), ask(place, "create_role", role), return_exceptions=True
        )
        assert outcomes[0] == 0
        assert "already exists" in str(outcomes[1])
    assert len(place.tables.users.names()) == 250
