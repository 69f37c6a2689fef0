"""Users, roles, grants read: GetCredential, ListCredUsers, SelectUser, SelectRole, SelectGrant, ListPolicy.

Refusals here have the older shape: a legacy error code of their own, no `detail`. Lists come in the order of
the keys in etcd, as Milvus reads them.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go, internal/metastore/kv/rootcoord/kv_catalog.go;
recorded replies.
"""

from coordd.meta.layout import MetaLayout
from coordd.meta.tables import DEFAULT_DB_NAME, Grant, RootCoordTables
from coordd.pb.common_pb2 import ErrorCode
from coordd.pb.internal_pb2 import ListPolicyRequest, ListPolicyResponse
from coordd.pb.milvus_pb2 import (
    GrantEntity,
    GrantorEntity,
    ListCredUsersRequest,
    ListCredUsersResponse,
    ObjectEntity,
    PrivilegeEntity,
    RoleEntity,
    RoleResult,
    SelectGrantRequest,
    SelectGrantResponse,
    SelectRoleRequest,
    SelectRoleResponse,
    SelectUserRequest,
    SelectUserResponse,
    UserEntity,
    UserResult,
)
from coordd.pb.root_coord_pb2 import GetCredentialRequest, GetCredentialResponse
from coordd.rootcoord.access.grants import no_object_type
from coordd.rootcoord.access.policies import holders, policies
from coordd.rootcoord.access.privileges import ANY, OBJECT_TYPES, api_name
from coordd.rootcoord.access.refusals import NO_ROLE, refused
from coordd.rootcoord.access.users import exists
from coordd.rpc.call import Call
from coordd.rpc.status import IoKeyNotFound, MilvusError, success


class AccessHandlers:
    """Needs `_tables` and `_layout`."""

    _tables: RootCoordTables
    _layout: MetaLayout

    def get_credential(self, request: GetCredentialRequest, _call: Call) -> GetCredentialResponse:
        """A user's bcrypt hash."""
        user = request.username
        password = self._tables.users.encrypted_password(user)
        if password is None:
            if self._tables.users.is_damaged(user):
                raise MilvusError(
                    "unmarshal credential info err: the stored value cannot be read",
                    legacy=ErrorCode.GetCredentialFailure,
                    plain=True,
                )
            key = f"{self._layout.user_prefix}{user}".removesuffix("/")
            raise IoKeyNotFound(key=key, legacy=ErrorCode.GetCredentialFailure, plain=True)
        return GetCredentialResponse(status=success(), username=user, password=password)

    def list_cred_users(self, _request: ListCredUsersRequest, _call: Call) -> ListCredUsersResponse:
        """All users."""
        return ListCredUsersResponse(status=success(), usernames=self._tables.users.names())

    def select_user(self, request: SelectUserRequest, _call: Call) -> SelectUserResponse:
        """One user or all, with their roles if asked for; an unknown one is an empty list."""
        users = self._tables.users
        if not request.HasField("user"):
            names = users.names()
        elif not request.user.name or users.is_damaged(request.user.name):
            raise MilvusError(
                "fail to select the user to check the username",
                legacy=ErrorCode.SelectUserFailure,
                plain=True,
            )
        else:
            names = [request.user.name] if request.user.name in users else []
        return SelectUserResponse(
            status=success(),
            results=[self._user(name, with_roles=request.include_role_info) for name in names],
        )

    def select_role(self, request: SelectRoleRequest, _call: Call) -> SelectRoleResponse:
        """One role or all, with their users if asked for; an unknown one is an empty list."""
        roles = self._tables.roles
        if not request.HasField("role"):
            names = roles.names()
        elif not request.role.name:
            raise MilvusError(
                "fail to select the role to check the role name",
                legacy=ErrorCode.SelectRoleFailure,
                plain=True,
            )
        else:
            names = [request.role.name] if request.role.name in roles else []
        return SelectRoleResponse(
            status=success(),
            results=[self._role(name, with_users=request.include_user_info) for name in names],
        )

    def select_grant(self, request: SelectGrantRequest, _call: Call) -> SelectGrantResponse:
        """The privileges of a role in a database and in all (`*`), on one object if the request names one."""
        if not request.HasField("entity"):
            raise _no_grant("the grant entity in the request is nil")
        entity = request.entity
        if not entity.HasField("role"):
            raise _no_grant("the role entity is nil")
        role = entity.role.name
        if not role:
            raise _no_grant("the name in the role entity is empty")
        if role not in self._tables.roles:
            raise _no_grant(NO_ROLE)
        if entity.HasField("object") and entity.object.name not in OBJECT_TYPES:
            raise _no_grant(no_object_type(entity.object.name))
        grants = self._grants(role, entity.db_name or DEFAULT_DB_NAME, entity.object.name, entity.object_name)
        return SelectGrantResponse(
            status=success(), entities=[found for grant in grants for found in self._entities(grant)]
        )

    def list_policy(self, _request: ListPolicyRequest, _call: Call) -> ListPolicyResponse:
        """Every privilege of every role, and every user's roles, in the form of the proxies' policy cache."""
        return ListPolicyResponse(
            status=success(),
            policy_infos=policies(self._tables),
            user_roles=[f"{user}/{role}" for user, role in holders(self._tables)],
        )

    def _user(self, name: str, *, with_roles: bool) -> UserResult:
        having = self._tables.user_roles.roles_of(name) if with_roles else []
        roles = [role for role in having if role in self._tables.roles]
        return UserResult(user=UserEntity(name=name), roles=[RoleEntity(name=role) for role in roles])

    def _role(self, name: str, *, with_users: bool) -> RoleResult:
        having = self._tables.user_roles.users_of(name) if with_users else []
        users = [user for user in having if exists(self._tables, user)]
        return RoleResult(role=RoleEntity(name=name), users=[UserEntity(name=user) for user in users])

    def _grants(self, role: str, db_name: str, object_type: str, object_name: str) -> list[Grant]:
        """Those that count for a database; on one object if both its type and its name are given."""
        if not (object_type and object_name):
            return [grant for grant in self._tables.grants.of_role(role) if grant.db_name in (db_name, ANY)]
        get = self._tables.grants.get
        if db_name == DEFAULT_DB_NAME:
            old = get(role, object_type, object_name)
            if old is not None:
                return [old]
        keys = dict.fromkeys((f"{db_name}.{object_name}", f"{ANY}.{object_name}"))
        return [grant for key in keys if (grant := get(role, object_type, key)) is not None]

    def _entities(self, grant: Grant) -> list[GrantEntity]:
        return [
            GrantEntity(
                role=RoleEntity(name=grant.role),
                object=ObjectEntity(name=grant.object_type),
                object_name=grant.object_name,
                db_name=grant.db_name,
                grantor=GrantorEntity(
                    user=UserEntity(name=grantor), privilege=PrivilegeEntity(name=api_name(privilege))
                ),
            )
            for privilege, grantor in self._tables.grants.privileges(grant.grant_id)
        ]


def _no_grant(text: str) -> MilvusError:
    return refused(text, ErrorCode.SelectGrantFailure)
