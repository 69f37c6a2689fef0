"""Metadata from Milvus 2.2, and from before 2.1, read and changed in turn by coordd and by Milvus' rootcoord.

Each reads what it finds and answers every read request as the one before it did. Left to coordd is what
Milvus 2.3.5 does not bring home on such metadata, so that what it answers is not what a restart finds:

- An alias of an old collection, or one from before 2.1, that it alters or drops: the new form has the same
  key as the old one, which it deletes in the same transaction; and the name of an alias from before 2.1
  counts as a collection's until the restart.
- A collection from before 2.1 that it renames, or drops a partition of: the parts in its value are lost, or
  the partition is there again.
- Properties: not written at all.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from coordd.pb import internal_pb2, milvus_pb2
from coordd.pb.common_pb2 import KeyValuePair
from coordd.pb.schema_pb2 import CollectionSchema, DataType, FieldSchema
from tests.interop.scenario import METADATA, SESSION_TTL_S, TAKEOVER_S, ask, ask_again, hand_over, metadata
from tests.interop.test_recorded import RECORDING
from tests.lab.cluster import Component, MilvusLab
from tests.lab.recorder import base, open_rootcoord
from tests.lab.recording import load
from tests.support.old_layout import DEFAULT_DB_ID, LAYOUT, as_of_2_2, collection_id

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

INLINE = ("partitioned", "level_strong", "binary_auto_dynamic")
OLDEST_ALIASES = ("everything_again", "latest")
# Milvus leaves collections from before databases out of what it reads of the past by name, coordd does not.
PAST_BY_NAME = re.compile(
    r"(DescribeCollection(Internal)? (old name|dropped default/to_drop by name)"
    r"|ShowCollections of default|HasCollection (old_name|to_drop)) at "
)
MODERN = (LAYOUT.database_prefix, LAYOUT.collection_prefix, LAYOUT.alias_prefix)

Call = tuple[str, Any]


def call_of(method: str, kind: str | None = None, **fields: Any) -> Call:
    request_class = getattr(milvus_pb2, f"{method}Request")
    return method, request_class(base=base(kind or method), **fields)


def create(name: str, **more: Any) -> Call:
    fields = [
        FieldSchema(name="id", data_type=DataType.Int64, is_primary_key=True),
        FieldSchema(
            name="v", data_type=DataType.FloatVector, type_params=[KeyValuePair(key="dim", value="4")]
        ),
    ]
    schema = CollectionSchema(name=name, fields=fields).SerializeToString()
    return call_of("CreateCollection", collection_name=name, schema=schema, **more)


def partition(method: str, collection: str, name: str) -> Call:
    return call_of(method, collection_name=collection, partition_name=name)


def privilege(kind: str, privilege_name: str) -> Call:
    entity = milvus_pb2.GrantEntity(
        role=milvus_pb2.RoleEntity(name="reader"),
        object=milvus_pb2.ObjectEntity(name="Collection"),
        object_name="all_types",
        grantor=milvus_pb2.GrantorEntity(
            user=milvus_pb2.UserEntity(name="root"), privilege=milvus_pb2.PrivilegeEntity(name=privilege_name)
        ),
    )
    return call_of("OperatePrivilege", entity=entity, type=kind)


def credential(method: str, name: str) -> Call:
    asked = internal_pb2.CredentialInfo(
        username=name, encrypted_password="$2a$04$new", sha256_password="0" * 64
    )
    return f"{method}Credential", asked


def user_role(user: str, role: str) -> Call:
    return call_of("OperateUserRole", username=user, role_name=role)


FIRST: tuple[Call, ...] = (
    call_of("CreateAlias", alias="fresh", collection_name="level_session"),
    call_of("DropAlias", alias="moving"),
    partition("CreatePartition", "level_eventually", "p_new"),
    partition("CreatePartition", "partitioned", "p_more"),
    call_of("RenameCollection", oldName="level_bounded", newName="rebounded"),
    call_of("DropCollection", collection_name="float16"),
    call_of("CreateDatabase", db_name="analytics"),
    create("events", db_name="analytics"),
    create("modern"),
    *(privilege("Grant", "Insert"), privilege("Revoke", "Query")),
    *(credential("Create", "dave"), user_role("dave", "reader"), credential("Update", "bob")),
)
SECOND: tuple[Call, ...] = (
    call_of("DropAlias", alias="fresh"),
    call_of("CreateAlias", alias="again", collection_name="rebounded"),
    partition("DropPartition", "level_eventually", "p_new"),
    partition("DropPartition", "partitioned", "p_more"),
    partition("CreatePartition", "rebounded", "p_1"),
    call_of("DropCollection", collection_name="binary_auto_dynamic"),
    call_of("RenameCollection", oldName="modern", newName="moved", newDBName="analytics"),
    create("float16"),
    *(privilege("Revoke", "Insert"), privilege("Revoke", "Search")),
    call_of("DeleteCredential", "Undefined", username="dave"),
)
ONLY_COORDD: tuple[Call, ...] = (
    call_of("AlterAlias", alias="everything", collection_name="level_session"),
    call_of("AlterAlias", alias="everything_again", collection_name="level_session"),
    call_of("DropAlias", alias="latest"),
    partition("DropPartition", "partitioned", "p_2020"),
    call_of("RenameCollection", oldName="level_strong", newName="strong"),
    call_of(
        "AlterCollection",
        "Undefined",
        collection_name="_with_Properties9",
        properties=[KeyValuePair(key="collection.ttl.seconds", value="60")],
    ),
)


def added_by_a_start() -> set[str]:
    """Plain keys that 2.3 misses: the default database, and what everybody may do in all databases."""
    keys = {LAYOUT.database(DEFAULT_DB_ID)}
    for kind, names in (
        ("Global", ("DescribeCollection", "ShowCollections")),
        ("Collection", ("IndexDetail",)),
    ):
        grant = LAYOUT.new_grant_id("public", kind, "*.*")
        keys |= {LAYOUT.grantee("public", kind, "*.*")}
        keys |= {LAYOUT.grantee_id(grant, f"Privilege{name}") for name in names}
    return keys


def change(component: Component, calls: tuple[Call, ...]) -> None:
    """Every call succeeds."""
    with open_rootcoord(component.address) as stub:
        for method, request in (*(ONLY_COORDD if component.kind == "coordd" else ()), *calls):
            status = stub.call(method, request, timeout_s=60)
            assert (status.code, status.reason) == (0, ""), (component.kind, method, request)


PARTITIONS = {
    "partitioned": ["_default", "_p", "p_2021"],
    "level_eventually": ["_default"],
    "rebounded": ["_default", "p_1"],
    "strong": ["_default"],
}
GONE = {"level_bounded", "level_strong", "binary_auto_dynamic"}
COME = {"rebounded", "strong"}
ALIASES = {"everything": "level_session", "everything_again": "level_session", "again": "rebounded"}


def assert_all_changed(component: Component, before: set[str]) -> None:
    """What all changes together have come to. `before`: the collections at first."""
    with open_rootcoord(component.address) as stub:

        def ask_for(method: str, kind: str | None = None, **fields: Any) -> Any:
            return stub.call(*call_of(method, kind, **fields))

        def shown(db_name: str) -> set[str]:
            return set(ask_for("ShowCollections", db_name=db_name).collection_names)

        assert shown("default") == before - GONE | COME
        assert shown("analytics") == {"events", "moved"}
        for name, partitions in PARTITIONS.items():
            assert sorted(ask_for("ShowPartitions", collection_name=name).partition_names) == partitions
        aliases = ask_for("ListAliases", db_name="default").aliases
        assert {one: ask_for("DescribeAlias", alias=one).collection for one in aliases} == ALIASES
        described = ask_for("DescribeCollection", collection_name="_with_Properties9")
        assert {pair.key: pair.value for pair in described.properties}["collection.ttl.seconds"] == "60"
        assert "dave" not in ask_for("ListCredUsers", "ListCredUsernames").usernames
        role = milvus_pb2.GrantEntity(role=milvus_pb2.RoleEntity(name="reader"))
        grants = ask_for("SelectGrant", entity=role).entities
        assert {one.grantor.privilege.name for one in grants if one.object_name == "all_types"} == set()


@pytest.mark.parametrize("first", ["coordd", "milvus"])
def test_each_answers_as_the_one_before_it(tmp_path: Path, first: str) -> None:
    recorded = load(RECORDING).etcd
    old = as_of_2_2(recorded, inline=INLINE, oldest_aliases=OLDEST_ALIASES)
    assert not any(key.startswith(MODERN) for key in old)
    assert {LAYOUT.oldest_alias(name) for name in OLDEST_ALIASES} <= old.keys()
    dropped = {"default/to_drop": collection_id(recorded, "to_drop")}
    second = "milvus" if first == "coordd" else "coordd"
    with MilvusLab(tmp_path, session_ttl_s=SESSION_TTL_S) as lab:
        lab.etcd.load(old)
        active = lab.start_coordd("rootcoord") if first == "coordd" else lab.start("rootcoord")
        active.wait_state("Healthy", timeout_s=TAKEOVER_S)
        lab.start_cluster(rootcoord=active, nodes=())
        kept = {key: value for key, value in old.items() if key.startswith(METADATA)}
        held = metadata(lab)
        assert kept.items() <= held.items()
        assert {
            key for key in held.keys() - kept.keys() if not LAYOUT.parse_snapshot(key)
        } == added_by_a_start()
        answers = ask(active, dropped)
        assert len(answers.probes) > 1000
        assert answers.facts is not None
        collections = {key.partition("/")[2] for key in answers.facts.collections}
        for number, (product, calls) in enumerate(((second, FIRST), (first, SECOND), (second, ()))):
            active = hand_over(lab, active, product, f"{product}-{number}")
            answers.assert_same(ask_again(active, answers), reloaded=True, apart_from=PAST_BY_NAME)
            if calls:
                change(active, calls)
                answers = ask(active, dropped)
        assert_all_changed(active, collections)
