"""CreateCredential, UpdateCredential, DeleteCredential. None of them checks the message type, as in Milvus.

Passwords are never logged. Proxies are told to forget the one that they know; see
`coordd.rootcoord.permission_caches`. So the SHA-256 that comes with a new one, for them, is not needed.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go.
"""

from coordd.log import get_logger
from coordd.pb.common_pb2 import ErrorCode, Status
from coordd.pb.internal_pb2 import CredentialInfo
from coordd.pb.milvus_pb2 import DeleteCredentialRequest
from coordd.rootcoord.access.users import exists, plan_create, plan_delete, plan_update
from coordd.rootcoord.handlers.access_changes import AccessChanges, Groups, Say
from coordd.rootcoord.handlers.changing import asked_by
from coordd.rootcoord.permission_caches import PermissionCaches, PolicyChange
from coordd.rpc.call import Call
from coordd.rpc.status import success

log = get_logger("coordd.rootcoord.access")


class UserHandlers(AccessChanges):
    """Changes of users."""

    async def create_credential(self, request: CredentialInfo, call: Call) -> Status:
        """Make a user. Once he exists another call is refused, as in Milvus; a repetition is not."""
        user, password = request.username, request.encrypted_password
        stale = self._tables.user_roles.roles_of(user)
        revision = await self._change_in_steps(
            call,
            lambda _done: plan_create(
                self._tables,
                self._layout,
                user,
                password,
                limit=self._config().settings.proxy.max_user_num,
            ),
            _forgetting(user),
            asked_by(
                call,
                lambda: self._tables.users.encrypted_password(user) == password,
                identity=f"{user}\0{password}".encode(),
            ),
        )
        log.info("user created", user=user, revision=revision)
        if stale:
            await self._tell_policy(call, PolicyChange.DELETE_USER, user)
        await self._tell(call, lambda caches: caches.invalidate_credential(user))
        return success()

    async def update_credential(self, request: CredentialInfo, call: Call) -> Status:
        """Set a user's password, and make him if he is not there; then the old one is good nowhere.

        Idempotent.
        """
        user, password = request.username, request.encrypted_password
        stale = not exists(self._tables, user) and self._tables.user_roles.roles_of(user)
        revision = await self._change_in_steps(
            call,
            lambda _done: plan_update(self._tables, self._layout, user, password),
            _forgetting(user),
        )
        log.info("password set", user=user, revision=revision)
        if stale:
            await self._tell_policy(call, PolicyChange.DELETE_USER, user)

        def say(caches: PermissionCaches) -> None:
            caches.invalidate_credential(user)

        await self._withdraw(call, user, say, revision, ErrorCode.UpdateCredentialFailure)
        return success()

    async def delete_credential(self, request: DeleteCredentialRequest, call: Call) -> Status:
        """Delete a user and take all roles from him; then his password is good nowhere. Idempotent."""
        user = request.username

        def plan() -> Groups:
            return plan_delete(self._tables, self._layout, user)

        revision = await self._remove(call, plan, plan, _forgetting(user))
        if revision:
            log.info("user deleted", user=user, revision=revision)

        def say(caches: PermissionCaches) -> None:
            caches.invalidate_credential(user)
            caches.refresh_policies(PolicyChange.DELETE_USER, user)

        await self._withdraw(call, user, say, revision, ErrorCode.DeleteCredentialFailure)
        return success()


def _forgetting(user: str) -> Say:
    """What to say of a user of whom it is not known what became: read password and roles anew."""

    def say(caches: PermissionCaches) -> None:
        caches.invalidate_credential(user)
        caches.refresh_policies(PolicyChange.REFRESH)

    return say
