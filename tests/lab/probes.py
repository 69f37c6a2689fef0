"""The matrix: requests to every read RPC of RootCoord, made from what a running one holds.

Known and unknown names, ids, databases and aliases, points in time before, at and after every change, message
types that do not fit, headers that route. Names of probes are stable from run to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from coordd.pb import common_pb2, internal_pb2, milvus_pb2, root_coord_pb2
from tests.lab.recorder import Facts, Probe, base
from tests.lab.wire import SERVICES

MAX_UINT64 = (1 << 64) - 1
NO_SUCH_ID = 12345
READ_METHODS = (
    *("GetComponentStates", "GetTimeTickChannel", "GetStatisticsChannel", "AllocTimestamp", "AllocID"),
    *("DescribeCollection", "DescribeCollectionInternal", "ShowCollections", "HasCollection"),
    *("ShowPartitions", "ShowPartitionsInternal", "HasPartition", "DescribeAlias", "ListAliases"),
    *("ListDatabases", "GetCredential", "ListCredUsers", "SelectRole", "SelectUser", "SelectGrant"),
    *("ListPolicy", "ShowConfigurations", "CheckHealth", "ShowSegments"),
)
# 1 January 2020 as a hybrid timestamp: long before any collection of the lab.
LONG_AGO = 1577836800000 << 18
# A day ahead of anything the server has handed out.
DAY = 86_400_000 << 18


def build_probes(facts: Facts) -> list[Probe]:
    """Make the requests. Names are unique. Without the data set: only what needs no collection.

    The data set may lack all but its default database.
    """
    probes = [
        *_plain(),
        *(_about_collections(facts) if facts.collections else ()),
        *_aliases(facts),
        *_users_and_roles(facts),
        *_grants(),
        *_configurations(),
        *_routing(),
        *_wrong_types(),
    ]
    names = [p.name for p in probes]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
    return probes


def _about_collections(facts: Facts) -> Iterator[Probe]:
    yield from _describe(facts)
    yield from _describe_at(facts)
    yield from _show_collections(facts)
    yield from _has_collection(facts)
    yield from _partitions(facts)


def _plain() -> Iterator[Probe]:
    yield Probe("GetComponentStates", "GetComponentStates", milvus_pb2.GetComponentStatesRequest())
    for method in ("GetTimeTickChannel", "GetStatisticsChannel"):
        request = internal_pb2.GetTimeTickChannelRequest()
        if method == "GetStatisticsChannel":
            request = internal_pb2.GetStatisticsChannelRequest()
        yield Probe(method, method, request)
    yield Probe("CheckHealth", "CheckHealth", milvus_pb2.CheckHealthRequest())
    request = milvus_pb2.ListDatabasesRequest(base=base("ListDatabases"))
    yield Probe("ListDatabases", "ListDatabases", request)
    yield Probe("ListDatabases no base", "ListDatabases", milvus_pb2.ListDatabasesRequest())
    for count in (0, 1, 10):
        request = root_coord_pb2.AllocTimestampRequest(base=base("RequestTSO"), count=count)
        yield Probe(f"AllocTimestamp {count}", "AllocTimestamp", request)
        request = root_coord_pb2.AllocIDRequest(base=base("RequestID"), count=count)
        yield Probe(f"AllocID {count}", "AllocID", request)
    for text in ('{"metric_type":"system_info"}', '{"metric_type":"no_such"}', "{}", "{", ""):
        request = milvus_pb2.GetMetricsRequest(base=base("SystemInfo"), request=text)
        yield Probe(f"GetMetrics {text!r}", "GetMetrics", request)


def _describe_probe(method: str, label: str, **fields: Any) -> Probe:
    request = milvus_pb2.DescribeCollectionRequest(base=base("DescribeCollection"), **fields)
    return Probe(f"{method} {label}", method, request)


def _describe(facts: Facts) -> Iterator[Probe]:
    for method in ("DescribeCollection", "DescribeCollectionInternal"):
        for key, seen in facts.collections.items():
            db, name = key.split("/")
            yield _describe_probe(method, f"{key} by name", db_name=db, collection_name=name)
            yield _describe_probe(method, f"{key} by id, no db", collectionID=seen.collectionID)
            yield _describe_probe(method, f"{key} by id and db", db_name=db, collectionID=seen.collectionID)
            for alias in sorted(seen.aliases):
                yield _describe_probe(method, f"{db} by alias {alias}", db_name=db, collection_name=alias)
        some = facts.collections["default/all_types"].collectionID
        forms: dict[str, dict[str, Any]] = {
            "nothing": {},
            "by name, no db": {"collection_name": "all_types"},
            "unknown name, no db": {"collection_name": "no_such"},
            "unknown name": {"db_name": "default", "collection_name": "no_such"},
            "unknown id": {"collectionID": NO_SUCH_ID},
            "unknown id with db": {"db_name": "analytics", "collectionID": NO_SUCH_ID},
            "negative id": {"collectionID": -1},
            "unknown db": {"db_name": "no_such_db", "collection_name": "all_types"},
            "unknown db by id": {"db_name": "no_such_db", "collectionID": some},
            "other db by name": {"db_name": "analytics", "collection_name": "partitioned"},
            "other db by id": {"db_name": "analytics", "collectionID": some},
            "name and another id": {"collection_name": "partitioned", "collectionID": some},
            "dropped db": {"db_name": "dropped_db", "collection_name": "all_types"},
            "dropped alias": {"db_name": "default", "collection_name": "gone_alias"},
            "alias of another db": {"db_name": "empty_db", "collection_name": "latest"},
            "old name": {"db_name": "default", "collection_name": "old_name"},
        }
        for label, fields in forms.items():
            yield _describe_probe(method, label, **fields)
        for key, dropped in facts.dropped.items():
            db, name = key.split("/")
            yield _describe_probe(method, f"dropped {key} by name", db_name=db, collection_name=name)
            id_ = dropped.collectionID
            yield _describe_probe(method, f"dropped {key} by id", collectionID=id_)
            yield _describe_probe(method, f"dropped {key} by id and db", db_name=db, collectionID=id_)


def _moments(facts: Facts, created: int) -> dict[str, int]:
    return {
        "1": 1,
        "long ago": LONG_AGO,
        "just before creation": created - 1,
        "at creation": created,
        "just after creation": created + 1,
        "now": facts.now,
        "tomorrow": facts.now + DAY,
        "max": MAX_UINT64,
    }


def _describe_at(facts: Facts) -> Iterator[Probe]:
    for method in ("DescribeCollection", "DescribeCollectionInternal"):
        keys = ("default/all_types", "analytics/events", "default/new_name", "default/partitioned")
        for key in (one for one in keys if one in facts.collections):
            seen = facts.collections[key]
            db, name = key.split("/")
            for label, when in _moments(facts, seen.created_timestamp).items():
                for how, fields in {
                    "name": {"db_name": db, "collection_name": name},
                    "id": {"collectionID": seen.collectionID},
                    "id and db": {"db_name": db, "collectionID": seen.collectionID},
                }.items():
                    yield _describe_probe(method, f"{key} by {how} at {label}", time_stamp=when, **fields)
        renamed = facts.collections["default/new_name"].created_timestamp
        for label, when in _moments(facts, renamed).items():
            fields = {"db_name": "default", "collection_name": "old_name", "time_stamp": when}
            yield _describe_probe(method, f"old name at {label}", **fields)
        alias = facts.collections["default/partition_key"].created_timestamp
        for label, when in _moments(facts, alias).items():
            fields = {"db_name": "default", "collection_name": "moving", "time_stamp": when}
            yield _describe_probe(method, f"alias moving at {label}", **fields)
        some = facts.collections["default/all_types"].collectionID
        for label, when in _moments(facts, renamed).items():
            for db in ("analytics", "no_such_db"):
                fields = {"db_name": db, "time_stamp": when}
                yield _describe_probe(method, f"unknown in {db} at {label}", collection_name="no", **fields)
                yield _describe_probe(
                    method, f"id of default in {db} at {label}", collectionID=some, **fields
                )
                yield _describe_probe(
                    method, f"unknown id in {db} at {label}", collectionID=NO_SUCH_ID, **fields
                )
            yield _describe_probe(method, f"unknown id at {label}", collectionID=NO_SUCH_ID, time_stamp=when)
        for key, dropped in facts.dropped.items():
            db, name = key.split("/")
            for label, when in _moments(facts, dropped.created_timestamp).items():
                for how, fields in {
                    "name": {"db_name": db, "collection_name": name},
                    "id": {"collectionID": dropped.collectionID},
                    "id and db": {"db_name": db, "collectionID": dropped.collectionID},
                }.items():
                    label_ = f"dropped {key} by {how} at {label}"
                    yield _describe_probe(method, label_, time_stamp=when, **fields)


def _show_collections(facts: Facts) -> Iterator[Probe]:
    def probe(label: str, **fields: Any) -> Probe:
        request = milvus_pb2.ShowCollectionsRequest(base=base("ShowCollections"), **fields)
        return Probe(f"ShowCollections {label}", "ShowCollections", request)

    for db in ("", *facts.databases, "no_such_db", "dropped_db"):
        yield probe(f"of {db!r}", db_name=db)
    halfway = facts.dropped["default/to_drop"].created_timestamp
    for label, when in _moments(facts, halfway).items():
        yield probe(f"of default at {label}", db_name="default", time_stamp=when)
        yield probe(f"of analytics at {label}", db_name="analytics", time_stamp=when)
        yield probe(f"of unknown db at {label}", db_name="no_such_db", time_stamp=when)
    loaded = milvus_pb2.ShowType.Value("InMemory")
    yield probe("in memory", db_name="default", type=loaded)
    yield probe("with names", db_name="default", collection_names=["all_types", "no_such"])
    yield probe("in memory with names", db_name="default", type=loaded, collection_names=["all_types"])


def _has_collection(facts: Facts) -> Iterator[Probe]:
    def probe(label: str, **fields: Any) -> Probe:
        request = milvus_pb2.HasCollectionRequest(base=base("HasCollection"), **fields)
        return Probe(f"HasCollection {label}", "HasCollection", request)

    names = (
        "all_types",
        "events",
        "latest",
        "everything",
        "gone_alias",
        "to_drop",
        "old_name",
        "no_such",
        "",
    )
    for db in ("", *facts.databases, "no_such_db"):
        for name in names:
            yield probe(f"{name!r} of {db!r}", db_name=db, collection_name=name)
    created = facts.dropped["default/to_drop"].created_timestamp
    for label, when in _moments(facts, created).items():
        for name in ("all_types", "everything", "to_drop", "old_name", "gone_alias"):
            yield probe(f"{name} at {label}", db_name="default", collection_name=name, time_stamp=when)


def _partitions(facts: Facts) -> Iterator[Probe]:
    for method in ("ShowPartitions", "ShowPartitionsInternal"):

        def show(label: str, method: str = method, **fields: Any) -> Probe:
            request = milvus_pb2.ShowPartitionsRequest(base=base("ShowPartitions"), **fields)
            return Probe(f"{method} {label}", method, request)

        for key, seen in facts.collections.items():
            db, name = key.split("/")
            yield show(f"{key} by name", db_name=db, collection_name=name)
            yield show(f"{key} by id", collectionID=seen.collectionID)
        events = facts.collections.get(
            "analytics/events", facts.collections["default/all_types"]
        ).collectionID
        yield show("nothing")
        yield show("by name, no db", collection_name="partitioned")
        yield show("unknown name", db_name="default", collection_name="no_such")
        yield show("unknown name, no db", collection_name="no_such")
        yield show("unknown id", collectionID=NO_SUCH_ID)
        yield show("unknown db", db_name="no_such_db", collection_name="partitioned")
        yield show("unknown db by id", db_name="no_such_db", collectionID=events)
        yield show("id of another db", db_name="default", collectionID=events)
        yield show("by alias", db_name="default", collection_name="everything")
        yield show("partition names", collection_name="partitioned", partition_names=["p_2020", "nope"])
        loaded = milvus_pb2.ShowType.Value("InMemory")
        yield show("in memory", collection_name="partitioned", type=loaded)
        for key, dropped in facts.dropped.items():
            db, name = key.split("/")
            yield show(f"dropped {key} by name", db_name=db, collection_name=name)
            yield show(f"dropped {key} by id", collectionID=dropped.collectionID)
    for db in ("", "default", "analytics", "no_such_db"):
        for name in ("partitioned", "events", "latest", "to_drop", "no_such", ""):
            for partition in ("_default", "p_2020", "y2024", "p_gone", "nope", ""):
                request = milvus_pb2.HasPartitionRequest(
                    base=base("HasPartition"), db_name=db, collection_name=name, partition_name=partition
                )
                yield Probe(f"HasPartition {db!r} {name!r} {partition!r}", "HasPartition", request)


def _aliases(facts: Facts) -> Iterator[Probe]:
    names = ("everything", "everything_again", "moving", "latest", "gone_alias", "all_types", "no_such", "")
    for db in ("", *facts.databases, "no_such_db"):
        for alias in names:
            request = milvus_pb2.DescribeAliasRequest(base=base("DescribeAlias"), db_name=db, alias=alias)
            yield Probe(f"DescribeAlias {db!r} {alias!r}", "DescribeAlias", request)
        for name in (
            "",
            "all_types",
            "partition_key",
            "partitioned",
            "events",
            "to_drop",
            "everything",
            "no",
        ):
            request = milvus_pb2.ListAliasesRequest(
                base=base("ListAliases"), db_name=db, collection_name=name
            )
            yield Probe(f"ListAliases {db!r} {name!r}", "ListAliases", request)


def _users_and_roles(facts: Facts) -> Iterator[Probe]:
    request = milvus_pb2.ListCredUsersRequest(base=base("ListCredUsernames"))
    yield Probe("ListCredUsers", "ListCredUsers", request)
    yield Probe("ListCredUsers no base", "ListCredUsers", milvus_pb2.ListCredUsersRequest())
    for user in (*facts.users, "mallory", "no_such", ""):
        request = root_coord_pb2.GetCredentialRequest(base=base("GetCredential"), username=user)
        yield Probe(f"GetCredential {user!r}", "GetCredential", request)
        for full in (True, False):
            request = milvus_pb2.SelectUserRequest(
                base=base("SelectUser"), user=milvus_pb2.UserEntity(name=user), include_role_info=full
            )
            yield Probe(f"SelectUser {user!r} roles={full}", "SelectUser", request)
    for role in (*facts.roles, "dropped_role", "no_such", ""):
        for full in (True, False):
            request = milvus_pb2.SelectRoleRequest(
                base=base("SelectRole"), role=milvus_pb2.RoleEntity(name=role), include_user_info=full
            )
            yield Probe(f"SelectRole {role!r} users={full}", "SelectRole", request)
    for full in (True, False):
        request = milvus_pb2.SelectRoleRequest(base=base("SelectRole"), include_user_info=full)
        yield Probe(f"SelectRole all users={full}", "SelectRole", request)
        request = milvus_pb2.SelectUserRequest(base=base("SelectUser"), include_role_info=full)
        yield Probe(f"SelectUser all roles={full}", "SelectUser", request)
    yield Probe("SelectRole no base", "SelectRole", milvus_pb2.SelectRoleRequest())
    yield Probe("SelectUser no base", "SelectUser", milvus_pb2.SelectUserRequest())
    request = internal_pb2.ListPolicyRequest(base=base("ListPolicy"))
    yield Probe("ListPolicy", "ListPolicy", request)
    yield Probe("ListPolicy no base", "ListPolicy", internal_pb2.ListPolicyRequest())


def _grants() -> Iterator[Probe]:
    def probe(label: str, **fields: Any) -> Probe:
        request = milvus_pb2.SelectGrantRequest(
            base=base("SelectGrant"), entity=milvus_pb2.GrantEntity(**fields)
        )
        return Probe(f"SelectGrant {label}", "SelectGrant", request)

    role = milvus_pb2.RoleEntity
    kind = milvus_pb2.ObjectEntity
    for name in ("reader", "writer", "public", "admin", "unused", "no_such", ""):
        for db in ("", "default", "analytics", "*", "no_such_db"):
            yield probe(f"{name!r} in {db!r}", role=role(name=name), db_name=db)
    for name, object_type, object_name, db in [
        ("reader", "Collection", "all_types", ""),
        ("reader", "Collection", "all_types", "default"),
        ("reader", "Collection", "all_types", "analytics"),
        ("reader", "Collection", "*", ""),
        ("reader", "Collection", "", ""),
        ("reader", "Collection", "events", "analytics"),
        ("reader", "Collection", "events", "*"),
        ("reader", "Collection", "no_such", ""),
        ("reader", "Global", "*", "*"),
        ("reader", "Global", "*", ""),
        ("reader", "Global", "something", ""),
        ("writer", "User", "*", ""),
        ("writer", "User", "alice", ""),
        ("writer", "Global", "*", "analytics"),
        ("writer", "Collection", "all_types", ""),
        ("reader", "NoSuchType", "all_types", ""),
        ("reader", "", "all_types", ""),
        ("no_such", "Collection", "all_types", ""),
        ("", "Collection", "all_types", ""),
        ("public", "Collection", "*", ""),
        ("public", "Global", "*", "analytics"),
    ]:
        label = f"{name!r} on {object_type!r} {object_name!r} in {db!r}"
        fields = {"object": kind(name=object_type), "object_name": object_name, "db_name": db}
        yield probe(label, role=role(name=name), **fields)
    yield probe("empty entity")
    yield Probe(
        "SelectGrant no entity", "SelectGrant", milvus_pb2.SelectGrantRequest(base=base("SelectGrant"))
    )
    request = milvus_pb2.SelectGrantRequest(entity=milvus_pb2.GrantEntity(role=role(name="reader")))
    yield Probe("SelectGrant no base", "SelectGrant", request)
    yield probe("no role", object=kind(name="Collection"), object_name="all_types")


def _configurations() -> Iterator[Probe]:
    patterns = ("", "rootcoord", "rootCoord", "rootCoord.port", "etcd", "etcd.endpoints", "ttl", "kafka")
    for pattern in (*patterns, "minio", "datacoord", "querycoord", "proxy", "msgchannel", "no.such", "e.e"):
        request = internal_pb2.ShowConfigurationsRequest(base=base("SystemInfo"), pattern=pattern)
        yield Probe(f"ShowConfigurations {pattern!r}", "ShowConfigurations", request)
    yield Probe("ShowConfigurations no base", "ShowConfigurations", internal_pb2.ShowConfigurationsRequest())


def _routing() -> Iterator[Probe]:
    """Headers that decide whether a server takes a call at all."""
    request = milvus_pb2.ListDatabasesRequest(base=base("ListDatabases"))
    headers = {
        "right cluster": ("cluster", "by-dev"),
        "wrong cluster": ("cluster", "another"),
        "empty cluster": ("cluster", ""),
        "wrong serverid": ("serverid", "987654321"),
        "negative serverid": ("serverid", "-1"),
        "unparsable serverid": ("serverid", "twelve"),
        "empty serverid": ("serverid", ""),
        "sourceid": ("sourceid", "QEBtaWx2dXMtbWVtYmVyQEA="),
    }
    for label, header in headers.items():
        yield Probe(f"header {label}", "ListDatabases", request, (header,))
        yield Probe(
            f"header {label} on states",
            "GetComponentStates",
            milvus_pb2.GetComponentStatesRequest(),
            (header,),
        )
    both = (("cluster", "another"), ("serverid", "987654321"))
    yield Probe("header wrong cluster and serverid", "ListDatabases", request, both)


def _wrong_types() -> Iterator[Probe]:
    """A base of another type than the method's: refused by some methods, taken by others."""
    wrong = base("Undefined"), base("CreateAlias")
    fields: dict[str, dict[str, Any]] = {
        "DescribeCollection": {"collection_name": "all_types"},
        "DescribeCollectionInternal": {"collection_name": "all_types"},
        "ShowCollections": {},
        "HasCollection": {"collection_name": "all_types"},
        "ShowPartitions": {"collection_name": "all_types"},
        "ShowPartitionsInternal": {"collection_name": "all_types"},
        "HasPartition": {"collection_name": "all_types", "partition_name": "_default"},
        "DescribeAlias": {"alias": "everything"},
        "ListAliases": {},
        "ListDatabases": {},
        "ListCredUsers": {},
        "SelectRole": {},
        "SelectUser": {},
    }
    service = SERVICES["rootcoord"]
    for method, more in fields.items():
        name = service.methods_by_name[method].input_type.name
        for type_ in wrong:
            kind = common_pb2.MsgType.Name(type_.msg_type)
            yield Probe(f"{method} of type {kind}", method, getattr(milvus_pb2, name)(base=type_, **more))


def state_probes() -> list[Probe]:
    """One plain request per read method, for servers that are not (yet) serving."""
    service = SERVICES["rootcoord"]
    probes = []
    for method in READ_METHODS:
        request = GetMessageClass(service.methods_by_name[method].input_type)()
        if "base" in request.DESCRIPTOR.fields_by_name:
            request.base.SetInParent()
        probes.append(Probe(method, method, request))
    return probes


def no_base_probes() -> list[Probe]:
    """Requests without ``base``, which crash some handlers of a real RootCoord: for a scratch instance."""
    return [
        Probe(f"{method} no base", method, request)
        for method, request in {
            "DescribeCollection": milvus_pb2.DescribeCollectionRequest(collection_name="all_types"),
            "DescribeCollectionInternal": milvus_pb2.DescribeCollectionRequest(collection_name="all_types"),
            "ShowCollections": milvus_pb2.ShowCollectionsRequest(),
            "HasCollection": milvus_pb2.HasCollectionRequest(collection_name="all_types"),
            "ShowPartitions": milvus_pb2.ShowPartitionsRequest(collection_name="all_types"),
            "ShowPartitionsInternal": milvus_pb2.ShowPartitionsRequest(collection_name="all_types"),
            "HasPartition": milvus_pb2.HasPartitionRequest(
                collection_name="all_types", partition_name="_default"
            ),
            "DescribeAlias": milvus_pb2.DescribeAliasRequest(alias="everything"),
            "ListAliases": milvus_pb2.ListAliasesRequest(),
            "GetCredential": root_coord_pb2.GetCredentialRequest(username="root"),
            "GetMetrics": milvus_pb2.GetMetricsRequest(request='{"metric_type":"system_info"}'),
            "AllocTimestamp": root_coord_pb2.AllocTimestampRequest(count=1),
            "AllocID": root_coord_pb2.AllocIDRequest(count=1),
        }.items()
    ]
