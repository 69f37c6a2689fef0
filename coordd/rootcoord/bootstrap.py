"""What a cluster must have before its first request: default database, root user, default roles and grants.

A pure plan from what the tables hold to the writes that are missing; `RootCoord.activate` commits it under
the fence. What exists is left as it is. Of damaged values only the default database's is written anew (all
that it holds is known); a root user whose password cannot be read must not get the default one. Grants that
an operator has revoked from `public` come back with the next term, as they do when Milvus' RootCoord
restarts; `common.security.enablePublicPrivilege: false` keeps them away.

Source of truth: Milvus 2.3.5 internal/rootcoord/{meta_table,root_coord}.go (createDefaultDb, initCredentials,
initRbac), pkg/util/constant.go.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from coordd.etcd import Put
from coordd.meta.codecs import EMPTY, encode_credential, encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_put
from coordd.meta.tables import DEFAULT_DB_ID, DEFAULT_DB_NAME, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.etcd_meta_pb2 import DatabaseInfo, DatabaseState

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


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not there yet. `grants`: (object type, privilege) of role `public`."""

    default_database: bool
    root_user: bool
    roles: tuple[str, ...]
    grants: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return self.default_database or self.root_user or bool(self.roles) or bool(self.grants)


def find_missing(tables: RootCoordTables, *, public_grants: bool) -> Missing:
    """Compare the tables with what must be there."""
    return Missing(
        default_database=tables.databases.get(DEFAULT_DB_ID) is None,
        root_user=ROOT_USER not in tables.users and not tables.users.is_damaged(ROOT_USER),
        roles=tuple(role for role in DEFAULT_ROLES if role not in tables.roles),
        grants=tuple(_missing_grants(tables)) if public_grants else (),
    )


def plan(
    missing: Missing,
    layout: MetaLayout,
    tables: RootCoordTables,
    *,
    timestamp: int,
    now_ns: int,
    encrypted_root_password: str,
) -> list[Write]:
    """The writes that make `missing` good, in one transaction; empty if nothing is missing.

    `timestamp`: a fresh hybrid timestamp, for the snapshot of the database's key. `now_ns`: Unix nanoseconds.
    `encrypted_root_password`: bcrypt hash.
    """
    puts: list[Write] = []
    if missing.default_database:
        key = layout.database(DEFAULT_DB_ID)
        state = DatabaseState.DatabaseCreated
        info = DatabaseInfo(name=DEFAULT_DB_NAME, id=DEFAULT_DB_ID, state=state, created_time=now_ns)
        puts += plan_put(layout, key, encode_proto(info), timestamp, newest_ts=0)
    if missing.root_user:
        puts.append(Put(layout.user(ROOT_USER), encode_credential(encrypted_root_password)))
    puts += [Put(layout.role(role), EMPTY) for role in missing.roles]
    return puts + list(_grant_puts(missing, layout, tables))


def expected(missing: Missing, layout: MetaLayout) -> dict[str, int]:
    """mod_revisions that must still hold at the commit: nobody else has created the root user."""
    return {layout.user(ROOT_USER): 0} if missing.root_user else {}


def _missing_grants(tables: RootCoordTables) -> Iterator[tuple[str, str]]:
    for object_type, privileges in PUBLIC_GRANTS:
        grant = tables.grants.get(PUBLIC_ROLE, object_type, ANY_OBJECT)
        granted = {} if grant is None else dict(tables.grants.privileges(grant.grant_id))
        for privilege in privileges:
            if privilege not in granted:
                yield object_type, privilege


def _grant_puts(missing: Missing, layout: MetaLayout, tables: RootCoordTables) -> Iterator[Put]:
    for object_type in dict.fromkeys(object_type for object_type, _privilege in missing.grants):
        grant = tables.grants.get(PUBLIC_ROLE, object_type, ANY_OBJECT)
        if grant is None:
            grant_id = layout.new_grant_id(PUBLIC_ROLE, object_type, ANY_OBJECT)
            yield Put(layout.grantee(PUBLIC_ROLE, object_type, ANY_OBJECT), grant_id.encode())
        else:
            grant_id = grant.grant_id
        for of_type, privilege in missing.grants:
            if of_type == object_type:
                yield Put(layout.grantee_id(grant_id, privilege), ROOT_USER.encode())
