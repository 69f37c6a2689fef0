"""CreateRole, DropRole, OperateUserRole and OperatePrivilege. None checks the message type, as in Milvus.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go; branch 2.5 for `force_drop` and version `v2`.
"""

from collections.abc import Sequence

from coordd.log import get_logger
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import Status
from coordd.pb.milvus_pb2 import (
    CreateRoleRequest,
    DropRoleRequest,
    OperatePrivilegeRequest,
    OperateUserRoleRequest,
    OperateUserRoleType,
)
from coordd.rootcoord.access import grants, policies, roles
from coordd.rootcoord.handlers.access_changes import AccessChanges
from coordd.rootcoord.handlers.changing import asked_by
from coordd.rootcoord.permission_caches import PolicyChange
from coordd.rpc.call import Call
from coordd.rpc.status import success

log = get_logger("coordd.rootcoord.access")


class RoleHandlers(AccessChanges):
    """Changes of roles and of what they may do."""

    async def create_role(self, request: CreateRoleRequest, call: Call) -> Status:
        """Make a role. Once it exists another call is refused, as in Milvus; a repetition is not."""
        role = request.entity.name
        stale = self._tables.grants.of_role(role) or self._tables.user_roles.users_of(role)
        revision = await self._change_in_steps(
            call,
            lambda _done: roles.plan_create(
                self._tables, self._layout, role, limit=self._config().settings.proxy.max_role_num
            ),
            asked=asked_by(call, lambda: role in self._tables.roles, base=request.base),
        )
        log.info("role created", name=role, revision=revision)
        if stale:
            await self._tell_policy(call, PolicyChange.REFRESH)
        return success()

    async def drop_role(self, request: DropRoleRequest, call: Call) -> Status:
        """Drop a role without privileges, with `force_drop` one that has some; whoever had it loses it.

        A repetition finds it gone, and takes away what may be left of it.
        """
        role, force = request.role_name, request.force_drop
        builtin = self._config().settings.builtin_roles.grants()

        revision = await self._remove(
            call,
            lambda: roles.plan_drop(self._tables, self._layout, role, force=force),
            lambda: roles.plan_rest(self._tables, self._layout, role),
            asked=asked_by(call, lambda: role not in self._tables.roles, base=request.base),
            check=lambda: roles.check_drop(self._tables, role, builtin=builtin, force=force),
        )
        log.info("role dropped", name=role, revision=revision)
        if force:
            await self._tell_policy(call, PolicyChange.REFRESH)
        else:
            await self._tell_policy(call, PolicyChange.DROP_ROLE, role)
        return success()

    async def operate_user_role(self, request: OperateUserRoleRequest, call: Call) -> Status:
        """Give a user a role, or take it from him. Idempotent."""
        user, role, operation = request.username, request.role_name, request.type
        revision = await self._change_access(
            call,
            lambda _stamp: roles.plan_user_role(self._tables, self._layout, user, role, operation),
        )
        adds = operation == OperateUserRoleType.AddUserToRole
        if revision:
            log.info("role given" if adds else "role taken", user=user, name=role, revision=revision)
        news = PolicyChange.ADD_USER_TO_ROLE if adds else PolicyChange.REMOVE_USER_FROM_ROLE
        await self._tell_policy(call, news, f"{user}/{role}")
        return success()

    async def operate_privilege(self, request: OperatePrivilegeRequest, call: Call) -> Status:
        """Grant a privilege to a role, or revoke it. Idempotent."""
        checked: list[grants.GrantChange] = []

        def decide(_stamp: object) -> Sequence[Write]:
            checked.append(grants.check(self._tables, request))
            return grants.plan_change(self._tables, self._layout, checked[-1])

        revision = await self._change_access(call, decide)
        asked = checked[-1]
        if revision:
            log.info(
                "privilege revoked" if asked.revokes else "privilege granted",
                name=asked.role, privilege=asked.privilege, object_type=asked.object_type,
                object=asked.object_key, revision=revision,
            )  # fmt: skip
        await self._tell_policy(call, *self._news_of(asked))
        return success()

    def _news_of(self, change: grants.GrantChange) -> tuple[PolicyChange, str]:
        """One policy more or less; all anew where a group of privileges plays a part.

        So also if the role has a group on something: what is revoked may be a member of it.
        """
        if change.of_group or policies.has_group(self._tables, change.role):
            return PolicyChange.REFRESH, ""
        return PolicyChange.REVOKE if change.revokes else PolicyChange.GRANT, policies.policy_of(change)
