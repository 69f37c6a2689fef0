"""RootCoord's tables together, and the look-ups that need more than one.

Source of truth: Milvus 2.3.5 internal/rootcoord/meta_table.go.
"""

from coordd.meta.fold import Table
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.access import RoleTable, UserRoleTable, UserTable
from coordd.meta.tables.aliases import AliasTable
from coordd.meta.tables.collection_view import CollectionRow
from coordd.meta.tables.collections import CollectionTable
from coordd.meta.tables.databases import DatabaseTable
from coordd.meta.tables.ddl_mark import DdlMark
from coordd.meta.tables.grants import GrantTable
from coordd.meta.tables.import_tasks import ImportTaskTable
from coordd.meta.tables.privilege_groups import PrivilegeGroupTable


class RootCoordTables:
    """All metadata that RootCoord serves. Give `tables` to a `Fold`; read the attributes.

    Their range starts at `layout.import_task_prefix`.
    """

    def __init__(self, layout: MetaLayout) -> None:
        self.databases = DatabaseTable(layout)
        self.collections = CollectionTable(layout)
        self.aliases = AliasTable(layout)
        self.users = UserTable(layout)
        self.roles = RoleTable(layout)
        self.user_roles = UserRoleTable(layout)
        self.grants = GrantTable(layout)
        self.privilege_groups = PrivilegeGroupTable(layout)
        self.import_tasks = ImportTaskTable(layout)
        self.ddl_mark = DdlMark(layout, "rootcoord")
        self.access_mark = DdlMark(layout, "rootcoord-access")
        self.import_mark = DdlMark(layout, "rootcoord-import")
        self._parts = (
            self.databases,
            self.collections,
            self.aliases,
            self.users,
            self.roles,
            self.user_roles,
            self.grants,
            self.privilege_groups,
            self.import_tasks,
            self.ddl_mark,
            self.access_mark,
            self.import_mark,
        )
        self.tables: tuple[Table, ...] = tuple(family for part in self._parts for family in part.families)

    @property
    def generation(self) -> int:
        """Grows with every change of any table: an answer made at one generation holds until the next."""
        return sum(part.generation for part in self._parts)

    def resolve(self, db_id: int, name: str) -> CollectionRow | None:
        """The available collection that `name` stands for; an alias goes before a collection of its name.

        As in Milvus, an alias of a collection that is not available finds nothing, even if an available
        collection has the alias' name.
        """
        alias = self.aliases.get(db_id, name)
        if alias is None:
            return self.collections.find(db_id, name)
        row = self.collections.get(alias.collection_id)
        return row if row is not None and row.available else None
