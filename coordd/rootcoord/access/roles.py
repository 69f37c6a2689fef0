"""CreateRole, DropRole and OperateUserRole decided.

A role is one key, and so is each user's having it. As in Milvus there is no protection of `admin` and
`public` here (the proxy has it), and adding or removing twice succeeds.

Better than Milvus: a role that has privileges in any database cannot be dropped (there only those in
`default` and in all databases count, so that the rest came back with the next role of that name); and a role
that is made has no users and no privileges, whatever an older Milvus left behind of one of that name.

Source of truth: Milvus 2.3.5 internal/rootcoord/{root_coord,meta_table}.go,
internal/metastore/kv/rootcoord/kv_catalog.go; branch 2.5 for `force`; texts recorded from a running 2.3.5.
"""

from collections.abc import Collection, Sequence

from google.protobuf import text_format

from coordd.etcd import Delete, Put
from coordd.meta.codecs import EMPTY
from coordd.meta.keys import is_segment
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import ErrorCode
from coordd.pb.milvus_pb2 import OperateUserRoleType, RoleEntity
from coordd.rootcoord.access.refusals import NO_ROLE, NO_USER, is_blank, refused
from coordd.rpc.status import PrivilegeNotPermitted


def plan_create(
    tables: RootCoordTables, layout: MetaLayout, role: str, *, limit: int
) -> Sequence[Sequence[Write]]:
    """The writes that make a role, its key last. `limit`: proxy.maxRoleNum, the default roles count.

    In groups that stay together: all may go into one transaction, or one after the other. What an older role
    of that name has left behind, users and privileges, is taken away first.

    Raises:
        MilvusError: refused.
    """
    legacy = ErrorCode.CreateRoleFailure
    if is_blank(role):
        raise refused("the role name in the role info is empty", legacy)
    if role in tables.roles:
        raise refused(f"role [{_as_go_prints(role)}] already exists", legacy)
    if len(tables.roles) >= limit:
        raise refused("unable to create role because the number of roles has reached the limit", legacy)
    if not is_segment(role):
        raise refused(f"invalid role name {role}: no key can carry it", legacy)
    return [*plan_rest(tables, layout, role), (Put(layout.role(role), EMPTY),)]


def check_drop(tables: RootCoordTables, role: str, *, builtin: Collection[str], force: bool) -> None:
    """Whether a role may be dropped. `builtin`: the roles of builtinRoles; `force`: with its privileges.

    Raises:
        MilvusError: refused.
    """
    if role in builtin:
        raise PrivilegeNotPermitted().wrap(f"the role[{role}] is a builtin role, which can't be dropped")
    if role not in tables.roles:
        raise refused(NO_ROLE, ErrorCode.DropRoleFailure)
    if not force and any(tables.grants.privileges(grant.grant_id) for grant in tables.grants.of_role(role)):
        raise refused(
            "fail to drop the role that it has privileges. Use REVOKE API to revoke privileges",
            ErrorCode.DropRoleFailure,
        )


def plan_drop(
    tables: RootCoordTables, layout: MetaLayout, role: str, *, force: bool
) -> Sequence[Sequence[Write]]:
    """The writes that drop a role: its key first, who has it, its privileges if `force`; none if it is gone.

    In groups that stay together: all may go into one transaction, or one after the other; without its key
    nothing of it counts. Grants without privileges stay, as in Milvus: they give nothing, and a later grant
    finds them again.
    """
    if role not in tables.roles:
        return ()
    privileges = _privileges(tables, layout, role) if force else []
    return [(Delete(layout.role(role)),), *_users(tables, layout, role), *privileges]


def plan_rest(tables: RootCoordTables, layout: MetaLayout, role: str) -> Sequence[Sequence[Write]]:
    """The writes that delete what is left of a role that is not there; none if it is."""
    if role in tables.roles:
        return ()
    return [*_users(tables, layout, role), *_privileges(tables, layout, role)]


def _as_go_prints(role: str) -> str:
    """`name:"reader"`: a RoleEntity as text, which in Milvus has no space after the colon."""
    return text_format.MessageToString(RoleEntity(name=role), as_one_line=True, as_utf8=False).replace(
        ": ", ":", 1
    )


def _users(tables: RootCoordTables, layout: MetaLayout, role: str) -> list[tuple[Write]]:
    return [(Delete(layout.user_role(user, role)),) for user in tables.user_roles.users_of(role)]


def _privileges(tables: RootCoordTables, layout: MetaLayout, role: str) -> list[tuple[Write]]:
    keys = (
        layout.grantee_id(grant.grant_id, privilege)
        for grant in tables.grants.of_role(role)
        for privilege, _ in tables.grants.privileges(grant.grant_id)
    )
    return [(Delete(key),) for key in dict.fromkeys(keys)]


def plan_user_role(
    tables: RootCoordTables, layout: MetaLayout, user: str, role: str, operation: int
) -> Sequence[Write]:
    """The write that gives a user a role or takes it from him, none if it is so.

    `operation`: an OperateUserRoleType. A role can be taken from a user who does not exist.

    Raises:
        MilvusError: refused.
    """
    legacy = ErrorCode.OperateUserRoleFailure
    removes = operation == OperateUserRoleType.RemoveUserFromRole
    if role not in tables.roles:
        raise refused(NO_ROLE, legacy)
    if not removes and (is_blank(user) or user not in tables.users):
        raise refused(NO_USER, legacy)
    if is_blank(user) or not (removes or operation == OperateUserRoleType.AddUserToRole):
        raise refused("fail to execute task when operate the user and role", legacy)
    if not is_segment(user):
        if removes:
            return ()
        raise refused(f"invalid user name {user}: no key can carry it", legacy)
    if removes != ((user, role) in tables.user_roles):
        return ()
    key = layout.user_role(user, role)
    return (Delete(key),) if removes else (Put(key, EMPTY),)
