"""CreateCredential, UpdateCredential and DeleteCredential decided.

A user is one key with the bcrypt hash of the password; the proxy has hashed it. As in Milvus the limit comes
before the check for an existing name, an update makes the user if there is none, and deleting nobody
succeeds. Not Milvus': a user whose stored value is damaged counts as existing, so he is not made anew by
accident; he can be updated or deleted. And a user who is made has no roles, whatever was left behind.

Source of truth: Milvus 2.3.5 internal/rootcoord/{root_coord,meta_table}.go,
internal/metastore/kv/rootcoord/kv_catalog.go; texts recorded from a running 2.3.5.
"""

from collections.abc import Sequence

from coordd.etcd import Delete, Put
from coordd.meta.codecs import encode_credential
from coordd.meta.keys import is_clean_path, is_segment
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import ErrorCode
from coordd.rootcoord.access.refusals import is_blank, refused


def plan_create(
    tables: RootCoordTables, layout: MetaLayout, user: str, encrypted_password: str, *, limit: int
) -> Sequence[Sequence[Write]]:
    """The writes that make a user, his key last. `limit`: proxy.maxUserNum, `root` counts.

    In groups that stay together: all may go into one transaction, or one after the other.

    Raises:
        MilvusError: refused.
    """
    legacy = ErrorCode.CreateCredentialFailure
    if not user:
        raise refused("username is empty", legacy)
    if tables.users.count >= limit:
        raise refused("unable to add user because the number of users has reached the limit", legacy)
    if exists(tables, user):
        raise refused(f"user already exists: {user}", legacy)
    put = Put(_key(layout, user, legacy), encode_credential(encrypted_password))
    return [*plan_rest(tables, layout, user), (put,)]


def plan_update(
    tables: RootCoordTables, layout: MetaLayout, user: str, encrypted_password: str
) -> Sequence[Sequence[Write]]:
    """The writes that set a user's password, whether or not there is such a user; groups as in `plan_create`.

    Raises:
        MilvusError: refused.
    """
    legacy = ErrorCode.UpdateCredentialFailure
    if not user:
        raise refused("username is empty", legacy)
    put = Put(_key(layout, user, legacy), encode_credential(encrypted_password))
    return [*plan_rest(tables, layout, user), (put,)]


def plan_delete(tables: RootCoordTables, layout: MetaLayout, user: str) -> Sequence[Sequence[Write]]:
    """The writes that delete a user, his key first, and what roles he has; none if there is nothing.

    In groups that stay together: all may go into one transaction, or one after the other; without his key
    none of his roles counts.

    Raises:
        MilvusError: refused.
    """
    if is_blank(user):
        raise refused("fail to execute task when deleting the user", ErrorCode.DeleteCredentialFailure)
    key = [(Delete(layout.user(user)),)] if exists(tables, user) else []
    return [*key, *_roles(tables, layout, user)]


def plan_rest(tables: RootCoordTables, layout: MetaLayout, user: str) -> Sequence[Sequence[Write]]:
    """The writes that take all roles from a user who is not there; none if he is."""
    return () if exists(tables, user) else _roles(tables, layout, user)


def exists(tables: RootCoordTables, user: str) -> bool:
    """Whether there is such a user, readable or not."""
    return user in tables.users or tables.users.is_damaged(user)


def _roles(tables: RootCoordTables, layout: MetaLayout, user: str) -> list[tuple[Write]]:
    """Takes all roles from the user; one whose name no such key can carry has none."""
    if not is_segment(user):
        return []
    return [(Delete(layout.user_role(user, role)),) for role in tables.user_roles.roles_of(user)]


def _key(layout: MetaLayout, user: str, legacy: int) -> str:
    if not is_clean_path(user):
        raise refused(f"invalid user name {user}: no key can carry it", legacy)
    return layout.user(user)
