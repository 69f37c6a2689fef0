"""A pymilvus 2.3.5 client that is told what to do: one JSON object per line in, one per line out.

Runs inside the lab's own environment (pymilvus pins an old grpcio) and imports nothing of the project but
`surface.raw`. Request ``{"op": NAME, "args": {...}}``, reply ``{"ok": true, "result": ...}`` or
``{"ok": false, "error": TEXT}``; a mistake in this program ends it with a traceback. So does, without one,
the end of the input.

``dataset`` makes one of everything that RootCoord keeps; ``observe`` lists and describes all of it through
the proxy, so that two observations can be compared. Timeouts are ints: pymilvus 2.3.5 ignores floats in its
retry loop.
"""

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from grpc import RpcError
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, Role, connections, db, utility
from pymilvus.exceptions import MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2
from surface.raw import with_defaults

TIMEOUT_S = 30
USING = "default"
DEFAULT_DB = "default"
FLOAT16_VECTOR = 102
DESCRIPTION = 'Beschreibung mit Ümläuten, 说明, эмодзи 🚀, "quotes"\tand a tab'


def _handler() -> Any:
    return connections._fetch_handler(USING)


@contextmanager
def _database(name: str) -> Iterator[None]:
    db.using_database(name, using=USING)
    try:
        yield
    finally:
        db.using_database(DEFAULT_DB, using=USING)


def connect(host: str, port: int, user: str = "root", password: str = "Milvus") -> str:
    """Connect with a user: GRANT needs the header even while authorization is off. Ends an earlier one."""
    if connections.has_connection(USING):
        connections.disconnect(USING)
    connections.connect(USING, host=host, port=str(port), user=user, password=password, timeout=TIMEOUT_S)
    return utility.get_server_version(using=USING, timeout=TIMEOUT_S)


# --- the data set -------------------------------------------------------------------------------------


def _pk(name: str = "pk", **more: Any) -> FieldSchema:
    return FieldSchema(name, DataType.INT64, is_primary=True, **more)


def _vector(name: str = "vec", dim: int = 8) -> FieldSchema:
    return FieldSchema(name, DataType.FLOAT_VECTOR, dim=dim)


def _scalars() -> list[FieldSchema]:
    kinds = [
        (DataType.BOOL, {}),
        (DataType.INT8, {}),
        (DataType.INT16, {}),
        (DataType.INT32, {}),
        (DataType.INT64, {}),
        (DataType.FLOAT, {}),
        (DataType.DOUBLE, {}),
        (DataType.VARCHAR, {"max_length": 512}),
        (DataType.JSON, {}),
    ]
    return [FieldSchema(f"f_{t.name.lower()}", t, description=f"a {t.name}", **kw) for t, kw in kinds]


def _arrays() -> list[FieldSchema]:
    elements = ["BOOL", "INT8", "INT16", "INT32", "INT64", "FLOAT", "DOUBLE"]
    fields = [
        FieldSchema(f"a_{e.lower()}", DataType.ARRAY, element_type=DataType[e], max_capacity=16 + i)
        for i, e in enumerate(elements)
    ]
    varchars = FieldSchema(
        "a_varchar", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=5, max_length=64
    )
    return [*fields, varchars]


def _create(
    name: str, fields: list[FieldSchema], *, schema: dict[str, Any] | None = None, **more: Any
) -> Any:
    wanted = CollectionSchema(fields, **(schema or {}))
    return Collection(name, wanted, using=USING, timeout=TIMEOUT_S, **more)


def _create_raw(schema: schema_pb2.CollectionSchema, **more: Any) -> None:
    """Create what pymilvus 2.3.5 has no words for (default values, Float16Vector)."""
    request = milvus_pb2.CreateCollectionRequest(
        collection_name=schema.name, schema=schema.SerializeToString(), **more
    )
    status = _handler()._stub.CreateCollection(request, timeout=TIMEOUT_S)
    if status.error_code or status.code:
        raise RuntimeError(f"{schema.name}: {status.code} {status.reason}")


def _create_and_drop(name: str) -> int:
    collection = _create(name, [_pk(), _vector()])
    found = int(_handler().describe_collection(name, timeout=TIMEOUT_S)["collection_id"])
    collection.drop(timeout=TIMEOUT_S)
    return found


def _default_db() -> int:
    all_types = [_pk(description="the key"), *_scalars(), *_arrays(), _vector()]
    _create("all_types", all_types, schema={"description": DESCRIPTION}, shards_num=2)
    binary = FieldSchema("vec", DataType.BINARY_VECTOR, dim=128)
    _create("binary_auto_dynamic", [_pk(auto_id=True), binary], schema={"enable_dynamic_field": True})
    tenant = FieldSchema("tenant", DataType.VARCHAR, max_length=64, is_partition_key=True)
    key = FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=100)
    _create("partition_key", [key, tenant, _vector()], num_partitions=5)
    keyed = FieldSchema("tenant", DataType.INT64, is_partition_key=True)
    dynamic = {"enable_dynamic_field": True, "description": "default number of partitions"}
    _create("partition_key_default", [_pk(auto_id=True), keyed, _vector()], schema=dynamic)
    for level in ("Strong", "Session", "Bounded", "Eventually", "Customized"):
        _create(f"level_{level.lower()}", [_pk(), _vector(dim=2)], consistency_level=level)
    properties = {"collection.ttl.seconds": 1800, "collection.autocompaction.enabled": "false"}
    _create("_with_Properties9", [_pk(), _vector()], properties=properties, shards_num=4)
    _defaults_and_float16()
    parts = _create("partitioned", [_pk(), _vector()])
    for name in ("p_2020", "p_2021", "p_gone", "_p"):
        parts.create_partition(name, description="ignored by the server", timeout=TIMEOUT_S)
    parts.drop_partition("p_gone", timeout=TIMEOUT_S)
    dropped = _create_and_drop("to_drop")
    _create("old_name", [_pk(), _vector()], schema={"description": "renamed once"})
    utility.rename_collection("old_name", "new_name", using=USING, timeout=TIMEOUT_S)
    return dropped


def _defaults_and_float16() -> None:
    schema = with_defaults("default_values", dim=4)
    schema.description = "raw request"
    schema.fields[-1].index_params.add(key="index_type", value="FLAT")
    _create_raw(schema, shards_num=1, consistency_level=common_pb2.Eventually)
    half = schema_pb2.CollectionSchema(name="float16")
    half.fields.add(name="pk", data_type=DataType.INT64, is_primary_key=True, autoID=True)
    vector = half.fields.add(name="v", data_type=FLOAT16_VECTOR)
    vector.type_params.add(key="dim", value="16")
    _create_raw(half)


def _other_databases() -> int:
    for name in ("analytics", "empty_db", "dropped_db"):
        db.create_database(name, using=USING, timeout=TIMEOUT_S)
    db.drop_database("dropped_db", using=USING, timeout=TIMEOUT_S)
    with _database("analytics"):
        # The same name as in the default database, another schema.
        _create("all_types", [_pk("other_pk"), _vector(dim=3)], schema={"description": "of analytics"})
        _create("events", [_pk(auto_id=True), _vector()], schema={"enable_dynamic_field": True})
        Collection("events", using=USING).create_partition("y2024", timeout=TIMEOUT_S)
        utility.create_alias("events", "latest", using=USING, timeout=TIMEOUT_S)
        return _create_and_drop("dropped_too")


def _aliases() -> None:
    for collection, alias in [
        ("all_types", "everything"),
        ("all_types", "everything_again"),
        ("partitioned", "moving"),
        ("partitioned", "gone_alias"),
        ("binary_auto_dynamic", "latest"),
    ]:
        utility.create_alias(collection, alias, using=USING, timeout=TIMEOUT_S)
    utility.alter_alias("partition_key", "moving", using=USING, timeout=TIMEOUT_S)
    utility.drop_alias("gone_alias", using=USING, timeout=TIMEOUT_S)


def _users_and_grants() -> None:
    for user in ("alice", "bob", "carol", "mallory"):
        utility.create_user(user, f"{user}-secret", using=USING, timeout=TIMEOUT_S)
    utility.delete_user("mallory", using=USING, timeout=TIMEOUT_S)
    utility.update_password("bob", "bob-secret", "bob-secret-2", using=USING, timeout=TIMEOUT_S)
    roles = {name: Role(name, using=USING) for name in ("reader", "writer", "unused", "dropped_role")}
    for role in roles.values():
        role.create()
    roles["dropped_role"].drop()
    for role, user in [("reader", "alice"), ("reader", "bob"), ("writer", "alice"), ("unused", "bob")]:
        roles[role].add_user(user)
    roles["unused"].remove_user("bob")
    Role("admin", using=USING).add_user("carol")
    reader, writer = roles["reader"], roles["writer"]
    reader.grant("Collection", "all_types", "Search")
    reader.grant("Collection", "all_types", "Query")
    reader.grant("Collection", "*", "Load")
    reader.grant("Collection", "events", "Search", db_name="analytics")
    reader.grant("Global", "*", "ShowCollections", db_name="*")
    writer.grant("Global", "*", "CreateCollection")
    writer.grant("Global", "*", "*", db_name="analytics")
    writer.grant("User", "*", "UpdateUser")
    writer.grant("User", "alice", "SelectUser")
    writer.grant("Collection", "all_types", "Insert")
    writer.grant("Collection", "all_types", "Delete")
    writer.revoke("Collection", "all_types", "Delete")


def dataset() -> dict[str, int]:
    """Make one of everything; returns the ids of the dropped collections, which nobody lists any more."""
    dropped = {"analytics/dropped_too": _other_databases(), "default/to_drop": _default_db()}
    _aliases()
    _users_and_grants()
    return dropped


# --- observing ----------------------------------------------------------------------------------------


def _describe(name: str) -> dict[str, Any]:
    handler = _handler()
    described = handler.describe_collection(name, timeout=TIMEOUT_S)
    partitions = handler.list_partitions(name, timeout=TIMEOUT_S)
    described["aliases"] = sorted(described["aliases"])
    described["partitions"] = sorted(partitions)
    described["has"] = {p: handler.has_partition(name, p, timeout=TIMEOUT_S) for p in [*partitions, "nope"]}
    return json.loads(json.dumps(described, default=str))


def _grants(role: str) -> list[str]:
    found: list[str] = []
    for name in ("", "*", "analytics"):
        found += [f"{name}: {g!r}" for g in Role(role, using=USING).list_grants(db_name=name).groups]
    return sorted(found)


def observe() -> dict[str, Any]:
    """List and describe everything through the proxy."""
    seen: dict[str, Any] = {"databases": {}}
    for name in sorted(db.list_database(using=USING, timeout=TIMEOUT_S)):
        with _database(name):
            names = sorted(utility.list_collections(timeout=TIMEOUT_S, using=USING))
            seen["databases"][name] = {n: _describe(n) for n in names}
            for ghost in ("to_drop", "old_name", "no_such_collection"):
                seen["databases"][name][f"has {ghost}"] = utility.has_collection(ghost, using=USING)
            for alias in ("everything", "moving", "latest"):
                found = utility.has_collection(alias, using=USING)
                about = _handler().describe_collection(alias)["collection_id"] if found else None
                seen["databases"][name][f"alias {alias}"] = about
    seen["users"] = sorted(utility.list_usernames(using=USING, timeout=TIMEOUT_S))
    users = utility.list_users(True, using=USING, timeout=TIMEOUT_S).groups
    seen["user roles"] = {u.username: sorted(u.roles) for u in users}
    roles = utility.list_roles(True, using=USING, timeout=TIMEOUT_S).groups
    seen["roles"] = {r.role_name: sorted(r.users) for r in roles}
    seen["grants"] = {r.role_name: _grants(r.role_name) for r in roles}
    return seen


def create_collection(name: str) -> int:
    """Create a small collection; returns its id."""
    _create(name, [_pk(), _vector()])
    return int(_handler().describe_collection(name, timeout=TIMEOUT_S)["collection_id"])


def list_collections(db_name: str = DEFAULT_DB) -> list[str]:
    """Names of the collections of one database."""
    with _database(db_name):
        return sorted(utility.list_collections(timeout=TIMEOUT_S, using=USING))


def create_database(name: str) -> None:
    """CreateDatabase through the proxy."""
    db.create_database(name, using=USING, timeout=TIMEOUT_S)


def drop_database(name: str) -> None:
    """DropDatabase through the proxy."""
    db.drop_database(name, using=USING, timeout=TIMEOUT_S)


def list_databases() -> list[str]:
    """Names of all databases."""
    return sorted(db.list_database(using=USING, timeout=TIMEOUT_S))


def alter_properties(name: str, properties: dict[str, Any]) -> None:
    """AlterCollection through the proxy."""
    Collection(name, using=USING).set_properties(properties, timeout=TIMEOUT_S)


def describe_collection(name: str) -> dict[str, Any]:
    """A collection, by name or alias, with its partitions."""
    return _describe(name)


def create_alias(name: str, alias: str) -> None:
    """CreateAlias through the proxy."""
    utility.create_alias(name, alias, using=USING, timeout=TIMEOUT_S)


def alter_alias(name: str, alias: str) -> None:
    """AlterAlias through the proxy."""
    utility.alter_alias(name, alias, using=USING, timeout=TIMEOUT_S)


def drop_alias(alias: str) -> None:
    """DropAlias through the proxy."""
    utility.drop_alias(alias, using=USING, timeout=TIMEOUT_S)


def rename_collection(old: str, new: str, new_db: str = "") -> None:
    """RenameCollection through the proxy."""
    utility.rename_collection(old, new, new_db_name=new_db, using=USING, timeout=TIMEOUT_S)


def create_user(name: str, password: str) -> None:
    """CreateCredential through the proxy."""
    utility.create_user(name, password, using=USING, timeout=TIMEOUT_S)


def update_password(name: str, old: str, new: str) -> None:
    """UpdateCredential through the proxy."""
    utility.update_password(name, old, new, using=USING, timeout=TIMEOUT_S)


def delete_user(name: str) -> None:
    """DeleteCredential through the proxy."""
    utility.delete_user(name, using=USING, timeout=TIMEOUT_S)


def create_role(name: str) -> None:
    """CreateRole through the proxy."""
    Role(name, using=USING).create()


def drop_role(name: str) -> None:
    """DropRole through the proxy."""
    Role(name, using=USING).drop()


def add_user(role: str, user: str) -> None:
    """OperateUserRole through the proxy."""
    Role(role, using=USING).add_user(user)


def remove_user(role: str, user: str) -> None:
    """OperateUserRole through the proxy."""
    Role(role, using=USING).remove_user(user)


def grant(role: str, kind: str, name: str, privilege: str, db_name: str = "") -> None:
    """OperatePrivilege through the proxy."""
    Role(role, using=USING).grant(kind, name, privilege, db_name)


def revoke(role: str, kind: str, name: str, privilege: str, db_name: str = "") -> None:
    """OperatePrivilege through the proxy."""
    Role(role, using=USING).revoke(kind, name, privilege, db_name)


def list_grants(role: str) -> list[str]:
    """SelectGrant through the proxy."""
    return _grants(role)


def create_partition(name: str, partition: str) -> None:
    """CreatePartition through the proxy."""
    Collection(name, using=USING).create_partition(partition, timeout=TIMEOUT_S)


def drop_partition(name: str, partition: str) -> None:
    """DropPartition through the proxy."""
    Collection(name, using=USING).drop_partition(partition, timeout=TIMEOUT_S)


def drop_collection(name: str) -> None:
    """DropCollection through the proxy."""
    utility.drop_collection(name, using=USING, timeout=TIMEOUT_S)


def _rows(first: int, count: int) -> list[list[Any]]:
    keys = list(range(first, first + count))
    return [keys, [[float(key + place) for place in range(8)] for key in keys]]


def _nearest(collection: Collection, key: int) -> list[int]:
    vector = [float(key + place) for place in range(8)]
    found = collection.search(
        [vector], "vec", {"metric_type": "L2"}, limit=3, consistency_level="Strong", timeout=TIMEOUT_S
    )
    return sorted(found[0].ids)


def fill(name: str, first: int, count: int) -> None:
    """Insert rows with these keys into a collection of ``create_collection``."""
    Collection(name, using=USING).insert(_rows(first, count), timeout=TIMEOUT_S)


def refusal_of_insert(name: str, first: int, count: int) -> list[Any]:
    """Try once to insert rows with these keys: code and message of the refusal, [0, ""] if there is none."""
    try:
        Collection(name, using=USING).insert(
            _rows(first, count), timeout=TIMEOUT_S, retry_on_rate_limit=False
        )
    except MilvusException as error:
        return [int(error.code), error.message]
    return [0, ""]


def refusal_of_search(name: str, key: int) -> list[Any]:
    """Try once to search: as `refusal_of_insert`."""
    vector = [float(key + place) for place in range(8)]
    try:
        Collection(name, using=USING).search(
            [vector],
            "vec",
            {"metric_type": "L2"},
            limit=3,
            timeout=TIMEOUT_S,
            retry_on_rate_limit=False,
        )
    except MilvusException as error:
        return [int(error.code), error.message]
    return [0, ""]


def index_and_load(name: str) -> None:
    """Flush, index and load a collection."""
    collection = Collection(name, using=USING)
    collection.flush(timeout=TIMEOUT_S)
    index = {"index_type": "FLAT", "metric_type": "L2", "params": {}}
    collection.create_index("vec", index, timeout=TIMEOUT_S)
    collection.load(timeout=TIMEOUT_S)


def nearest(name: str, key: int) -> list[int]:
    """The keys next to one, as a strongly consistent search finds them."""
    return _nearest(Collection(name, using=USING), key)


def delete(name: str, keys: list[int]) -> None:
    """Delete rows by their keys."""
    Collection(name, using=USING).delete(f"pk in {keys}", timeout=TIMEOUT_S)


def count(name: str) -> int:
    """How many rows a strongly consistent query counts."""
    collection = Collection(name, using=USING)
    rows = collection.query(
        "pk >= 0", output_fields=["count(*)"], consistency_level="Strong", timeout=TIMEOUT_S
    )
    return int(rows[0]["count(*)"])


def release(name: str) -> None:
    """Release a collection."""
    Collection(name, using=USING).release(timeout=TIMEOUT_S)


def create_keyed(name: str) -> None:
    """Create a collection of two shards whose rows go into partitions by their `tenant`."""
    tenant = FieldSchema("tenant", DataType.INT64, is_partition_key=True)
    _create(name, [_pk(), tenant, _vector()], num_partitions=4, shards_num=2)


def bulk_insert(name: str, files: list[str], partition: str | None = None) -> int:
    """Import through the proxy; returns the ID of the task."""
    task_id = utility.do_bulk_insert(name, files, partition, timeout=TIMEOUT_S, using=USING)
    return int(task_id)


def bulk_state(task_id: int) -> dict[str, Any]:
    """GetImportState through the proxy, as pymilvus reads it."""
    state = utility.get_bulk_insert_state(task_id, timeout=TIMEOUT_S, using=USING)
    return {
        "state": state.state_name,
        "rows": state.row_count,
        "infos": {**state.infos, "failed_reason": state.failed_reason},
    }


def bulk_tasks(name: str) -> list[int]:
    """ListImportTasks through the proxy: the IDs."""
    listed = utility.list_bulk_insert_tasks(collection_name=name, timeout=TIMEOUT_S, using=USING)
    return [int(state.task_id) for state in listed]


OPS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        *(connect, dataset, observe, create_collection, list_collections, alter_properties),
        *(create_database, drop_database, list_databases, describe_collection),
        *(create_alias, alter_alias, drop_alias, rename_collection),
        *(create_user, update_password, delete_user, create_role, drop_role, add_user, remove_user),
        *(grant, revoke, list_grants),
        *(
            create_partition,
            drop_partition,
            drop_collection,
            fill,
            refusal_of_insert,
            refusal_of_search,
            index_and_load,
            nearest,
            delete,
            count,
            release,
        ),
        *(create_keyed, bulk_insert, bulk_state, bulk_tasks),
    )
}


def main() -> None:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"ok": True, "result": OPS[request["op"]](**request.get("args", {}))}
        except (MilvusException, RpcError, RuntimeError) as error:
            traceback.print_exc(file=sys.stderr)
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
