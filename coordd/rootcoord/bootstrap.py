"""What a cluster must have before its first request: default database, root user, roles and their grants.

A pure plan from what the tables hold to the writes that are missing; `RootCoord.activate` commits it under
the fence. What exists is left as it is. Of damaged values only the default database's is written anew (all
that it holds is known); a root user whose password cannot be read must not get the default one. Grants that
an operator has revoked from `public`, or from a role of `builtinRoles`, come back with the next term, as they
do when Milvus' RootCoord restarts; `common.security.enablePublicPrivilege: false` keeps those of `public`
away.

Not as in Milvus: a privilege of `builtinRoles` that is none is left out (`unknown_grants` names it), where
Milvus does not start; and proxy.maxRoleNum does not hold for these roles.

Source of truth: Milvus 2.3.5 internal/rootcoord/{meta_table,root_coord}.go (createDefaultDb, initCredentials,
initRbac, initBuiltinRoles), pkg/util/constant.go.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coordd.config.access import BuiltinGrant
from coordd.etcd import Put
from coordd.meta.codecs import EMPTY, encode_credential, encode_proto
from coordd.meta.keys import is_segment
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_put
from coordd.meta.tables import DEFAULT_DB_ID, DEFAULT_DB_NAME, RootCoordTables
from coordd.meta.transaction import Write, split
from coordd.pb.etcd_meta_pb2 import DatabaseInfo, DatabaseState
from coordd.rootcoord.access.privileges import ANY, OBJECT_TYPES, stored_name

ROOT_USER = "root"
ADMIN_ROLE = "admin"
PUBLIC_ROLE = "public"
DEFAULT_ROLES = (ADMIN_ROLE, PUBLIC_ROLE)

ANY_OBJECT = "*.*"
PUBLIC_GRANTS = (
    ("Global", ("PrivilegeDescribeCollection", "PrivilegeShowCollections")),
    ("Collection", ("PrivilegeIndexDetail",)),
)
"""Object type and privileges that everybody has, on every object of every database."""

FIRST_WRITES = 3
"""The default database's key and snapshot, and the root user, if all are missing."""

BuiltinRoles = Mapping[str, Sequence[BuiltinGrant]]


@dataclass(frozen=True, slots=True)
class RoleGrant:
    """A privilege that a role must have; names as they are stored."""

    role: str
    object_type: str
    object_key: str
    privilege: str


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not there yet."""

    default_database: bool
    root_user: bool
    roles: tuple[str, ...]
    grants: tuple[RoleGrant, ...]

    def __bool__(self) -> bool:
        return self.default_database or self.root_user or bool(self.roles) or bool(self.grants)


def find_missing(
    tables: RootCoordTables, *, public_grants: bool, builtin: BuiltinRoles | None = None
) -> Missing:
    """Compare the tables with what must be there. `builtin`: the roles of `builtinRoles`."""
    more = builtin or {}
    wanted = [*(_public() if public_grants else ()), *_builtin(more)]
    return Missing(
        default_database=tables.databases.get(DEFAULT_DB_ID) is None,
        root_user=ROOT_USER not in tables.users and not tables.users.is_damaged(ROOT_USER),
        roles=tuple(role for role in dict.fromkeys((*DEFAULT_ROLES, *more)) if role not in tables.roles),
        grants=tuple(grant for grant in dict.fromkeys(wanted) if not _granted(tables, grant)),
    )


def unknown_grants(builtin: BuiltinRoles) -> list[str]:
    """The privileges of `builtinRoles` that cannot be granted, in words."""
    return [
        f"role {role}: {grant.privilege} on {grant.object_type} {grant.object_name}"
        for role, grants in builtin.items()
        for grant in grants
        if _stored(role, grant) is None
    ]


def plan(
    missing: Missing,
    layout: MetaLayout,
    tables: RootCoordTables,
    *,
    timestamp: int,
    now_ns: int,
    encrypted_root_password: str,
) -> list[Write]:
    """The writes that make `missing` good; empty if nothing is missing. `batches` cuts them.

    `timestamp`: a fresh hybrid timestamp, for the snapshot of the database's key. `now_ns`: Unix nanoseconds.
    `encrypted_root_password`: bcrypt hash.
    """
    puts: list[Write] = []
    if missing.default_database:
        key = layout.database(DEFAULT_DB_ID)
        state = DatabaseState.DatabaseCreated
        info = DatabaseInfo(name=DEFAULT_DB_NAME, id=DEFAULT_DB_ID, state=state, created_time=now_ns)
        puts += plan_put(layout, key, encode_proto(info), timestamp)
    if missing.root_user:
        puts.append(Put(layout.user(ROOT_USER), encode_credential(encrypted_root_password)))
    puts += [Put(layout.role(role), EMPTY) for role in missing.roles]
    return puts + list(_grant_puts(missing.grants, layout, tables))


def batches(writes: Sequence[Write]) -> list[tuple[Write, ...]]:
    """The writes in transactions that etcd takes, mostly one; database and root user are in the first."""
    first = writes[:FIRST_WRITES]
    return split([first, *((write,) for write in writes[FIRST_WRITES:])])


def expected(missing: Missing, layout: MetaLayout) -> dict[str, int]:
    """mod_revisions that must still hold at the commit: nobody else has created the root user."""
    return {layout.user(ROOT_USER): 0} if missing.root_user else {}


def _public() -> Iterator[RoleGrant]:
    for object_type, privileges in PUBLIC_GRANTS:
        for privilege in privileges:
            yield RoleGrant(PUBLIC_ROLE, object_type, ANY_OBJECT, privilege)


def _builtin(roles: BuiltinRoles) -> Iterator[RoleGrant]:
    for role, grants in roles.items():
        for grant in grants:
            stored = _stored(role, grant)
            if stored is not None:
                yield stored


def _stored(role: str, grant: BuiltinGrant) -> RoleGrant | None:
    """The grant as it is stored; None if there is no such privilege or no key can carry it."""
    privilege = ANY if grant.privilege == ANY else stored_name(grant.privilege)
    db_name = grant.db_name or DEFAULT_DB_NAME
    object_key = f"{db_name}.{grant.object_name}"
    if privilege is None or grant.object_type not in OBJECT_TYPES:
        return None
    if not grant.object_name.strip() or "." in db_name or not is_segment(object_key):
        return None
    return RoleGrant(role, grant.object_type, object_key, privilege)


def _granted(tables: RootCoordTables, wanted: RoleGrant) -> bool:
    grant = tables.grants.get(wanted.role, wanted.object_type, wanted.object_key)
    return grant is not None and wanted.privilege in dict(tables.grants.privileges(grant.grant_id))


def _grant_puts(grants: Iterable[RoleGrant], layout: MetaLayout, tables: RootCoordTables) -> Iterator[Put]:
    begun: set[str] = set()
    for wanted in grants:
        place = wanted.role, wanted.object_type, wanted.object_key
        grant = tables.grants.get(*place)
        grant_id = layout.new_grant_id(*place) if grant is None else grant.grant_id
        key = layout.grantee(*place)
        if grant is None and key not in begun:
            begun.add(key)
            yield Put(key, grant_id.encode())
        yield Put(layout.grantee_id(grant_id, wanted.privilege), ROOT_USER.encode())
