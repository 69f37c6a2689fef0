"""What a role may do, in the form of the proxies' policy caches, with groups of privileges taken apart.

A policy is JSON text for the proxy's rule engine: role, object, privilege. A proxy of 2.3 compares it with
the one privilege that a call needs, so a group is told as its members, each on the type of object it belongs
to.

Not Milvus': what is left of a role or a user that is gone counts nowhere, whether a drop of many keys was
broken off or an older Milvus has left it behind.

Source of truth: Milvus 2.3.5 pkg/util/funcutil/policy.go; branch 2.5 internal/rootcoord/root_coord.go
(expandPrivilegeGroups).
"""

from collections.abc import Iterator

from coordd.meta.tables import Grant, RootCoordTables
from coordd.rootcoord.access.grants import GrantChange, members_of
from coordd.rootcoord.access.privileges import (
    ANY,
    BUILTIN_GROUPS,
    GLOBAL,
    GROUP_PREFIX,
    object_type_of,
    stored_name,
)
from coordd.rootcoord.access.users import exists


def policy(role: str, object_type: str, db_name: str, object_name: str, privilege: str) -> str:
    """One policy. Names are put in as they are, as Milvus does."""
    return f'{{"PType":"p","V0":"{role}","V1":"{object_type}-{db_name}.{object_name}","V2":"{privilege}"}}'


def policy_of(change: GrantChange) -> str:
    """The policy that a change of a single privilege adds or removes."""
    return policy(change.role, change.object_type, change.db_name, change.object_name, change.privilege)


def holders(tables: RootCoordTables) -> list[tuple[str, str]]:
    """Each user's roles, as (user, role) in the order of the keys; of users and roles that are there."""
    return [(user, role) for user, role in tables.user_roles if role in tables.roles and exists(tables, user)]


def policies(tables: RootCoordTables) -> list[str]:
    """All policies of roles that are there, in the order of the grants' keys; each once."""
    found = (
        text
        for grant in tables.grants
        if grant.role in tables.roles
        for privilege, _ in tables.grants.privileges(grant.grant_id)
        for text in _of_privilege(tables, grant, privilege)
    )
    return list(dict.fromkeys(found))


def has_group(tables: RootCoordTables, role: str) -> bool:
    """Whether a role was granted a group that is taken apart here."""
    return any(
        is_taken_apart(tables, privilege)
        for grant in tables.grants.of_role(role)
        for privilege, _ in tables.grants.privileges(grant.grant_id)
    )


def is_taken_apart(tables: RootCoordTables, stored: str) -> bool:
    """Whether a stored privilege is a group whose members are known here."""
    name = stored.removeprefix(GROUP_PREFIX)
    return stored.startswith(GROUP_PREFIX) and (name in BUILTIN_GROUPS or name in tables.privilege_groups)


def _of_privilege(tables: RootCoordTables, grant: Grant, privilege: str) -> Iterator[str]:
    if not is_taken_apart(tables, privilege):
        yield policy(grant.role, grant.object_type, grant.db_name, grant.object_name, privilege)
        return
    for member in members_of(tables, privilege.removeprefix(GROUP_PREFIX)):
        object_type = object_type_of(member)
        object_name = ANY if object_type == GLOBAL else grant.object_name
        stored = stored_name(member)
        if stored is not None:
            yield policy(grant.role, object_type, grant.db_name, object_name, stored)
