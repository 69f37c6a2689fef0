"""The tables of a role's metadata: folds of etcd events with look-ups for its handlers.

Everything handed out is immutable, or a copy, or says that it is not to be modified. A table is read between
two steps of the event loop and is then at one revision; hold no iterator across an `await`.
"""

from coordd.meta.tables.access import RoleTable, UserRoleTable, UserTable
from coordd.meta.tables.aliases import Alias, AliasTable
from coordd.meta.tables.collection_view import CREATED, CollectionRow, CollectionView, Partition
from coordd.meta.tables.collections import CollectionTable, DamagedMetadata
from coordd.meta.tables.databases import Database, DatabaseTable
from coordd.meta.tables.family import DEFAULT_DB_ID, DEFAULT_DB_NAME, KeyFamily
from coordd.meta.tables.grants import Grant, GrantTable
from coordd.meta.tables.import_tasks import ImportTaskTable
from coordd.meta.tables.privilege_groups import PrivilegeGroupTable
from coordd.meta.tables.root_coord import RootCoordTables

__all__ = [
    "CREATED",
    "DEFAULT_DB_ID",
    "DEFAULT_DB_NAME",
    "Alias",
    "AliasTable",
    "CollectionRow",
    "CollectionTable",
    "CollectionView",
    "DamagedMetadata",
    "Database",
    "DatabaseTable",
    "Grant",
    "GrantTable",
    "ImportTaskTable",
    "KeyFamily",
    "Partition",
    "PrivilegeGroupTable",
    "RoleTable",
    "RootCoordTables",
    "UserRoleTable",
    "UserTable",
]
