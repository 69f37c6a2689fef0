"""BackupRBAC and RestoreRBAC: users, roles, grants and privilege groups as one message, and back.

The backup leaves out `root`, `admin` and `public` with its grants, which every cluster has; passwords go with
it as bcrypt hashes. A restore refuses names that exist. Its writes are ordered so that it can be broken off
between any two transactions and then simply be repeated: first grants and users' roles, which nobody looks at
as long as their role or user does not exist; then the names themselves, a hundred in one transaction. A
repetition finds each hundred made (`is_made`), or makes it. The limits on users and roles are not applied, as
in Milvus.

Better than Milvus: all is checked before anything is written, so nothing has to be rolled back; a grant of
`*`, which a backup may contain, is restored; and who is restored has nothing but what the backup says,
whatever an older one of that name, or another restore that was broken off, has left behind.

Source of truth: Milvus branch 2.5 internal/metastore/kv/rootcoord/kv_catalog.go.
"""

from collections.abc import Iterator, Sequence

from coordd.etcd import Put
from coordd.meta.codecs import EMPTY, encode_credential
from coordd.meta.keys import is_segment
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import DEFAULT_DB_NAME, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.milvus_pb2 import (
    GrantEntity,
    GrantorEntity,
    ObjectEntity,
    PrivilegeEntity,
    PrivilegeGroupInfo,
    RBACMeta,
    RoleEntity,
    UserEntity,
    UserInfo,
)
from coordd.rootcoord.access.grants import GrantChange, plan_change, privilege_key
from coordd.rootcoord.access.groups import group_info, put_group
from coordd.rootcoord.access.privileges import ANY, api_name, stored_group_name, stored_name
from coordd.rootcoord.access.refusals import grant_refused
from coordd.rootcoord.access.roles import plan_rest as rest_of_role
from coordd.rootcoord.access.users import plan_rest as rest_of_user
from coordd.rootcoord.bootstrap import DEFAULT_ROLES, ROOT_USER

NAMES_PER_PART = 100
"""Roles, groups and users in one transaction; etcd takes 128 operations."""


def backup(tables: RootCoordTables) -> RBACMeta:
    """Everything that can be restored; lists in the order of the keys."""
    roles = [role for role in tables.roles.names() if role not in DEFAULT_ROLES]
    return RBACMeta(
        users=[_user(tables, user) for user in tables.users.names() if user != ROOT_USER],
        roles=[RoleEntity(name=role) for role in roles],
        grants=[grant for role in roles for grant in _grants(tables, role)],
        privilege_groups=[group_info(name, members) for name, members in tables.privilege_groups],
    )


def cut(meta: RBACMeta) -> list[RBACMeta]:
    """The names of a backup, without grants, in parts that one transaction holds; one may be empty."""
    parts = [RBACMeta()]
    for kind, items in (
        ("roles", meta.roles),
        ("privilege_groups", meta.privilege_groups),
        ("users", meta.users),
    ):
        for item in items:
            if _names_in(parts[-1]) == NAMES_PER_PART:
                parts.append(RBACMeta())
            getattr(parts[-1], kind).append(item)
    return parts


def check(tables: RootCoordTables, meta: RBACMeta) -> None:
    """Whether a backup can be restored.

    Raises:
        MilvusError: refused.
    """
    _check_absent(tables, meta)
    named = (
        ("role", [role.name for role in meta.roles]),
        ("privilege group", [group.group_name for group in meta.privilege_groups]),
        ("user", [user.user for user in meta.users]),
    )
    for kind, names in named:
        if len(set(names)) != len(names):
            raise grant_refused(f"a {kind} is named twice")
    for kind, names in (*named, ("role", [role.name for user in meta.users for role in user.roles])):
        for name in names:
            if not is_segment(name):
                raise grant_refused(f"{kind} [{name}]: no key can carry that name")
    for grant in meta.grants:
        _grant_change(tables, meta, grant)


def plan_early(tables: RootCoordTables, layout: MetaLayout, meta: RBACMeta) -> Sequence[Write]:
    """The grants and users' roles that are not there yet, in any order and any number of transactions; what
    is there of them under names that do not exist, and is not in the backup, is taken away.
    """
    writes: dict[str, Write] = {}
    wanted: set[str] = set()
    for grant in meta.grants:
        change = _grant_change(tables, meta, grant)
        wanted.add(privilege_key(tables, layout, change))
        for write in plan_change(tables, layout, change):
            writes.setdefault(write.key, write)
    for user in meta.users:
        for role in user.roles:
            key = layout.user_role(user.user, role.name)
            wanted.add(key)
            if (user.user, role.name) not in tables.user_roles:
                writes[key] = Put(key, EMPTY)
    left = [
        *(group for role in meta.roles for group in rest_of_role(tables, layout, role.name)),
        *(group for user in meta.users for group in rest_of_user(tables, layout, user.user)),
    ]
    writes |= {write.key: write for group in left for write in group if write.key not in wanted}
    return tuple(writes.values())


def plan_names(tables: RootCoordTables, layout: MetaLayout, part: RBACMeta) -> Sequence[Write]:
    """The writes that make the roles, groups and users of one part; keep them in one transaction.

    Raises:
        MilvusError: one of them exists.
    """
    _check_absent(tables, part)
    return (
        *(Put(layout.role(role.name), EMPTY) for role in part.roles),
        *(put_group(layout, group.group_name, _members(group)) for group in part.privilege_groups),
        *(Put(layout.user(user.user), encode_credential(user.password)) for user in part.users),
    )


def is_made(tables: RootCoordTables, part: RBACMeta) -> bool:
    """Whether the roles, groups and users of one part are there, as it says them."""
    groups, users = tables.privilege_groups, tables.users
    return (
        all(role.name in tables.roles for role in part.roles)
        and all(groups.get(one.group_name) == _members(one) for one in part.privilege_groups)
        and all(users.encrypted_password(user.user) == user.password for user in part.users)
    )


def _check_absent(tables: RootCoordTables, meta: RBACMeta) -> None:
    for role in meta.roles:
        if role.name in tables.roles:
            raise grant_refused(f"role [{role.name}] already exists")
    for group in meta.privilege_groups:
        if group.group_name in tables.privilege_groups:
            raise grant_refused(f"privilege group [{group.group_name}] already exists")
    for user in meta.users:
        if user.user in tables.users or tables.users.is_damaged(user.user):
            raise grant_refused(f"user [{user.user}] already exists")


def _members(group: PrivilegeGroupInfo) -> tuple[str, ...]:
    return tuple(dict.fromkeys(privilege.name for privilege in group.privileges))


def _names_in(part: RBACMeta) -> int:
    return len(part.roles) + len(part.privilege_groups) + len(part.users)


def _user(tables: RootCoordTables, user: str) -> UserInfo:
    return UserInfo(
        user=user,
        password=tables.users.encrypted_password(user) or "",
        roles=[RoleEntity(name=role) for role in tables.user_roles.roles_of(user) if role in tables.roles],
    )


def _grants(tables: RootCoordTables, role: str) -> Iterator[GrantEntity]:
    for grant in tables.grants.of_role(role):
        for privilege, grantor in tables.grants.privileges(grant.grant_id):
            yield GrantEntity(
                role=RoleEntity(name=role),
                object=ObjectEntity(name=grant.object_type),
                object_name=grant.object_name,
                db_name=grant.db_name,
                grantor=GrantorEntity(
                    user=UserEntity(name=grantor), privilege=PrivilegeEntity(name=api_name(privilege))
                ),
            )


def _grant_change(tables: RootCoordTables, meta: RBACMeta, grant: GrantEntity) -> GrantChange:
    name = grant.grantor.privilege.name
    known = {group.group_name for group in meta.privilege_groups}
    if name == ANY:
        stored = ANY
    elif (found := stored_name(name)) is not None:
        stored = found
    elif name in known or name in tables.privilege_groups:
        stored = stored_group_name(name)
    else:
        raise grant_refused(f"privilege group [{name}] does not exist")
    change = GrantChange(
        role=grant.role.name,
        object_type=grant.object.name,
        object_name=grant.object_name,
        db_name=grant.db_name or DEFAULT_DB_NAME,
        privilege=stored,
        grantor=grant.grantor.user.name,
        revokes=False,
    )
    if not all(map(is_segment, (change.role, change.object_type, change.object_key, stored))):
        raise grant_refused(f"no key can carry a grant on {change.object_type} {change.object_key}")
    return change
