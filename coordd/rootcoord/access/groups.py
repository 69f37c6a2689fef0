"""Privilege groups of Milvus 2.5: made, dropped, changed, listed.

A group is one key with its privileges as clients say them; a grant of the group is stored by the group's
name. Proxies of 2.3 know no groups: what they are told of a role's privileges has the groups taken apart
(`coordd.rootcoord.access.policies`).

Better than Milvus: adding one group to another adds its members (there it fails if there is a third group),
and the check that all are of one level looks at these.

Source of truth: Milvus branch 2.5 internal/rootcoord/{meta_table,rbac_task}.go.
"""

from collections.abc import Iterable, Sequence

from coordd.etcd import Delete, Put
from coordd.meta.codecs import encode_proto
from coordd.meta.keys import is_clean_path
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import ErrorCode
from coordd.pb.milvus_pb2 import (
    OperatePrivilegeGroupRequest,
    OperatePrivilegeGroupType,
    PrivilegeEntity,
    PrivilegeGroupInfo,
)
from coordd.rootcoord.access.privileges import (
    BUILTIN_GROUPS,
    is_builtin_group,
    level_of,
    stored_group_name,
    stored_name,
)
from coordd.rootcoord.access.refusals import invalid, is_blank, refused

NO_NAME = "the privilege group name is empty"


def plan_create(tables: RootCoordTables, layout: MetaLayout, name: str) -> Sequence[Write]:
    """The write that makes a group without members.

    Raises:
        MilvusError: refused.
    """
    legacy = ErrorCode.CreatePrivilegeGroupFailure
    if is_blank(name):
        raise refused(NO_NAME, legacy)
    if name in tables.privilege_groups:
        raise invalid(f"privilege group name [{name}] is defined by users", legacy)
    if stored_name(name) is not None:
        text = (
            f"privilege group name [{name}] is defined by built in privileges or privilege groups in system"
        )
        raise invalid(text, legacy)
    if not is_clean_path(stored_group_name(name)) or "/" in name:
        raise invalid(f"no key can carry a privilege group [{name}]", legacy)
    return (put_group(layout, name, ()),)


def plan_drop(tables: RootCoordTables, layout: MetaLayout, name: str) -> Sequence[Write]:
    """The write that drops a group, none if there is no such group.

    Raises:
        MilvusError: refused.
    """
    legacy = ErrorCode.DropPrivilegeGroupFailure
    if is_blank(name):
        raise refused(NO_NAME, legacy)
    if name not in tables.privilege_groups:
        return ()
    roles = roles_with(tables, name)
    if roles:
        text = f"privilege group [{name}] is used by role [{roles[0]}], Use REVOKE API to revoke it first"
        raise refused(text, legacy)
    return (Delete(layout.privilege_group(name)),)


def plan_change(
    tables: RootCoordTables, layout: MetaLayout, request: OperatePrivilegeGroupRequest
) -> Sequence[Write]:
    """The write that adds members to a group or removes some, none if nothing changes.

    Raises:
        MilvusError: refused.
    """
    legacy, name = ErrorCode.OperatePrivilegeGroupFailure, request.group_name
    if is_blank(name):
        raise refused(NO_NAME, legacy)
    if is_builtin_group(name):
        text = f"the privilege group name [{name}] is defined by built in privilege groups in system"
        raise invalid(text, legacy)
    members = tables.privilege_groups.get(name)
    if members is None:
        raise invalid(f"there is no privilege group name [{name}] to operate", legacy)
    asked = _taken_apart(tables, (privilege.name for privilege in request.privileges))
    if request.type == OperatePrivilegeGroupType.AddPrivilegesToGroup:
        changed = tuple(dict.fromkeys((*members, *asked)))
        if len({level_of(member) for member in changed}) > 1:
            raise refused("privileges are not the same privilege level", legacy)
    elif request.type == OperatePrivilegeGroupType.RemovePrivilegesFromGroup:
        changed = tuple(member for member in members if member not in asked)
    else:
        raise refused("invalid operate type", legacy)
    return () if changed == members else (put_group(layout, name, changed),)


def put_group(layout: MetaLayout, name: str, members: Iterable[str]) -> Put:
    """The write of a whole group."""
    return Put(layout.privilege_group(name), encode_proto(group_info(name, members)))


def group_info(name: str, members: Iterable[str]) -> PrivilegeGroupInfo:
    """A group as it is stored and as clients see it."""
    entities = [PrivilegeEntity(name=member) for member in members]
    return PrivilegeGroupInfo(group_name=name, privileges=entities)


def listed(tables: RootCoordTables) -> list[PrivilegeGroupInfo]:
    """All groups: those that users have made, by name, then Milvus' own."""
    own = [group_info(name, members) for name, members in tables.privilege_groups]
    return [*own, *(group_info(name, members) for name, members in BUILTIN_GROUPS.items())]


def roles_with(tables: RootCoordTables, name: str) -> list[str]:
    """The roles that have been granted the group, on whatever object, by name."""
    stored = stored_group_name(name)
    return [
        role
        for role in tables.roles.names()
        if any(
            privilege == stored
            for grant in tables.grants.of_role(role)
            for privilege, _ in tables.grants.privileges(grant.grant_id)
        )
    ]


def _taken_apart(tables: RootCoordTables, names: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        members = tables.privilege_groups.get(name)
        if stored_name(name) is not None:
            found.append(name)
        elif members is not None:
            found += members
        else:
            raise invalid(
                f"there is no privilege name or privilege group name [{name}] defined in system to operate",
                ErrorCode.OperatePrivilegeGroupFailure,
            )
    return tuple(dict.fromkeys(found))
