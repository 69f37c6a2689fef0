"""Replicas in random trouble: at no moment two of them serve, and one serves when the trouble is over.

The machine's decisions are proven by simulation; this is for the driver around it: tasks that are cancelled
anywhere, answers that are lost, errors of etcd and of the role, stops at any moment.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest

from coordd.clock import boottime
from coordd.etcd import EtcdClient, Op
from coordd.etcd.errors import AuthenticationFailed, Compacted, OutcomeUnknown, Unavailable, WatchCancelled
from coordd.ha.switchover import SwitchoverRequest
from tests.support.etcd import EtcdCluster, eventually, unique_root
from tests.support.faulty_etcd import FaultyEtcd
from tests.support.replicas import Group, RunningReplica, replica_group

pytestmark = pytest.mark.timeout(90)

REPLICAS = 3
TROUBLE_S = 8.0
TTL_S = 3


class Trouble:
    """A group of replicas, each with an etcd client of its own that fails now and then."""

    def __init__(self, group: Group, etcd: EtcdCluster, seed: int) -> None:
        self.group = group
        self.random = random.Random(seed)
        self.over = False
        self._etcd = etcd
        self.clients: list[FaultyEtcd] = []
        self._silent = -1

    def running(self) -> list[RunningReplica]:
        return [member for member in self.group.members if not member.task.done()]

    def serving(self) -> list[RunningReplica]:
        return [member for member in self.group.members if member.serving]

    def start_missing(self) -> None:
        while len(self.running()) < REPLICAS:
            client = FaultyEtcd(self._etcd.settings())
            fault = partial(self._fail_now_and_then, of=len(self.clients))
            client.before_grant = client.before_txn = client.after_txn = fault
            self.clients.append(client)
            self.group.start(client=client, ttl_s=TTL_S)

    async def _fail_now_and_then(self, _ops: Sequence[Op] = (), *, of: int) -> None:
        if of == self._silent and not self.over:
            raise Unavailable("told to fall silent")
        chance = 1.0 if self.over else self.random.random()
        if chance < 0.05:
            await asyncio.sleep(self.random.random() * 1.5)
        elif chance < 0.08:
            raise Unavailable("told to fail")
        elif chance < 0.12:
            raise OutcomeUnknown("told to fail")

    async def one_more(self) -> None:
        member = self.random.choice(self.running())
        doings: list[Callable[[RunningReplica], Awaitable[None]]] = [
            self._delete_active_key, self._revoke, self._break_watches, self._break_keepalives, self._stop,
            self._fail_activation, self._fail_term, self._switch_over, self._fall_silent,
        ]  # fmt: skip
        await self.random.choice(doings)(member)

    async def _delete_active_key(self, _member: RunningReplica) -> None:
        await self.group.client.delete(self.group.layout.session("rootcoord"))

    async def _revoke(self, member: RunningReplica) -> None:
        own = (
            await self.group.client.get(self.group.layout.session("rootcoord", max(member.server_id, 1)))
        ).kv
        if own is not None:
            await self.group.client.revoke(own.lease)

    async def _break_watches(self, _member: RunningReplica) -> None:
        for client in self.clients:
            client.watch_errors += [Compacted("told to fail"), WatchCancelled("told to fail")]

    async def _break_keepalives(self, _member: RunningReplica) -> None:
        for client in self.clients:
            client.renewal_errors.append(AuthenticationFailed("told to fail"))

    async def _stop(self, member: RunningReplica) -> None:
        member.replica.request_stop()
        member.replica.request_stop()

    async def _switch_over(self, member: RunningReplica) -> None:
        key = self.group.layout.switchover("rootcoord")
        for active in self.serving():
            request = SwitchoverRequest(
                "a request", active.replica.epoch, member.server_id, "test/1", at_ms=0
            )
            await self.group.client.put(key, request.to_json())

    async def _fall_silent(self, member: RunningReplica) -> None:
        """No transaction of this one reaches etcd any more, until another one is told the same."""
        self._silent = self.group.members.index(member)

    async def _fail_activation(self, member: RunningReplica) -> None:
        member.coordinator.failures = 1

    async def _fail_term(self, member: RunningReplica) -> None:
        async def fail() -> None:
            raise RuntimeError("told to fail")

        if member.serving:
            member.coordinator.terms[-1].start_task(fail(), "fails")

    def end(self) -> None:
        self.over = True
        for client in self.clients:
            client.watch_errors.clear()
            client.renewal_errors.clear()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_never_two_and_in_the_end_one(etcd_server: EtcdCluster, seed: int) -> None:
    async with (
        EtcdClient(etcd_server.settings()) as client,
        replica_group(client, unique_root()) as group,
    ):
        trouble = Trouble(group, etcd_server, seed)
        until, next_at = boottime() + TROUBLE_S, boottime() + 0.5
        while boottime() < until:
            trouble.start_missing()
            assert len(trouble.serving()) <= 1, trouble.serving()
            if boottime() > next_at:
                next_at = boottime() + trouble.random.random()
                await trouble.one_more()
            await asyncio.sleep(0.001)
        trouble.end()
        await eventually(lambda: len(trouble.serving()) == 1, 20)
        (active,) = trouble.serving()
        assert active.servers[-1].calls == ["listen", "start"]
        for member in trouble.running():
            await member.stop()
        assert [member.task.exception() for member in group.members] == [None] * len(group.members)
        layout = group.layout
        found = await client.range(layout.coordination_prefix, layout.session_end)
        left = {kv.key for kv in found.kvs if not kv.key.startswith(layout.history_prefix)}
        assert left <= {
            layout.server_id_counter, layout.heartbeat("rootcoord"), layout.switchover("rootcoord")
        }  # fmt: skip
        for faulty in trouble.clients:
            await faulty.close()
