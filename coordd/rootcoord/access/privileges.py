"""Names of privileges: as clients say them, as they are stored, what they apply to, and Milvus' own groups.

Clients say `Search`, etcd and the proxies' policies `PrivilegeSearch`. A group `g` of privileges is stored as
`PrivilegeGroup<g>`. `*` is every privilege and is spelled alike everywhere.

Source of truth: Milvus 2.3.5 pkg/util/constant.go; branch 2.5 of it, and pkg/util/paramtable/rbac_param.go,
for what came later: further privileges and all groups. Both are served, whatever the version of the caller.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from coordd.pb.common_pb2 import ObjectPrivilege, ObjectType

ANY: Final = "*"
PRIVILEGE_PREFIX: Final = "Privilege"
GROUP_PREFIX: Final = "PrivilegeGroup"
GLOBAL: Final = "Global"
OBJECT_TYPES: Final = frozenset(ObjectType.DESCRIPTOR.values_by_name)
PRIVILEGES: Final = frozenset(ObjectPrivilege.DESCRIPTOR.values_by_name)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


BY_OBJECT_TYPE: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "Collection": frozenset(
            _names(
                """
                Load Release Compaction Insert Delete Upsert GetStatistics CreateIndex IndexDetail DropIndex
                Search Flush Query LoadBalance Import GetLoadingProgress GetLoadState CreatePartition
                DropPartition ShowPartitions HasPartition GetFlushState ReadOnly ReadWrite
                """
            )
        ),
        "Global": frozenset(
            _names(
                """
                All CreateCollection DropCollection DescribeCollection ShowCollections RenameCollection
                CreateOwnership DropOwnership SelectOwnership ManageOwnership BackupRBAC RestoreRBAC
                CreateResourceGroup UpdateResourceGroups DropResourceGroup DescribeResourceGroup
                ListResourceGroups TransferReplica TransferNode FlushAll CreateDatabase DropDatabase
                ListDatabases AlterDatabase DescribeDatabase CreateAlias DropAlias DescribeAlias ListAliases
                Admin CreatePrivilegeGroup DropPrivilegeGroup ListPrivilegeGroups OperatePrivilegeGroup
                ClusterReadOnly ClusterReadWrite ClusterAdmin DatabaseReadOnly DatabaseReadWrite DatabaseAdmin
                CollectionReadOnly CollectionReadWrite CollectionAdmin
                """
            )
        ),
        "User": frozenset({"UpdateUser", "SelectUser"}),
    }
)
"""Which privileges, as clients say them, can be granted on objects of a type."""

_CLUSTER_READ: Final = _names(
    "ListDatabases SelectOwnership SelectUser DescribeResourceGroup ListResourceGroups ListPrivilegeGroups"
)
_CLUSTER_WRITE: Final = (
    *_CLUSTER_READ,
    *_names("FlushAll TransferNode TransferReplica UpdateResourceGroups"),
)
_CLUSTER_ADMIN: Final = (
    *_CLUSTER_WRITE,
    *_names(
        """
        BackupRBAC RestoreRBAC CreateDatabase DropDatabase CreateOwnership DropOwnership ManageOwnership
        CreateResourceGroup DropResourceGroup UpdateUser RenameCollection CreatePrivilegeGroup
        DropPrivilegeGroup OperatePrivilegeGroup
        """
    ),
)
_DATABASE_READ: Final = _names("ShowCollections DescribeDatabase")
_DATABASE_WRITE: Final = (*_DATABASE_READ, "AlterDatabase")
_DATABASE_ADMIN: Final = (*_DATABASE_WRITE, "CreateCollection", "DropCollection")
_COLLECTION_READ: Final = _names(
    """
    Query Search IndexDetail GetFlushState GetLoadState GetLoadingProgress HasPartition ShowPartitions
    DescribeCollection DescribeAlias GetStatistics ListAliases
    """
)
_COLLECTION_WRITE: Final = (
    *_COLLECTION_READ,
    *_names(
        """
        Load Release Insert Delete Upsert Import Flush Compaction LoadBalance CreateIndex DropIndex
        CreatePartition DropPartition
        """
    ),
)
_COLLECTION_ADMIN: Final = (*_COLLECTION_WRITE, "CreateAlias", "DropAlias")

BUILTIN_GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "ClusterReadOnly": _CLUSTER_READ,
        "ClusterReadWrite": _CLUSTER_WRITE,
        "ClusterAdmin": _CLUSTER_ADMIN,
        "DatabaseReadOnly": _DATABASE_READ,
        "DatabaseReadWrite": _DATABASE_WRITE,
        "DatabaseAdmin": _DATABASE_ADMIN,
        "CollectionReadOnly": _COLLECTION_READ,
        "CollectionReadWrite": _COLLECTION_WRITE,
        "CollectionAdmin": _COLLECTION_ADMIN,
    }
)
"""Members of the groups that are always there, in Milvus' order."""

OLDER_GROUPS: Final = frozenset({"ReadOnly", "ReadWrite", "Admin"})
"""Built-in groups that proxies of 2.5 take apart themselves, by settings of their own; to those of 2.3 they
are no privilege, so that a grant would give nothing."""

_LEVELS: Final = (
    ("Cluster", _CLUSTER_ADMIN),
    ("Database", _DATABASE_ADMIN),
    ("Collection", _COLLECTION_ADMIN),
)


def stored_name(name: str) -> str | None:
    """What is stored for a privilege or built-in group that clients call `name`; None if there is none."""
    for candidate in (f"{PRIVILEGE_PREFIX}{name}", f"{GROUP_PREFIX}{name}"):
        if candidate in PRIVILEGES:
            return candidate
    return None


def stored_group_name(name: str) -> str:
    """What is stored for a group that users have made."""
    return f"{GROUP_PREFIX}{name}"


def api_name(stored: str) -> str:
    """What clients call it: `PrivilegeSearch` is `Search`; "" for what is neither privilege nor group."""
    if stored == ANY:
        return ANY
    if stored.startswith(GROUP_PREFIX):
        return stored.removeprefix(GROUP_PREFIX)
    return stored.removeprefix(PRIVILEGE_PREFIX) if stored in PRIVILEGES else ""


def is_builtin_group(name: str) -> bool:
    """Whether `name`, as clients say it, is a group of Milvus' own."""
    return f"{GROUP_PREFIX}{name}" in PRIVILEGES


def object_type_of(name: str) -> str:
    """The type of object that a privilege or group, as clients say it, is granted on; groups: Global."""
    for object_type, names in BY_OBJECT_TYPE.items():
        if name in names:
            return object_type
    return GLOBAL


def level_of(name: str) -> str:
    """Cluster, Database or Collection, "" for what has no level: a privilege group holds one level only."""
    return next((level for level, names in _LEVELS if name in names), "")
