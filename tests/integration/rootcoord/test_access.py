"""Users, roles, privileges on real etcd: kept across takeovers, in as many transactions as it asks for."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coordd import clock
from coordd.config import load_config
from coordd.etcd import EtcdClient, prefix_end
from coordd.ha.leadership import SessionTable
from coordd.ha.replica import Replica
from coordd.meta.layout import MetaLayout
from coordd.pb import milvus_pb2, root_coord_pb2
from coordd.rootcoord import RootCoord
from coordd.rootcoord.access import roles, users
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.status import MilvusError
from tests.integration.rootcoord.test_databases import active_of
from tests.integration.rootcoord.test_terms import members, root_coord, term
from tests.support.etcd import unique_root
from tests.support.rpc import FakeGate

SERVICE = root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]
ADD = milvus_pb2.OperateUserRoleType.AddUserToRole


def dispatcher(coordinator: RootCoord, layout: MetaLayout) -> Dispatcher:
    """The coordinator's methods, behind a gate that is always open."""
    gate = FakeGate()
    table = DispatchTable()
    sessions = SessionTable(layout)
    silent = SimpleNamespace(on_progress=lambda _listener: None)
    replica = SimpleNamespace(gate=gate, sessions=sessions, follower=silent, settings=None)
    coordinator.add_services(table, cast("Replica", replica))
    return Dispatcher(table, gate, cluster="by-dev")


async def ask(served: Dispatcher, method: str, request: Any) -> Any:
    path = f"/{SERVICE.full_name}/{method}"
    entry = served.table.get(path)
    assert entry is not None
    call = Call(method=path, metadata={}, deadline=clock.boottime() + 10)
    return entry.response_type.FromString(await served.dispatch(path, request.SerializeToString(), call))


async def change(coordinator: RootCoord, decide: Any) -> int:
    return await coordinator.parts.access.carry_out(decide, deadline=clock.boottime() + 10)


async def make_user(coordinator: RootCoord, layout: MetaLayout, name: str) -> int:
    def decide(_stamp: object) -> Any:
        [writes] = users.plan_create(coordinator.metadata, layout, name, "$2a$", limit=100)
        return writes

    return await change(coordinator, decide)


async def in_etcd(client: EtcdClient, prefix: str) -> list[str]:
    found = await client.range(prefix, prefix_end(prefix))
    return [kv.key.removeprefix(prefix) for kv in found.kvs]


async def test_they_outlive_the_replica_that_made_them(client: EtcdClient, layout: MetaLayout) -> None:
    async with members(client, layout, 2) as group:
        first = await active_of(group)
        await make_user(first, layout, "alice")
        await change(
            first, lambda _stamp: roles.plan_user_role(first.metadata, layout, "alice", "admin", ADD)
        )
        [stopping] = [member for member in group if member.coordinator is first]
        await stopping.stop()

        second = await active_of(group)
        assert second is not first
        assert second.metadata.users.names() == ["alice", "root"]
        assert second.metadata.user_roles.roles_of("alice") == ["admin"]
        with pytest.raises(MilvusError, match="user already exists: alice"):
            await make_user(second, layout, "alice")
        [*gone] = users.plan_delete(second.metadata, layout, "alice")
        await change(second, lambda _stamp: [write for writes in gone for write in writes])
    assert await in_etcd(client, layout.user_prefix) == ["root"]
    assert await in_etcd(client, layout.user_role_prefix) == []


async def test_a_drop_takes_as_many_transactions_as_etcd_asks_for(
    client: EtcdClient, layout: MetaLayout
) -> None:
    for number in range(300):
        await client.put(layout.user_role(f"user{number}", "reader"), b"")
    await client.put(layout.role("reader"), b"")
    coordinator = root_coord(client, layout)
    async with term(client, layout, coordinator):
        asked = milvus_pb2.DropRoleRequest(role_name="reader")
        answer = await ask(dispatcher(coordinator, layout), "DropRole", asked)
        assert answer.code == 0, answer
    assert await in_etcd(client, layout.user_role_prefix) == []
    assert await in_etcd(client, layout.role_prefix) == ["admin", "public"]


async def test_a_backup_is_restored_whole(client: EtcdClient, layout: MetaLayout) -> None:
    elsewhere = MetaLayout(unique_root(), "meta", "kv")
    for number in range(150):
        await client.put(layout.user(f"user{number}"), b'{"encrypted_password":"x"}')
        await client.put(layout.user_role(f"user{number}", "reader"), b"")
    await client.put(layout.role("reader"), b"")
    source, target = root_coord(client, layout), root_coord(client, elsewhere)
    backup = milvus_pb2.BackupRBACMetaRequest()
    async with term(client, layout, source), term(client, elsewhere, target):
        saved = await ask(dispatcher(source, layout), "BackupRBAC", backup)
        asked = milvus_pb2.RestoreRBACMetaRequest(RBAC_meta=saved.RBAC_meta)
        answer = await ask(dispatcher(target, elsewhere), "RestoreRBAC", asked)
        assert answer.code == 0, answer
        assert (await ask(dispatcher(target, elsewhere), "BackupRBAC", backup)) == saved
    assert len(saved.RBAC_meta.users) == 150
    assert len(await in_etcd(client, elsewhere.user_prefix)) == 151


async def test_roles_of_the_configuration_are_there_when_a_term_begins(
    client: EtcdClient, layout: MetaLayout, tmp_path: Path
) -> None:
    grants = [
        {"object_type": "Collection", "object_name": f"c{number}", "privilege": "Search", "db_name": "*"}
        for number in range(150)
    ]
    text = json.dumps({"reader": {"privileges": grants}, "idle": {}})
    (tmp_path / "milvus.yaml").write_text(json.dumps({"builtinRoles": {"enable": True, "roles": text}}))
    loaded = load_config(tmp_path, env={})
    for _ in range(2):
        coordinator = RootCoord(lambda: loaded, layout, client)
        async with term(client, layout, coordinator):
            assert coordinator.metadata.roles.names() == ["admin", "idle", "public", "reader"]
            assert len(coordinator.metadata.grants.of_role("reader")) == 150
            answer = await ask(
                dispatcher(coordinator, layout), "DropRole", milvus_pb2.DropRoleRequest(role_name="idle")
            )
            assert answer.code == 1401
            assert answer.detail == (
                "the role[idle] is a builtin role, which can't be dropped: privilege not permitted"
            )
    assert len(await in_etcd(client, layout.grantee_prefix)) == 150 + 2
