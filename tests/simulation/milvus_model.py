"""Milvus' own coordinator as the other half of a pair: no fence, no heartbeat, no guard.

It campaigns for the absent ACTIVE key, waits for an event on it when it loses, and exits when it sees its own
key gone or its lease end. SIGTERM ends it without revoking the lease.

Source: Milvus 2.3.5 internal/util/sessionutil/session_util.go (ProcessActiveStandBy, LivenessCheck).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .etcd_model import ACTIVE, LEASE_NOT_FOUND, Answer, Holder, Leadership
from .process_model import Machine, Process

if TYPE_CHECKING:
    from .network import Done
    from .world import World

CAMPAIGN_RETRY_S = 0.1
REGISTRATION_RETRY_S = 1.0


class MilvusProcess(Process):
    """One Milvus coordinator, from start to exit."""

    def __init__(self, world: World, machine: Machine) -> None:
        super().__init__(world, machine)
        self.server_id = 0
        self._lease_id = 0
        self._epoch = 0
        self._lost_at_revision: int | None = None

    def start(self) -> None:
        """Register: lease and standby key, then try to become active."""
        self._call(self._registered, self._register)

    def _register(self) -> int:
        if self._position < 0:
            self.follow()
        return self.world.etcd.grant(self.world.scenario.ttl_s)

    def _registered(self, lease_id: int | None, _sent_at: float) -> None:
        if lease_id is None:
            self.after(REGISTRATION_RETRY_S, self.start)
            return
        self.server_id = self.world.next_server_id()
        self._lease_id = lease_id
        self._keep_alive()
        self._campaign()

    def _campaign(self) -> None:
        self._lost_at_revision = None
        puts = ((ACTIVE, Holder(self.server_id, False), self._lease_id),)
        self._call(self._campaigned, self.world.etcd.txn, ((ACTIVE, 0),), puts)

    def _campaigned(self, answer: Answer | None, _sent_at: float) -> None:
        if answer is None:
            self.after(CAMPAIGN_RETRY_S, self._campaign)
        elif answer is LEASE_NOT_FOUND:
            self.exit()
        elif answer.succeeded:
            self._lead(answer.revision)
        elif answer.keys[ACTIVE].value.server_id == self.server_id:
            self._lead(answer.keys[ACTIVE].mod_revision)
        else:
            self._lost_at_revision = answer.revision
            if self.view is not None:
                self.observe(self.view)

    def _lead(self, epoch: int) -> None:
        self._epoch = epoch
        self.world.note(self, f"Milvus is active, epoch {epoch}")

    def observe(self, view: Leadership) -> None:
        """A standby wakes at an event on the ACTIVE key, an active one exits when its key is deleted."""
        if self._epoch:
            if view.revision >= self._epoch and view.active_mod_revision != self._epoch:
                self.world.note(self, "Milvus' key is gone: exit")
                self.exit()
        elif (
            self._lost_at_revision is not None
            and view.revision > self._lost_at_revision
            and not view.active_mod_revision
        ):
            self._campaign()

    def _keep_alive(self) -> None:
        self._call(self._keep_alive_done, self.world.etcd.keep_alive, self._lease_id)
        self.after(self.world.scenario.ttl_s / 3, self._keep_alive)

    def _keep_alive_done(self, ttl_s: float | None, _sent_at: float) -> None:
        if ttl_s == 0:
            self.exit()

    def terminate(self) -> None:
        """SIGTERM: the real one leaves its keys to the lease."""
        self.stopping = True
        self.exit()

    def client_request(self) -> None:
        """Its answers are its own affair."""

    def _call(self, done: Done, operation: Callable[..., Any], *arguments: Any) -> None:
        self.world.network.call(self, self.world.scenario.request_timeout_s, done, operation, *arguments)
