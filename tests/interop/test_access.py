"""Users, roles and privileges changed by coordd and by Milvus' own rootcoord: same answers, same keys."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from coordd.pb import internal_pb2, milvus_pb2
from tests.interop.test_recorded import RECORDING
from tests.lab.client import PymilvusClient
from tests.lab.cluster import Component, MilvusLab
from tests.lab.compare import OBJECT_TYPES
from tests.lab.install import LabError
from tests.lab.recorder import open_rootcoord
from tests.lab.recording import load
from tests.lab.wire import Stub

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

CREDENTIAL = "by-dev/meta/root-coord/credential/"
MAX_USERS = 7
MAX_ROLES = 9
TAKEOVER_S = 30.0
# A grant from before there were databases.
OLD_GRANT = {
    f"{CREDENTIAL}grantee-privileges/reader/Collection/old_one": b"00ff00ff00ff00ff",
    f"{CREDENTIAL}grantee-id/00ff00ff00ff00ff/PrivilegeQuery": b"root",
}
ADD, REMOVE = 0, 1
GRANT, REVOKE = 0, 1

Call = tuple[str, Message]


def credential(method: str, name: str, password: str = "$2a$04$hash") -> Call:
    asked = internal_pb2.CredentialInfo(username=name, encrypted_password=password, sha256_password="0" * 64)
    return f"{method}Credential", asked


def delete_user(name: str) -> Call:
    return "DeleteCredential", milvus_pb2.DeleteCredentialRequest(username=name)


def create_role(name: str) -> Call:
    return "CreateRole", milvus_pb2.CreateRoleRequest(entity=milvus_pb2.RoleEntity(name=name))


def drop_role(name: str) -> Call:
    return "DropRole", milvus_pb2.DropRoleRequest(role_name=name)


def user_role(user: str, role: str, operation: int = ADD) -> Call:
    asked = milvus_pb2.OperateUserRoleRequest(
        username=user,
        role_name=role,
        type=operation,  # type: ignore[arg-type]
    )
    return "OperateUserRole", asked


def privilege(
    role: str,
    kind: str,
    name: str,
    granted: str,
    *,
    db: str = "",
    grantor: str = "root",
    operation: int = GRANT,
    without: str = "",
) -> Call:
    entity = milvus_pb2.GrantEntity(
        role=milvus_pb2.RoleEntity(name=role),
        object=milvus_pb2.ObjectEntity(name=kind),
        object_name=name,
        db_name=db,
        grantor=milvus_pb2.GrantorEntity(
            user=milvus_pb2.UserEntity(name=grantor), privilege=milvus_pb2.PrivilegeEntity(name=granted)
        ),
    )
    if without in ("user", "privilege"):
        entity.grantor.ClearField(without)  # type: ignore[arg-type]
    elif without:
        entity.ClearField(without)  # type: ignore[arg-type]
    asked = milvus_pb2.OperatePrivilegeRequest(entity=entity, type=operation)  # type: ignore[arg-type]
    return "OperatePrivilege", asked


def both(role: str, kind: str, name: str, granted: str, db: str = "") -> tuple[Call, ...]:
    """Granted twice, another too, revoked twice, granted again."""
    grant = privilege(role, kind, name, granted, db=db)
    revoke = privilege(role, kind, name, granted, db=db, operation=REVOKE)
    return (revoke, grant, grant, revoke, revoke, grant)


# The recorded cluster has the users root, alice, bob, carol and the roles admin, public, reader, writer,
# unused.
USERS: tuple[Call, ...] = (
    *(credential("Create", name) for name in ("carol", "", "alice", " ", "dave", "dave")),
    *(credential("Create", name) for name in ("erin", "one_too_many", "carol")),
    *(credential("Update", name) for name in ("carol", "", "nobody_yet", "root")),
    *(delete_user(name) for name in ("nobody_yet", "carol", "carol", "no_such", "", " ")),
    *(credential("Create", name) for name in ("carol", "ünicode")),
)
ROLES: tuple[Call, ...] = (
    *(create_role(name) for name in ("poet", "poet", "", " ", "admin", "reader", "ünicode", "ünicode")),
    *(create_role(name) for name in ('a "quoted" one', 'a "quoted" one')),
    *(create_role(name) for name in ("more", "too_many", "poet")),
    *(drop_role(name) for name in ("no_such", "", " ", "reader", "public", "ünicode", "unused", "unused")),
    *(user_role("alice", "poet", operation) for operation in (REMOVE, ADD, ADD, REMOVE, REMOVE, ADD)),
    *(user_role("nobody", "poet", operation) for operation in (ADD, REMOVE)),
    *(user_role("alice", "no_such", operation) for operation in (ADD, REMOVE)),
    *(user_role(name, "poet", operation) for name in ("", " ") for operation in (ADD, REMOVE)),
    *(user_role("alice", "", ADD), user_role("alice", "poet", 7)),
    *(user_role("carol", "poet"), user_role("carol", "reader"), user_role("carol", "admin")),
    delete_user("carol"),
)
PRIVILEGES: tuple[Call, ...] = (
    *both("poet", "Collection", "songs", "Search"),
    *both("poet", "Collection", "songs", "Insert"),
    *both("poet", "Collection", "songs", "*"),
    *both("poet", "Collection", "*", "Query", "*"),
    *both("poet", "Collection", "events", "Load", "analytics"),
    *both("poet", "Collection", "events", "Load", "default"),
    *both("reader", "Collection", "old_one", "Search"),
    *both("reader", "Collection", "old_one", "Query", "default"),
    *both("reader", "Collection", "old_one", "Query", "analytics"),
    *both("poet", "Global", "anything", "CreateCollection"),
    *both("poet", "Global", "", "All", "analytics"),
    *both("poet", "Global", "*", "*"),
    *both("poet", "User", "alice", "UpdateUser"),
    *both("poet", "User", "*", "SelectUser"),
    *(privilege("poet", "User", "*", "UpdateUser", grantor=name) for name in ("alice", "", " ", "nobody")),
    *(privilege("poet", kind, "x", "Search") for kind in ("", "collection", "User", "Global", "NoType")),
    *(privilege("poet", "Collection", name, "Search") for name in ("", " ")),
    *(privilege("poet", "Collection", "x", name) for name in ("", " ", "search", "PrivilegeSearch", "All")),
    *(privilege(name, "Collection", "x", "Search") for name in ("", " ", "no_such", "unused")),
    *(privilege("poet", "Collection", "x", "Search", operation=number) for number in (2, 7, -1)),
    *(
        privilege("poet", "Collection", "x", "Search", without=part)
        for part in ("object", "role", "grantor", "user", "privilege")
    ),
    ("OperatePrivilege", milvus_pb2.OperatePrivilegeRequest()),
    ("OperatePrivilege", milvus_pb2.OperatePrivilegeRequest(type="Revoke")),
    drop_role("poet"),
    *(
        privilege("writer", kind, name, granted, db=db, operation=REVOKE)
        for kind, name, granted, db in (
            ("Collection", "all_types", "Insert", ""),
            ("Global", "*", "CreateCollection", ""),
        )
    ),
    drop_role("more"),
    drop_role('a "quoted" one'),
)
READS: tuple[Call, ...] = (
    ("ListCredUsers", milvus_pb2.ListCredUsersRequest()),
    ("SelectUser", milvus_pb2.SelectUserRequest(include_role_info=True)),
    ("SelectRole", milvus_pb2.SelectRoleRequest(include_user_info=True)),
    ("ListPolicy", internal_pb2.ListPolicyRequest()),
    *(
        (
            "SelectGrant",
            milvus_pb2.SelectGrantRequest(
                entity=milvus_pb2.GrantEntity(role=milvus_pb2.RoleEntity(name=role), db_name=db)
            ),
        )
        for role in ("poet", "reader", "writer")
        for db in ("", "analytics", "*")
    ),
)


@contextmanager
def started(folder: Path, kind: str) -> Iterator[tuple[MilvusLab, Component]]:
    """A rootcoord on the recorded metadata."""
    limits = {"proxy": {"maxUserNum": MAX_USERS, "maxRoleNum": MAX_ROLES}}
    with MilvusLab(folder, extra=limits) as lab:
        lab.etcd.load(load(RECORDING).etcd | OLD_GRANT)
        if kind == "milvus":
            rootcoord = lab.start("rootcoord")
            lab.start_cluster(rootcoord=rootcoord, nodes=())
        else:
            rootcoord = lab.start_coordd("rootcoord")
        rootcoord.wait_state("Healthy")
        yield lab, rootcoord


def send(stub: Stub, call: Call) -> dict[str, Any]:
    """The answer as plain data; {} is success."""
    method, asked = call
    answer = json_format.MessageToDict(stub.call(method, asked), preserving_proto_field_name=True)
    if "reason" in answer:
        answer["reason"] = _sorted_types(answer["reason"])
    return answer


def _sorted_types(text: str) -> str:
    """Milvus lists the types of objects in the order of a Go map."""
    return OBJECT_TYPES.sub(lambda m: m[1] + " ".join(sorted(m[2].split())) + "]", text)


def spelled(call: Call) -> str:
    return f"{call[0]} {re.sub(chr(10), ' ', str(call[1]))}"


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[list[Any], list[Any], dict[str, bytes]]]:
    """Of both: answers to all changes, answers to reads after them, the keys in etcd."""
    made = {}
    for kind in ("milvus", "coordd"):
        with (
            started(tmp_path_factory.mktemp(kind), kind) as (lab, rootcoord),
            open_rootcoord(rootcoord.address) as stub,
        ):
            answers = [(spelled(call), send(stub, call)) for call in (*USERS, *ROLES, *PRIVILEGES)]
            reads = [(spelled(call), send(stub, call)) for call in READS]
            made[kind] = answers, reads, lab.etcd.dump(CREDENTIAL)
    return made


def test_the_same_calls_get_the_same_answers(outcomes: dict[str, Any]) -> None:
    ours, theirs = outcomes["coordd"][0], outcomes["milvus"][0]
    different = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine != other]
    assert different == []
    codes = {answer.get("error_code") for _, answer in ours}
    assert len(codes) == 8, codes


def test_they_leave_the_same_keys(outcomes: dict[str, Any]) -> None:
    ours, theirs = outcomes["coordd"][2], outcomes["milvus"][2]
    assert ours == theirs
    assert len(ours) > 30


def test_and_are_read_alike(outcomes: dict[str, Any]) -> None:
    for mine, other in zip(outcomes["coordd"][1], outcomes["milvus"][1], strict=True):
        assert mine == other


def test_a_real_proxy_lets_do_what_was_granted(tmp_path: Path) -> None:
    """Through proxy and pymilvus, with authorization on: what is changed counts at once."""
    security = {"common": {"security": {"authorizationEnabled": True}}}
    with MilvusLab(tmp_path, extra=security) as lab, PymilvusClient(lab.files, tmp_path) as client:
        lab.start_cluster(rootcoord=lab.start_coordd("rootcoord"), nodes=("proxy",))
        port = lab.component("proxy").ports.rpc

        def be(user: str, password: str) -> None:
            client.call("connect", host="127.0.0.1", port=port, user=user, password=password)

        def refused(match: str, op: str, **args: Any) -> None:
            with pytest.raises(LabError, match=match):
                client.call(op, **args)

        be("root", "Milvus")
        client.call("create_user", name="alice", password="alice-one")
        client.call("create_role", name="maker")
        be("alice", "alice-one")
        refused("permission deny", "create_database", name="music")

        be("root", "Milvus")
        client.call("grant", role="maker", kind="Global", name="*", privilege="CreateDatabase")
        client.call("add_user", role="maker", user="alice")
        assert len(client.call("list_grants", role="maker")) == 1
        be("alice", "alice-one")
        client.call("create_database", name="music")

        be("root", "Milvus")
        client.call("revoke", role="maker", kind="Global", name="*", privilege="CreateDatabase")
        be("alice", "alice-one")
        refused("permission deny", "create_database", name="books")
        client.call("update_password", name="alice", old="alice-one", new="alice-two")
        with pytest.raises(LabError):
            be("alice", "alice-one")
        be("alice", "alice-two")

        be("root", "Milvus")
        client.call("grant", role="maker", kind="Global", name="*", privilege="CreateDatabase")
        refused("has privileges", "drop_role", name="maker")
        client.call("remove_user", role="maker", user="alice")
        be("alice", "alice-two")
        refused("permission deny", "create_database", name="books")

        be("root", "Milvus")
        client.call("revoke", role="maker", kind="Global", name="*", privilege="CreateDatabase")
        client.call("drop_role", name="maker")
        client.call("delete_user", name="alice")
        with pytest.raises(LabError):
            be("alice", "alice-two")


def test_each_takes_the_others_permissions_over(tmp_path: Path) -> None:
    with MilvusLab(tmp_path) as lab:
        milvus = lab.start("rootcoord")
        lab.start_cluster(rootcoord=milvus, nodes=())
        with open_rootcoord(milvus.address) as stub:
            for call in (
                *(create_role("poet"), credential("Create", "alice"), user_role("alice", "poet")),
                *(privilege("poet", "Collection", "songs", name) for name in ("Search", "Query")),
            ):
                assert send(stub, call) == {}

        coordd = lab.start_coordd("rootcoord")
        coordd.wait_standby()
        milvus.process.signal(signal.SIGKILL)
        lab.end_session("rootcoord")
        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        with open_rootcoord(coordd.address) as stub:
            for call in (
                privilege("poet", "Collection", "songs", "Query", operation=REVOKE),
                privilege("poet", "Collection", "songs", "Insert"),
                *(credential("Create", "bob"), user_role("bob", "poet"), delete_user("alice")),
            ):
                assert send(stub, call) == {}
            made = [send(stub, call) for call in READS]

        again = lab.start("rootcoord", name="milvus-again")
        again.wait_standby()
        coordd.process.signal(signal.SIGTERM)
        again.wait_state("Healthy", timeout_s=TAKEOVER_S)
        with open_rootcoord(again.address) as stub:
            assert [send(stub, call) for call in READS] == made
            for call in (
                privilege("poet", "Collection", "songs", "Search", operation=REVOKE),
                privilege("poet", "Collection", "songs", "Insert", operation=REVOKE),
                *(drop_role("poet"), delete_user("bob")),
            ):
                assert send(stub, call) == {}
