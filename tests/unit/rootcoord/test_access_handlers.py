"""Changes of users, roles and privileges through the handlers: order, marks, steps, and what proxies hear."""

import asyncio
from typing import Any

import pytest

from coordd import clock
from coordd.etcd import MAX_TXN_OPS
from coordd.pb import internal_pb2, milvus_pb2
from coordd.pb.common_pb2 import ErrorCode, MsgBase, Status
from coordd.rootcoord.proxies.manager import SessionsNotKnown
from coordd.rpc.failure import RpcCode, RpcFailure
from tests.support.etcd import eventually
from tests.unit.meta.samples import LAYOUT
from tests.unit.rootcoord.memory_etcd import LOST_ANSWER, LOST_REQUEST, Fault
from tests.unit.rootcoord.recorded import World, world
from tests.unit.rootcoord.term import begin_term, start_oracle
from tests.unit.rootcoord.test_access_plans import GRANT, REVOKE, grant, request, role, user
from tests.unit.rootcoord.test_handlers import ask
from tests.unit.rootcoord.test_privilege_groups import group

ADD, REMOVE = 0, 1


async def place_with(*states: dict[str, bytes]) -> World:
    values = user("root") | role("admin") | role("public")
    for state in states:
        values |= state
    return await world(values)


def in_etcd(place: World, prefix: str) -> list[str]:
    return sorted(key for key in place.etcd.history if key.startswith(prefix) and place.etcd.at(key))


async def credential(place: World, method: str, name: str) -> Status:
    asked = internal_pb2.CredentialInfo(username=name, encrypted_password="$2a$", sha256_password="sha")
    answer = await ask(place, method, asked)
    assert isinstance(answer, Status)
    return answer


async def delete_user(place: World, name: str) -> Status:
    answer = await ask(place, "DeleteCredential", milvus_pb2.DeleteCredentialRequest(username=name))
    assert isinstance(answer, Status)
    return answer


async def create_role(place: World, name: str) -> Status:
    entity = milvus_pb2.RoleEntity(name=name)
    answer = await ask(place, "CreateRole", milvus_pb2.CreateRoleRequest(entity=entity))
    assert isinstance(answer, Status)
    return answer


async def drop_role(place: World, name: str, *, force: bool = False) -> Status:
    asked = milvus_pb2.DropRoleRequest(role_name=name, force_drop=force)
    answer = await ask(place, "DropRole", asked)
    assert isinstance(answer, Status)
    return answer


async def user_role(place: World, name: str, having: str, operation: int) -> Status:
    asked = milvus_pb2.OperateUserRoleRequest(
        username=name,
        role_name=having,
        type=operation,  # type: ignore[arg-type]
    )
    answer = await ask(place, "OperateUserRole", asked)
    assert isinstance(answer, Status)
    return answer


async def test_a_user_comes_changes_and_goes() -> None:
    place = await place_with()
    async with start_oracle(place):
        assert await credential(place, "CreateCredential", "alice") == Status()
        refused = await credential(place, "CreateCredential", "alice")
        assert refused == Status(
            code=65535,
            error_code=ErrorCode.CreateCredentialFailure,
            reason="user already exists: alice",
        )
        assert await credential(place, "UpdateCredential", "alice") == Status()
        assert place.tables.users.encrypted_password("alice") == "$2a$"
        assert await user_role(place, "alice", "admin", ADD) == Status()
        assert await delete_user(place, "alice") == Status()
        assert await delete_user(place, "alice") == Status()
    assert in_etcd(place, LAYOUT.user_prefix) == [LAYOUT.user("root")]
    assert in_etcd(place, LAYOUT.user_role_prefix) == []
    assert place.caches.news == [
        ("forget password", "alice"),
        ("forget password", "alice"),
        ("ADD_USER_TO_ROLE", "alice/admin"),
        ("forget password", "alice"),
        ("DELETE_USER", "alice"),
        ("forget password", "alice"),
        ("DELETE_USER", "alice"),
    ]


async def test_a_withdrawn_password_is_good_nowhere_when_that_is_answered() -> None:
    place = await place_with(user("alice"))
    async with start_oracle(place):
        assert await credential(place, "UpdateCredential", "alice") == Status()
        assert place.caches.withheld == ["alice"]
        assert await delete_user(place, "alice") == Status()
        assert place.caches.withheld == ["alice"] * 2
        assert await credential(place, "CreateCredential", "alice") == Status()
        assert place.caches.withheld == ["alice"] * 2, "there was none before"
        place.caches.uncertain = SessionsNotKnown("etcd takes nothing")
        refused = await credential(place, "UpdateCredential", "alice")
        assert (refused.error_code, refused.code) == (ErrorCode.UpdateCredentialFailure, 65535)
        assert refused.reason == "not all proxies know of the changed password: etcd takes nothing"
        refused = await delete_user(place, "alice")
        assert refused.error_code == ErrorCode.DeleteCredentialFailure
        place.caches.uncertain = RpcFailure(RpcCode.UNAVAILABLE, "over")
        with pytest.raises(RpcFailure) as caught:
            await credential(place, "UpdateCredential", "alice")
        assert caught.value.code is RpcCode.UNAVAILABLE, "the next term does it when the call is repeated"


async def test_limits_are_those_of_the_settings() -> None:
    place = await place_with(*(user(f"u{number}") for number in range(99)))
    async with start_oracle(place):
        refused = await credential(place, "CreateCredential", "alice")
        assert refused.reason == "unable to add user because the number of users has reached the limit"
        for number in range(8):
            assert await create_role(place, f"r{number}") == Status()
        refused = await create_role(place, "one_more")
    assert refused.reason == "unable to create role because the number of roles has reached the limit"
    assert refused.error_code == ErrorCode.CreateRoleFailure


async def test_a_role_and_its_privileges() -> None:
    place = await place_with(user("alice"))
    async with start_oracle(place):
        assert await create_role(place, "reader") == Status()
        assert await user_role(place, "alice", "reader", ADD) == Status()
        assert await ask(place, "OperatePrivilege", request()) == Status()
        refused = await drop_role(place, "reader")
        assert refused.error_code == ErrorCode.DropRoleFailure
        assert await ask(place, "OperatePrivilege", request(operation=REVOKE)) == Status()
        assert await drop_role(place, "reader") == Status()
        again = await drop_role(place, "reader")
        assert again.reason == "not found the role, maybe the role isn't existed or internal system error"
    policy = '{"PType":"p","V0":"reader","V1":"Collection-default.songs","V2":"PrivilegeSearch"}'
    assert place.caches.news == [
        ("ADD_USER_TO_ROLE", "alice/reader"),
        ("GRANT", policy),
        ("REVOKE", policy),
        ("DROP_ROLE", "reader"),
    ]
    assert in_etcd(place, LAYOUT.user_role_prefix) == []


async def test_a_role_can_be_dropped_with_its_privileges() -> None:
    place = await place_with(role("reader"), grant("reader", "Collection", "books.songs", "PrivilegeSearch"))
    async with start_oracle(place):
        assert await drop_role(place, "reader", force=True) == Status()
    assert in_etcd(place, LAYOUT.grantee_id_prefix) == []
    assert place.caches.news == [("REFRESH", "")]


async def test_a_group_that_plays_a_part_makes_proxies_read_all_anew() -> None:
    granted = grant("reader", "Global", "*.*", "PrivilegeGroupreaders")
    place = await place_with(role("reader"), role("other"), group("readers", "Search"), granted)
    async with start_oracle(place):
        await ask(place, "OperatePrivilege", request(operation=REVOKE))
        await ask(place, "OperatePrivilege", request(role_name="other", operation=GRANT))
        add = milvus_pb2.OperatePrivilegeGroupRequest(
            group_name="readers", privileges=[milvus_pb2.PrivilegeEntity(name="Query")]
        )
        assert await ask(place, "OperatePrivilegeGroup", add) == Status()
        answer = await ask(place, "ListPolicy", internal_pb2.ListPolicyRequest())
    assert [kind for kind, *_ in place.caches.news] == ["REFRESH", "GRANT", "REFRESH"]
    assert any('"V0":"reader"' in one and "PrivilegeQuery" in one for one in answer.policy_infos)


async def test_groups_come_and_go() -> None:
    place = await place_with()
    async with start_oracle(place):
        create = milvus_pb2.CreatePrivilegeGroupRequest(group_name="readers")
        assert await ask(place, "CreatePrivilegeGroup", create) == Status()
        assert (await ask(place, "CreatePrivilegeGroup", create)).code == 1100
        listed = await ask(place, "ListPrivilegeGroups", milvus_pb2.ListPrivilegeGroupsRequest())
        assert listed.privilege_groups[0].group_name == "readers"
        drop = milvus_pb2.DropPrivilegeGroupRequest(group_name="readers")
        assert await ask(place, "DropPrivilegeGroup", drop) == Status()
        assert await ask(place, "DropPrivilegeGroup", drop) == Status()
    assert in_etcd(place, LAYOUT.privilege_group_prefix) == []
    assert place.caches.news == []


async def test_one_transaction_with_the_mark_and_none_for_what_is_so() -> None:
    place = await place_with(role("reader"), user("alice"))
    async with start_oracle(place):
        before = place.etcd.transactions
        await user_role(place, "alice", "reader", ADD)
        assert place.etcd.transactions == before + 1
        revision = place.etcd.revision
        mark = place.etcd.at(LAYOUT.ddl("rootcoord-access"))
        assert mark is not None
        assert mark.mod_revision == revision
        assert place.etcd.at(LAYOUT.user_role("alice", "reader")).mod_revision == revision  # type: ignore[union-attr]
        await user_role(place, "alice", "reader", ADD)
        assert place.etcd.transactions == before + 1
    assert place.etcd.at(LAYOUT.ddl("rootcoord")) is None


async def test_more_than_a_transaction_holds_is_done_in_steps() -> None:
    """The role goes with the first of them."""
    many = [user(f"u{number}", "reader") for number in range(300)]
    place = await place_with(role("reader"), *many)
    async with start_oracle(place):
        before = place.etcd.transactions
        assert await drop_role(place, "reader") == Status()
        assert place.etcd.transactions == before + 3
    assert in_etcd(place, LAYOUT.user_role_prefix) == []
    gone = [revision for revision, kv in place.etcd.history[LAYOUT.role("reader")] if kv is None]
    others = [place.etcd.history[LAYOUT.user_role(f"u{n}", "reader")][-1][0] for n in range(300)]
    assert gone == [min(others)]
    assert max(others.count(revision) for revision in set(others)) < MAX_TXN_OPS


async def broken_off(place: World, method: str, asked: Any) -> None:
    """A call of which one transaction reaches etcd."""
    place.etcd.faults.append(Fault())
    place.etcd.faults.extend([LOST_REQUEST] * 1000)
    with pytest.raises(RpcFailure) as caught:
        await ask(place, method, asked, deadline=clock.boottime() + 0.4)
    assert caught.value.code is RpcCode.UNKNOWN
    place.etcd.faults.clear()


async def known_of(place: World) -> str:
    """All that clients and proxies can see of users, roles and privileges."""
    answers = [
        await ask(place, "SelectUser", milvus_pb2.SelectUserRequest(include_role_info=True)),
        await ask(place, "SelectRole", milvus_pb2.SelectRoleRequest(include_user_info=True)),
        await ask(place, "ListPolicy", internal_pb2.ListPolicyRequest()),
        await ask(place, "BackupRBAC", milvus_pb2.BackupRBACMetaRequest()),
    ]
    return "".join(map(str, answers))


@pytest.mark.parametrize("same_term", [True, False])
async def test_a_drop_that_was_broken_off_is_done_and_its_repetition_leaves_nothing(
    *, same_term: bool
) -> None:
    """The term may end there: nobody need repeat the call."""
    many = [grant("reader", "Collection", f"books.c{number}", "PrivilegeSearch") for number in range(200)]
    place = await place_with(role("reader"), user("alice", "reader"), *many)
    asked = milvus_pb2.DropRoleRequest(base=MsgBase(msgID=7), role_name="reader", force_drop=True)
    async with start_oracle(place):
        await broken_off(place, "DropRole", asked)
        assert set(place.caches.news) == {("REFRESH", "")}
        if same_term:
            assert await ask(place, "DropRole", asked) == Status()
            assert in_etcd(place, LAYOUT.grantee_id_prefix) == []
    keys = {key: kv.value for key in place.etcd.history if (kv := place.etcd.at(key)) is not None}
    place = await world(keys)
    async with start_oracle(place):
        assert "reader" not in await known_of(place)
        assert (0 < len(in_etcd(place, LAYOUT.grantee_id_prefix)) < 200) != same_term
        assert await ask(place, "DropRole", asked) == Status()
        assert in_etcd(place, LAYOUT.grantee_id_prefix) == in_etcd(place, LAYOUT.user_role_prefix) == []


async def test_a_user_whose_deletion_was_broken_off_is_gone() -> None:
    names = [f"r{number}" for number in range(200)]
    place = await place_with(user("alice", *names), *map(role, names))
    asked = milvus_pb2.DeleteCredentialRequest(username="alice")
    async with start_oracle(place):
        await broken_off(place, "DeleteCredential", asked)
        assert "alice" not in await known_of(place)
        assert 0 < len(in_etcd(place, LAYOUT.user_role_prefix)) < 200
        assert await ask(place, "DeleteCredential", asked) == Status()
    assert in_etcd(place, LAYOUT.user_role_prefix) == []


async def test_a_backup_is_restored_in_steps() -> None:
    source = await place_with(
        role("reader"),
        group("readers", "Search"),
        *(user(f"u{number}", "reader") for number in range(150)),
        *(grant("reader", "Collection", f"books.c{number}", "PrivilegeSearch") for number in range(40)),
    )
    saved = await ask(source, "BackupRBAC", milvus_pb2.BackupRBACMetaRequest())
    place = await place_with()
    async with start_oracle(place):
        asked = milvus_pb2.RestoreRBACMetaRequest(RBAC_meta=saved.RBAC_meta)
        place.etcd.faults.append(LOST_ANSWER)
        assert await ask(place, "RestoreRBAC", asked) == Status()
        again = await ask(place, "RestoreRBAC", asked)
        assert again.reason == "role [reader] already exists"
        copy = await ask(place, "BackupRBAC", milvus_pb2.BackupRBACMetaRequest())
    assert copy.RBAC_meta == saved.RBAC_meta
    assert place.caches.news == [("REFRESH", "")]


async def test_proxies_hear_of_what_was_left_behind() -> None:
    left = grant("reader", "Collection", "books.songs", "PrivilegeSearch")
    place = await place_with(left, {LAYOUT.user_role("alice", "admin"): b""})
    async with start_oracle(place):
        assert await create_role(place, "reader") == Status()
        assert await credential(place, "CreateCredential", "alice") == Status()
    assert place.caches.news == [
        ("REFRESH", ""),
        ("DELETE_USER", "alice"),
        ("forget password", "alice"),
    ]
    assert in_etcd(place, LAYOUT.user_role_prefix) == in_etcd(place, LAYOUT.grantee_id_prefix) == []


async def test_proxies_look_anew_if_it_is_not_known_what_became_of_a_change() -> None:
    place = await place_with(role("reader"), user("alice"))
    async with start_oracle(place):
        place.etcd.faults.extend([LOST_REQUEST] * 1000)
        soon = clock.boottime() + 0.4
        asked = internal_pb2.CredentialInfo(username="alice", encrypted_password="y")
        for method, call in (("UpdateCredential", asked), ("OperatePrivilege", request())):
            with pytest.raises(RpcFailure):
                await ask(place, method, call, deadline=soon)
        assert place.caches.news == [("forget password", "alice"), ("REFRESH", ""), ("REFRESH", "")]


async def test_proxies_look_anew_if_the_caller_goes_away() -> None:
    place = await place_with(user("alice"))
    async with start_oracle(place):
        place.etcd.faults.extend([LOST_REQUEST] * 1000)
        before = place.etcd.transactions
        gone = asyncio.get_running_loop().create_task(delete_user(place, "alice"))
        await eventually(lambda: place.etcd.transactions > before)
        gone.cancel()
        await asyncio.wait([gone])
    assert place.caches.news == [("forget password", "alice"), ("REFRESH", "")]


async def test_a_refusal_is_no_news() -> None:
    place = await place_with(user("alice"))
    async with start_oracle(place):
        await credential(place, "CreateCredential", "alice")
        await drop_role(place, "no_such")
    assert place.caches.news == []


async def test_callers_at_once_make_one_user() -> None:
    place = await place_with()
    async with start_oracle(place):
        answers = await asyncio.gather(*(credential(place, "CreateCredential", "alice") for _ in range(20)))
    assert [answer.code for answer in answers].count(0) == 1
    assert place.caches.news == [("forget password", "alice")]


async def test_a_change_of_databases_under_way_is_not_waited_for() -> None:
    place = await place_with()
    async with start_oracle(place):
        assert place.ddl is not None
        async with place.ddl._turns.hold((LAYOUT.ddl("rootcoord"),), deadline=clock.boottime() + 5):
            assert await credential(place, "CreateCredential", "alice") == Status()


async def test_proxies_that_do_not_confirm_do_not_hold_the_caller_for_long() -> None:
    place = await place_with()
    place.caches.slow = True
    async with start_oracle(place):
        asked = internal_pb2.CredentialInfo(username="alice", encrypted_password="x")
        answer: Any = await ask(place, "CreateCredential", asked, deadline=clock.boottime() + 0.3)
    assert answer == Status()
    assert "alice" in place.tables.users


async def test_after_the_term_nothing_is_changed() -> None:
    place = await place_with()
    term = begin_term(place)
    async with start_oracle(place, term):
        place.etcd.put_now(LAYOUT.session("rootcoord"), b"another")
        with pytest.raises(RpcFailure) as caught:
            await credential(place, "CreateCredential", "alice")
        assert caught.value.code is RpcCode.UNAVAILABLE
    assert in_etcd(place, LAYOUT.user_prefix) == [LAYOUT.user("root")]
    assert place.caches.news == []
