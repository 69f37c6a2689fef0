"""Privilege groups, BackupRBAC and RestoreRBAC: methods of Milvus 2.5.

Source of truth: Milvus branch 2.5 internal/rootcoord/{root_coord,rbac_task}.go.
"""

from dataclasses import replace

from coordd.log import get_logger
from coordd.pb.common_pb2 import Status
from coordd.pb.milvus_pb2 import (
    BackupRBACMetaRequest,
    BackupRBACMetaResponse,
    CreatePrivilegeGroupRequest,
    DropPrivilegeGroupRequest,
    ListPrivilegeGroupsRequest,
    ListPrivilegeGroupsResponse,
    OperatePrivilegeGroupRequest,
    RBACMeta,
    RestoreRBACMetaRequest,
)
from coordd.rootcoord.access import groups
from coordd.rootcoord.access.backup import backup, check, cut, is_made, plan_early, plan_names
from coordd.rootcoord.ddl import Asked, Turn
from coordd.rootcoord.handlers.access_changes import AccessChanges, Groups
from coordd.rootcoord.handlers.changing import asked_by
from coordd.rootcoord.permission_caches import PolicyChange
from coordd.rpc.call import Call
from coordd.rpc.status import success

log = get_logger("coordd.rootcoord.access")


class PrivilegeGroupHandlers(AccessChanges):
    """Groups of privileges; everything about users and roles as one message."""

    async def create_privilege_group(self, request: CreatePrivilegeGroupRequest, call: Call) -> Status:
        """Make an empty group. Once it exists another call is refused, as in Milvus; a repetition is not."""
        name = request.group_name
        revision = await self._change_access(
            call,
            lambda _stamp: groups.plan_create(self._tables, self._layout, name),
            asked=asked_by(call, lambda: name in self._tables.privilege_groups, base=request.base),
        )
        log.info("privilege group created", name=name, revision=revision)
        return success()

    async def drop_privilege_group(self, request: DropPrivilegeGroupRequest, call: Call) -> Status:
        """Drop a group that no role has. Idempotent."""
        name = request.group_name
        revision = await self._change_access(
            call, lambda _stamp: groups.plan_drop(self._tables, self._layout, name)
        )
        if revision:
            log.info("privilege group dropped", name=name, revision=revision)
        return success()

    def list_privilege_groups(
        self, _request: ListPrivilegeGroupsRequest, _call: Call
    ) -> ListPrivilegeGroupsResponse:
        """All groups, Milvus' own ones too."""
        return ListPrivilegeGroupsResponse(status=success(), privilege_groups=groups.listed(self._tables))

    async def operate_privilege_group(self, request: OperatePrivilegeGroupRequest, call: Call) -> Status:
        """Add members to a group or remove some; roles that have it gain or lose them. Idempotent."""
        name = request.group_name
        revision = await self._change_access(
            call, lambda _stamp: groups.plan_change(self._tables, self._layout, request)
        )
        if revision:
            log.info("privilege group changed", name=name, revision=revision)
        if groups.roles_with(self._tables, name):
            await self._tell_policy(call, PolicyChange.REFRESH)
        return success()

    def backup_rbac(self, _request: BackupRBACMetaRequest, _call: Call) -> BackupRBACMetaResponse:
        """All users but `root`, all roles but the default ones, their grants, all groups that users made."""
        return BackupRBACMetaResponse(status=success(), RBAC_meta=backup(self._tables))

    async def restore_rbac(self, request: RestoreRBACMetaRequest, call: Call) -> Status:
        """Make everything of a backup, unless something of it exists; then nothing.

        Nothing else changes permissions meanwhile: what is written before the names are would else become
        part of another restore, or of a role that somebody makes. A repetition goes on where the call was
        broken off, if it comes within `CALLS_KEPT_S`; later it is refused for what has been made.
        """
        meta = request.RBAC_meta
        first, *rest = cut(meta)

        def plan(done: int) -> Groups:
            if not done:
                check(self._tables, meta)
            early = plan_early(self._tables, self._layout, meta)
            return [*((write,) for write in early), plan_names(self._tables, self._layout, first)]

        def begun() -> bool:
            return is_made(self._tables, first) and not plan_early(self._tables, self._layout, meta)

        async with self._one_turn(call) as turn:
            asked = replace(self._asked(call, meta, first, more=bool(rest)), holds=begun)
            revision = await self._change_in_steps(call, plan, asked=asked, turn=turn)
            for number, part in enumerate(rest, start=1):
                asked = self._asked(call, meta, part, more=number < len(rest))
                revision = await self._make_names(call, part, asked, turn)
        log.info("permissions restored", users=len(meta.users), roles=len(meta.roles), revision=revision)
        await self._tell_policy(call, PolicyChange.REFRESH)
        return success()

    def _asked(self, call: Call, meta: RBACMeta, part: RBACMeta, *, more: bool) -> Asked:
        """Known by the backup alone, whatever ID the call has: the same one asks for the very same state."""
        identity = meta.SerializeToString(deterministic=True)
        asked = asked_by(call, lambda: is_made(self._tables, part), identity=identity)
        return replace(asked, more=more)

    async def _make_names(self, call: Call, part: RBACMeta, asked: Asked, turn: Turn) -> int:
        return await self._change_access(
            call, lambda _stamp: plan_names(self._tables, self._layout, part), asked=asked, turn=turn
        )
