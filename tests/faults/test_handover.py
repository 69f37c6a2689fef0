"""Leadership passed on between real processes, as operators ask for it and as clients live through it."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from coordd.cli.switchover_command import Asking, SwitchoverError
from coordd.etcd import EtcdClient, Event, Put, prefix_end
from coordd.ha.leadership import SessionEntry
from coordd.ha.session import SessionRecord
from tests.faults.test_cli import coordd
from tests.support.callers import Callers, calling
from tests.support.coordd import (
    LAYOUT,
    CoorddProcess,
    Launcher,
    coordd_processes,
    etcd_client,
    milvus_yaml,
    wait_active,
)
from tests.support.etcd import etcd_cluster, eventually
from tests.support.etcd_audit import EtcdAudit
from tests.support.managed import LEADS, STANDBY, until
from tests.support.rootcoord_client import RootCoordClient
from tests.support.workload import ActiveKey

pytestmark = pytest.mark.timeout(240)

ROLE = "rootcoord"
TTL_S = 60
"""Longer than any wait here: nothing that happens can be due to the end of a lease."""
LIMIT_S = 60.0


class Scene:
    """Replicas of one role on an etcd of their own, in the order in which they were started."""

    def __init__(
        self, client: EtcdClient, launcher: Launcher, endpoints: Sequence[str], grace_ms: int
    ) -> None:
        self.client = client
        self.replicas: list[CoorddProcess] = []
        self._launcher = launcher
        self._settings = milvus_yaml(endpoints, ttl_s=TTL_S)
        self._settings["coordd"]["failover"] = {"forwardGrace": grace_ms}

    @property
    def config(self) -> str:
        return str(self.replicas[0].log_path.parent)

    async def start(self, role: str = ROLE) -> CoorddProcess:
        process = await self._launcher.run(role, self._settings)
        self.replicas.append(process)
        return process

    async def active(self) -> SessionEntry:
        return await wait_active(self.client, ROLE)

    async def standby_ids(self) -> set[int]:
        """Of those that have reported; whoever is active may have left a report of its own."""
        prefix = LAYOUT.standby_prefix
        found = await self.client.range(prefix, prefix_end(prefix))
        reported = {int(kv.key.rpartition("-")[2]) for kv in found.kvs if f"/{ROLE}-" in kv.key}
        return reported - {id_of(await self.active())}

    async def wait_standbys(self, count: int) -> set[int]:
        async def there() -> bool:
            return len(await self.standby_ids()) == count

        await until(f"{count} standbys", there, LIMIT_S)
        return await self.standby_ids()

    async def serves(self, held: SessionEntry) -> None:
        """It leads in the same term, and answers."""
        now = await self.active()
        assert now.mod_revision == held.mod_revision
        assert now.record is not None
        async with RootCoordClient(now.record.address, now.record.server_id) as rootcoord:
            await rootcoord.alloc_timestamp(timeout_s=LIMIT_S)

    async def switchover(self, *arguments: str) -> tuple[int, str, str]:
        return await coordd("switchover", ROLE, "--config", self.config, *arguments)

    async def events(self) -> list[Event]:
        """All that etcd has seen."""
        now = await self.client.put(f"{LAYOUT.root}/marker", b"")
        events: list[Event] = []
        watch = self.client.watch(f"{LAYOUT.root}/", f"{LAYOUT.root}0", from_revision=1)
        async with asyncio.timeout(LIMIT_S), aclosing(watch) as batches:
            async for batch in batches:
                events += [one for one in batch.events if one.mod_revision <= now and "marker" not in one.key]
                if batch.revision >= now:
                    break
        return events

    async def holders(self, role: str = ROLE) -> list[int]:
        """Server IDs of all who ever held the ACTIVE key, 0 for a time without."""
        return [
            0 if event.value is None else SessionRecord.from_json(event.value).server_id
            for event in await self.events()
            if event.key == LAYOUT.session(role)
        ]


@asynccontextmanager
async def scene(folder: Path, replicas: int, *, grace_ms: int = 60_000) -> AsyncIterator[Scene]:
    """The first of the replicas is active, the others stand by; etcd's history is judged at the end."""
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(folder) as launcher,
    ):
        stage = Scene(client, launcher, etcd.endpoints, grace_ms)
        first = await stage.start()
        await first.wait_log(LEADS, timeout_s=LIMIT_S)
        for _ in range(replicas - 1):
            await stage.start()
        await stage.wait_standbys(replicas - 1)
        yield stage
        EtcdAudit(LAYOUT, ROLE).feed(await stage.events())
        assert not [process.pid for process in stage.replicas if "Traceback" in process.log()]


async def answered(callers: Callers, server_id: int, count: int = 10) -> None:
    """Wait until every client that moves has so many answers of that server."""
    movers = [caller for caller in callers.all if caller.stays_s is not None]

    def enough() -> bool:
        assert not callers.failures, callers.failures[0]
        return all(caller.answers_of(server_id) >= count for caller in movers)

    await eventually(enough, LIMIT_S)


def id_of(held: SessionEntry) -> int:
    assert held.record is not None
    return held.record.server_id


# --- under load ---


async def test_switchovers_to_and_fro_fail_no_request(tmp_path: Path) -> None:
    async with scene(tmp_path, 2) as stage:
        active = ActiveKey(stage.client, LAYOUT.session(ROLE))
        callers = Callers(active)
        callers.add(4, stays_s=0.0)
        callers.add(4, stays_s=1.0)
        ids = [id_of(await stage.active())]
        async with calling(active, callers):
            await answered(callers, ids[0])
            for to in (False, True, True):
                (heir,) = await stage.wait_standbys(1)
                arguments = ("--to", str(heir)) if to else ("--wait",)
                code, out, err = await stage.switchover(*arguments)
                assert (code, err) == (0, ""), err
                assert re.search(rf"server {ids[-1]} handed over to server {heir} in [\d.]+ ms", out)
                assert (f"server {heir} serves" in out) == (not to)
                ids.append(heir)
                await answered(callers, heir)
        assert callers.failures == []
        assert await stage.holders() == ids
        code, out, err = await coordd("status", "--history", "--config", stage.config)
        assert code == 0, err
        assert out.count("handover") >= 3


async def test_sigterm_fails_no_request(tmp_path: Path) -> None:
    async with scene(tmp_path, 2) as stage:
        active = ActiveKey(stage.client, LAYOUT.session(ROLE))
        callers = Callers(active)
        callers.add(4, stays_s=0.0)
        callers.add(4, stays_s=1.0)
        before = id_of(await stage.active())
        (heir,) = await stage.standby_ids()
        async with calling(active, callers):
            await answered(callers, before)
            stage.replicas[0].send(signal.SIGTERM)
            await answered(callers, heir)
            assert await stage.replicas[0].wait(LIMIT_S) == 0
        assert callers.failures == []
        assert await stage.holders() == [before, heir]
        assert (await stage.client.get(LAYOUT.session(ROLE, before))).kv is None


async def test_who_stays_is_answered_until_the_grace_period_ends(tmp_path: Path) -> None:
    """The last word is UNAVAILABLE, on which Milvus' clients look the coordinator up anew."""
    async with scene(tmp_path, 2, grace_ms=4000) as stage:
        active = ActiveKey(stage.client, LAYOUT.session(ROLE))
        callers = Callers(active)
        callers.add(4, stays_s=None)
        async with calling(active, callers):
            await eventually(lambda: all(len(caller.answered) > 5 for caller in callers.all), LIMIT_S)
            stage.replicas[0].send(signal.SIGTERM)
            await wait_active(stage.client, ROLE, other_than=id_of(await stage.active()), timeout_s=LIMIT_S)
            counts = [len(caller.answered) for caller in callers.all]
            assert await stage.replicas[0].wait(LIMIT_S) == 0
            await eventually(lambda: all(caller.ended_with for caller in callers.all), LIMIT_S)
        assert callers.failures == []
        assert {caller.ended_with for caller in callers.all} == {grpc.StatusCode.UNAVAILABLE}
        late = [len(caller.answered) - count for caller, count in zip(callers.all, counts, strict=True)]
        assert all(number > 5 for number in late), late


# --- refused ---


async def test_what_cannot_be_is_refused_with_the_reason_and_the_active_goes_on(tmp_path: Path) -> None:
    async with scene(tmp_path, 1) as stage:
        held = await stage.active()
        code, out, err = await stage.switchover()
        assert (code, out) == (1, "")
        assert "no standby of coordd is registered" in err
        await stage.serves(held)

        milvus = SessionRecord(server_id=900, server_name=ROLE, address="10.9.9.9:1", version="2.3.5")
        lease = await stage.client.grant(TTL_S)
        await stage.client.txn([], [Put(LAYOUT.session(ROLE, 900), milvus.to_json(), lease.id)])
        code, out, err = await stage.switchover()
        assert (code, out) == (1, "")
        assert "no standby of coordd is registered" in err
        code, out, err = await stage.switchover("--to", "900")
        assert (code, out) == (1, "")
        assert "server 900 is a Milvus coordinator" in err
        await stage.serves(held)
        await stage.client.revoke(lease.id)

        standby = await stage.start()
        (heir,) = await stage.wait_standbys(1)
        code, out, err = await stage.switchover("--to", "77")
        assert (code, out) == (1, "")
        assert "server 77 is no standby of rootcoord" in err
        assert f"standbys: {heir}" in err
        code, out, err = await stage.switchover("--to", str(id_of(held)))
        assert (code, out) == (1, "")
        assert f"server {id_of(held)} is active rootcoord already" in err
        await stage.serves(held)

        standby.send(signal.SIGSTOP)
        for arguments in ((), ("--to", str(heir))):
            code, out, err = await stage.switchover(*arguments)
            assert (code, out) == (1, "")
            assert "caught up and ready" in err
            await stage.serves(held)
        standby.send(signal.SIGCONT)
        code, out, err = await stage.switchover("--wait")
        assert code == 0, err
        assert await stage.holders() == [id_of(held), heir]


async def test_a_stop_while_the_only_standby_is_paused_gives_leadership_up(tmp_path: Path) -> None:
    async with scene(tmp_path, 2) as stage:
        held = await stage.active()
        first, standby = stage.replicas
        standby.send(signal.SIGSTOP)
        first.send(signal.SIGTERM)
        assert await first.wait(LIMIT_S) == 0
        standby.send(signal.SIGCONT)
        await standby.wait_log(LEADS, timeout_s=LIMIT_S)
        assert (await stage.holders())[:2] == [id_of(held), 0]


async def test_a_stop_passes_a_paused_standby_over(tmp_path: Path) -> None:
    async with scene(tmp_path, 3) as stage:
        held = await stage.active()
        first, paused, awake = stage.replicas
        paused.send(signal.SIGSTOP)
        first.send(signal.SIGTERM)
        assert await first.wait(LIMIT_S) == 0
        await awake.wait_log(LEADS, timeout_s=LIMIT_S)
        paused.send(signal.SIGCONT)
        holders = await stage.holders()
        assert holders[0] == id_of(held)
        assert len(holders) == 2, "the one that is awake, in place"
        assert LEADS not in paused.log()


async def test_of_two_switchovers_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    async with scene(tmp_path, 3) as stage:
        held = await stage.active()
        asking = [Asking(stage.client, LAYOUT, ROLE, to) for to in sorted(await stage.standby_ids())]
        outcomes: list[int | SwitchoverError] = []

        async def ask(one: Asking) -> None:
            try:
                outcomes.append((await one.ask())[0].request.heir)
            except SwitchoverError as error:
                outcomes.append(error)

        async with asyncio.TaskGroup() as group:
            for one in asking:
                group.create_task(ask(one))
        (heir,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
        (told,) = [outcome for outcome in outcomes if isinstance(outcome, SwitchoverError)]
        assert str(told)
        await stage.wait_standbys(2)
        assert await stage.holders() == [id_of(held), heir]


# --- many, and several roles ---


async def test_mixcoord_hands_its_three_roles_over(tmp_path: Path) -> None:
    roles = ("rootcoord", "datacoord", "querycoord")
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        stage = Scene(client, launcher, etcd.endpoints, 60_000)
        first = await stage.start("mixcoord")
        before = {role: id_of(await wait_active(client, role, timeout_s=LIMIT_S)) for role in roles}
        await first.wait_log("Register Finished", count=3, timeout_s=LIMIT_S)
        second = await stage.start("mixcoord")
        for role in roles:
            await second.wait_log(STANDBY.replace("rootcoord", role), timeout_s=LIMIT_S)
        first.send(signal.SIGTERM)
        assert await first.wait(LIMIT_S) == 0
        await second.wait_log("Register Finished", count=3, timeout_s=LIMIT_S)
        for role in roles:
            holders = await stage.holders(role)
            assert holders == [before[role], id_of(await wait_active(client, role))]
        companion = (await client.get(LAYOUT.session("indexcoord"))).kv
        assert companion is not None
        data = await wait_active(client, "datacoord")
        assert SessionRecord.from_json(companion.value).server_id == id_of(data)
        assert companion.lease == data.lease
        assert "Traceback" not in first.log() + second.log()


async def test_five_standbys_and_one_crash_make_one_new_term(tmp_path: Path) -> None:
    async with scene(tmp_path, 6) as stage:
        held = await stage.active()
        first, *standbys = stage.replicas
        first.send(signal.SIGKILL)
        heir = await wait_active(stage.client, ROLE, other_than=id_of(held), timeout_s=LIMIT_S)
        await stage.serves(heir)
        await asyncio.sleep(1.0)  # for whoever else might try
        assert await stage.holders() == [id_of(held), id_of(heir)]
        tries = [process.log().count("try to register as ACTIVE") for process in standbys]
        assert max(tries) == 1, tries
        assert sum(process.log().count(LEADS) for process in standbys) == 1
