"""OperatePrivilege decided: a privilege on an object given to a role, or taken from it.

A grant is one key (role, type of object, `<db>.<object>`) with a grant ID, and one key per privilege below
that ID; both are written in one transaction here. The ID is a hash of the grant's key, so the same grant gets
the same one again. In the `default` database a grant under the older key, which names no database, is used if
there is one. Granting what is granted, and revoking what is not, succeeds. Revoking leaves the grant's own
key, as in Milvus: it gives nothing by itself.

The order of the checks is Milvus'. Not Milvus': a database whose name has a dot in it is refused, since the
grant would be read back as one in another database (what follows the first dot is the object); names that no
key can carry are refused, too. The proxy lets none of these through. The first interface does not grant
`ReadOnly`, `ReadWrite` and `Admin`, which 2.5 has and 2.3 has not; what of these lies in the metadata is told
to the proxies as it is, and can be revoked.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go, internal/metastore/kv/rootcoord/kv_catalog.go;
branch 2.5 for version `v2` and for groups; texts recorded from a running 2.3.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coordd.etcd import Delete, Put
from coordd.meta.keys import is_segment
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import DEFAULT_DB_NAME, Grant, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import ErrorCode
from coordd.pb.milvus_pb2 import (
    GrantEntity,
    GrantorEntity,
    OperatePrivilegeRequest,
    OperatePrivilegeType,
)
from coordd.rootcoord.access.privileges import (
    ANY,
    BUILTIN_GROUPS,
    BY_OBJECT_TYPE,
    GLOBAL,
    GROUP_PREFIX,
    OBJECT_TYPES,
    OLDER_GROUPS,
    is_builtin_group,
    level_of,
    object_type_of,
    stored_group_name,
    stored_name,
)
from coordd.rootcoord.access.refusals import NO_ROLE, NO_USER, grant_refused, invalid, is_blank

VERSION_2 = "v2"
"""`OperatePrivilegeRequest.version` of 2.5's second interface: no object type, groups are allowed."""

_OPERATIONS = (OperatePrivilegeType.Grant, OperatePrivilegeType.Revoke)


@dataclass(frozen=True, slots=True)
class GrantChange:
    """A checked request: names as they are stored, nothing left out."""

    role: str
    object_type: str
    object_name: str
    db_name: str
    privilege: str
    grantor: str
    revokes: bool

    @property
    def object_key(self) -> str:
        """The last part of the grant's key."""
        return f"{self.db_name}.{self.object_name}"

    @property
    def of_group(self) -> bool:
        """Whether it concerns a group of privileges."""
        return self.privilege.startswith(GROUP_PREFIX)


def check(tables: RootCoordTables, request: OperatePrivilegeRequest) -> GrantChange:
    """The change that a request asks for.

    Raises:
        MilvusError: refused.
    """
    if request.type not in _OPERATIONS:
        raise grant_refused(
            f"invalid operate privilege type, current type: {request.type}, valid value: [Grant, Revoke]"
        )
    if not request.HasField("entity"):
        raise grant_refused("the grant entity in the request is nil")
    entity = request.entity
    _check_object(entity)
    _check_role(tables, entity)
    _check_grantor(tables, entity)
    name = entity.grantor.privilege.name
    if request.version == VERSION_2:
        object_type, object_name = _placed(tables, entity, name), entity.object_name
    else:
        object_type = entity.object.name
        _check_privilege(tables, name, object_type)
        if name in OLDER_GROUPS and request.type == OperatePrivilegeType.Grant:
            raise grant_refused(no_privilege(name))
        named = object_type != GLOBAL or is_builtin_group(name)
        object_name = entity.object_name if named else ANY
    return _checked_names(
        GrantChange(
            role=entity.role.name,
            object_type=object_type,
            object_name=object_name,
            db_name=entity.db_name or DEFAULT_DB_NAME,
            privilege=stored_privilege(tables, name) or "",
            grantor=entity.grantor.user.name,
            revokes=request.type == OperatePrivilegeType.Revoke,
        )
    )


def plan_change(tables: RootCoordTables, layout: MetaLayout, change: GrantChange) -> Sequence[Write]:
    """The writes of a grant or a revocation, none if it is so already; keep them in one transaction."""
    grant = find(tables, change)
    if grant is None and change.revokes:
        return ()
    grant_id = _grant_id(layout, grant, change)
    key = layout.grantee_id(grant_id, change.privilege)
    granted = any(privilege == change.privilege for privilege, _ in tables.grants.privileges(grant_id))
    if change.revokes:
        return (Delete(key),) if granted else ()
    writes: list[Write] = []
    if grant is None:
        of_grant = layout.grantee(change.role, change.object_type, change.object_key)
        writes.append(Put(of_grant, grant_id.encode()))
    if not granted:
        writes.append(Put(key, change.grantor.encode()))
    return writes


def privilege_key(tables: RootCoordTables, layout: MetaLayout, change: GrantChange) -> str:
    """The key that a grant has, or would have, for what it allows."""
    return layout.grantee_id(_grant_id(layout, find(tables, change), change), change.privilege)


def _grant_id(layout: MetaLayout, grant: Grant | None, change: GrantChange) -> str:
    if grant is not None:
        return grant.grant_id
    return layout.new_grant_id(change.role, change.object_type, change.object_key)


def find(tables: RootCoordTables, change: GrantChange) -> Grant | None:
    """The grant that a change is about, if there is one."""
    get = tables.grants.get
    old = None
    if change.db_name == DEFAULT_DB_NAME:
        old = get(change.role, change.object_type, change.object_name)
    return old or get(change.role, change.object_type, change.object_key)


def stored_privilege(tables: RootCoordTables, name: str) -> str | None:
    """What is stored for a privilege or group as clients say it; None if there is none of that name."""
    if name == ANY:
        return ANY
    stored = stored_name(name)
    if stored is not None:
        return stored
    return stored_group_name(name) if name in tables.privilege_groups else None


def _check_object(entity: GrantEntity) -> None:
    if not entity.HasField("object"):
        raise grant_refused("the object entity is nil")
    if entity.object.name not in OBJECT_TYPES:
        raise grant_refused(no_object_type(entity.object.name))


def no_object_type(name: str) -> str:
    """The text for an unknown type of object."""
    return (
        f"not found the object type[name: {name}],"
        f" supported the object types: [{' '.join(sorted(OBJECT_TYPES))}]"
    )


def no_privilege(name: str) -> str:
    """The text for an unknown privilege."""
    return f"not found the privilege name[{name}]"


def _check_role(tables: RootCoordTables, entity: GrantEntity) -> None:
    if not entity.HasField("role"):
        raise grant_refused("the role entity is nil")
    if not entity.role.name:
        raise grant_refused("the name in the role entity is empty")
    if entity.role.name not in tables.roles:
        raise grant_refused(NO_ROLE)


def _check_grantor(tables: RootCoordTables, entity: GrantEntity) -> None:
    if not entity.HasField("grantor"):
        raise grant_refused("the grantor entity is nil")
    grantor: GrantorEntity = entity.grantor
    if not grantor.HasField("user"):
        raise grant_refused("the user entity in the grantor entity is nil")
    if not grantor.user.name:
        raise grant_refused("the name in the user entity of the grantor entity is empty")
    if is_blank(grantor.user.name) or grantor.user.name not in tables.users:
        raise grant_refused(NO_USER)
    if not grantor.HasField("privilege"):
        raise grant_refused("the privilege entity in the grantor entity is nil")


def _check_privilege(tables: RootCoordTables, name: str, object_type: str) -> None:
    """The first interface: a privilege that can be granted on this type of object, no group."""
    if name == ANY:
        return
    if name in tables.privilege_groups:
        raise grant_refused(f"can not operate the custom privilege group [{name}]")
    if name in BUILTIN_GROUPS:
        raise grant_refused(f"can not operate the built-in privilege group [{name}]")
    if stored_name(name) is None or name not in BY_OBJECT_TYPE[object_type]:
        raise grant_refused(no_privilege(name))


def _placed(tables: RootCoordTables, entity: GrantEntity, name: str) -> str:
    """The second interface: any privilege or group, with the names its level needs. Returns the type."""
    if stored_privilege(tables, name) is None:
        raise grant_refused(no_privilege(name))
    members = members_of(tables, name)
    level = level_of(members[0]) if members else ""
    db_name, collection = entity.db_name, entity.object_name
    if level == "Cluster" and not (db_name == collection == ANY):
        text = f"dbName and collectionName should be * for the cluster level privilege: {name}"
    elif level == "Database" and collection not in ("", ANY):
        text = f"collectionName should be * for the database level privilege: {name}"
    elif level == "Collection" and db_name == ANY and collection not in ("", ANY):
        text = f"please specify database name for the collection level privilege: {name}"
    elif members and not level:
        raise grant_refused("not found the privilege level")
    else:
        return object_type_of(name)
    raise invalid(text, ErrorCode.OperatePrivilegeFailure)


def members_of(tables: RootCoordTables, name: str) -> Sequence[str]:
    """The privileges of a group, as clients say them; empty for what is no group."""
    custom = tables.privilege_groups.get(name)
    return BUILTIN_GROUPS.get(name, ()) if custom is None else custom


def _checked_names(change: GrantChange) -> GrantChange:
    if is_blank(change.object_name):
        raise grant_refused("the object name in the grant entity is empty")
    if not change.privilege or is_blank(change.privilege):
        raise grant_refused("the privilege name in the grant entity is empty")
    if "." in change.db_name:
        raise grant_refused(f"the database name {change.db_name} has a dot in it: no grant can name it")
    if not all(map(is_segment, (change.role, change.object_key, change.privilege))):
        raise grant_refused(f"no key can carry a grant on {change.object_key}")
    return change
