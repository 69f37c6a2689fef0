"""What etcd's own trouble costs a pair of real rootcoords: time, and nothing else.

No process ends, no role changes hands, no session is lost, and whoever asked meanwhile is answered
afterwards, or told at its deadline. How soon service is back is measured elsewhere; the limits here are for
busy machines.
"""

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from coordd.etcd import EtcdClient, KeyValue
from coordd.etcd.errors import EtcdError
from tests.support.ahead import of_this_module
from tests.support.coordd import LAYOUT, CoorddProcess, coordd_processes, milvus_yaml, wait_active
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.rootcoord_client import RootCoordClient
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.timeout(200)

RESUME_LIMIT_S = 5.0
"""From etcd's first commit to the next answer, on a machine with other things to do."""
START_LIMIT_S = 60.0
GUARD_PASSED_S = 2.5
"""After so long without a commit nothing is answered any more: the serve guard is 2 s."""
SHORT_S = 0.5
HOLD_CAP_S = 60.0
"""No call is held for longer, whatever its deadline: its caller may have to look elsewhere."""


@dataclass
class Pair:
    """An active and a standby rootcoord. `ways`: the proxies between the two and etcd, if any."""

    etcd: EtcdCluster
    client: EtcdClient
    processes: list[CoorddProcess]
    rootcoord: RootCoordClient
    ways: list[TcpProxy]
    sessions: dict[str, KeyValue] = field(default_factory=dict)
    last: int = 0

    async def read_sessions(self) -> dict[str, KeyValue]:
        """All session keys: the ACTIVE key and those of the two."""
        found = await self.client.range(LAYOUT.session_prefix, LAYOUT.session_prefix[:-1] + "0", timeout_s=10)
        return {kv.key: kv for kv in found.kvs if not kv.key.endswith("/id")}

    async def ask(self, timeout_s: float = 5.0) -> None:
        """A timestamp, above all before."""
        first, _ = await self.rootcoord.alloc_timestamp(timeout_s=timeout_s)
        assert first > self.last
        self.last = first

    async def ask_in_vain(self) -> None:
        """A request ends at its deadline, not before and not long after."""
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.rootcoord.alloc_timestamp(timeout_s=SHORT_S)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - started > SHORT_S * 0.9

    async def wait_held(self) -> None:
        """Until nothing is answered any more."""
        limit = time.monotonic() + 10
        while await self.is_answered():
            assert time.monotonic() < limit, "it goes on answering"

    async def is_answered(self) -> bool:
        """Whether a request is answered, and does not end at its deadline."""
        try:
            await self.rootcoord.alloc_timestamp(timeout_s=SHORT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            return False
        return True

    async def first_commit(self) -> None:
        """Until etcd commits what others write."""
        limit = time.monotonic() + 30
        while not await self.commits():
            assert time.monotonic() < limit, "etcd does not come back"

    async def commits(self) -> bool:
        """Whether etcd commits a write of another client within a second."""
        try:
            await self.client.put("probe", b"", timeout_s=1)
        except EtcdError:
            await asyncio.sleep(0.01)
            return False
        return True

    async def check_unchanged(self) -> None:
        """The same processes, the same sessions, the same term."""
        assert [process.returncode for process in self.processes] == [None, None]
        now = await self.read_sessions()
        before = {key: kv.mod_revision for key, kv in self.sessions.items()}
        assert {key: kv.mod_revision for key, kv in now.items()} == before
        for process in self.processes:
            log = process.log()
            assert "registering anew" not in log
            assert "Traceback" not in log


@asynccontextmanager
async def pair(
    folder: Path,
    *,
    members: int = 1,
    ttl_s: int = 60,
    arguments: Sequence[str] = (),
    auth: bool = False,
    by_proxy: bool = False,
) -> AsyncIterator[Pair]:
    """A pair at work; in the end it is checked to be what it was."""
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(etcd_cluster(members, auth=auth, arguments=arguments))
        client = await stack.enter_async_context(EtcdClient(etcd.settings()))
        ways = [
            await stack.enter_async_context(TcpProxy(one)) for one in etcd.endpoints if by_proxy for _ in "12"
        ]
        launcher = await stack.enter_async_context(coordd_processes(folder))
        processes = []
        for number, text in enumerate(("RootCoord startup success", "rootcoord enter STANDBY mode")):
            settings = milvus_yaml([way.endpoint for way in ways[number::2]] or etcd.endpoints, ttl_s=ttl_s)
            if etcd.root_password is not None:
                user: dict[str, Any] = {"enabled": True, "userName": "root", "password": etcd.root_password}
                settings["etcd"]["auth"] = user
            processes.append(await launcher.run("rootcoord", settings))
            await processes[-1].wait_log(text, timeout_s=START_LIMIT_S)
        active = await wait_active(client, "rootcoord")
        assert active.record is not None
        rootcoord = await stack.enter_async_context(RootCoordClient(active.record.address))
        scene = Pair(etcd, client, processes, rootcoord, ways)
        scene.sessions = await scene.read_sessions()
        assert len(scene.sessions) == 3
        await scene.ask()
        yield scene
        await scene.ask()
        await scene.check_unchanged()


async def through_an_outage(scene: Pair, away_s: float, back: Callable[[], None]) -> None:
    """etcd is away; `back` brings it back. Requests wait within their deadlines."""
    began = time.monotonic()
    await asyncio.sleep(min(GUARD_PASSED_S, away_s))
    await scene.wait_held()
    await scene.ask_in_vain()
    await asyncio.sleep(max(0.0, began + away_s - HOLD_CAP_S / 2 - time.monotonic()))
    async with asyncio.TaskGroup() as group:
        patient = group.create_task(scene.ask(HOLD_CAP_S), name="patient")
        await scene.ask_in_vain()
        await asyncio.sleep(max(0.0, began + away_s - time.monotonic()))
        assert not patient.done()
        back()
        await scene.first_commit()
        async with asyncio.timeout(RESUME_LIMIT_S):
            await patient
    await scene.ask()


def start_all(etcd: EtcdCluster) -> None:
    """All members, on their data."""
    for member in etcd.members:
        member.start()


def heal(ways: Sequence[TcpProxy]) -> None:
    """All proxies."""
    for way in ways:
        way.heal()


def each(etcd: EtcdCluster, what: str) -> None:
    """`pause` or `resume` all members."""
    for member in etcd.members:
        getattr(member, what)()


# --- etcd is away as a whole ---


async def two_minutes_without(folder: Path) -> None:
    """A pair lives through two minutes without etcd."""
    async with pair(folder, ttl_s=60) as scene:
        scene.etcd.kill_all()
        await through_an_outage(scene, 120.0, lambda: start_all(scene.etcd))


def run_two_minutes_without(folder: Path) -> None:
    """The same as all that a process does."""
    asyncio.run(two_minutes_without(folder))


@pytest.fixture(scope="module", autouse=True)
def longest_outage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[None] | None]:
    """Passes in a process of its own beside the other tests of this module; None if nobody asks for it."""
    if not any(item.originalname == "test_stopped_for_two_minutes" for item in of_this_module(request)):
        yield None
        return
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    yield pool.submit(run_two_minutes_without, tmp_path_factory.mktemp("two-minutes"))
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("members", [1, 3])
async def test_stopped_for_ten_seconds_and_started_again_on_its_data(tmp_path: Path, members: int) -> None:
    async with pair(tmp_path, members=members) as scene:
        scene.etcd.kill_all()
        await through_an_outage(scene, 10.0, lambda: start_all(scene.etcd))


@pytest.mark.parametrize("members", [1, 3])
async def test_frozen_for_ten_seconds(tmp_path: Path, members: int) -> None:
    async with pair(tmp_path, members=members) as scene:
        each(scene.etcd, "pause")
        await through_an_outage(scene, 10.0, lambda: each(scene.etcd, "resume"))


async def test_stopped_for_longer_than_the_sessions_live(tmp_path: Path) -> None:
    """The serve guard hangs on the lease, too: it must be renewed before anything is answered."""
    async with pair(tmp_path, ttl_s=3) as scene:
        scene.etcd.kill_all()
        await through_an_outage(scene, 8.0, lambda: start_all(scene.etcd))


async def test_packets_vanish_between_etcd_and_both(tmp_path: Path) -> None:
    """Longer than TCP takes to send again, longer than HTTP/2 takes to notice."""
    async with pair(tmp_path, by_proxy=True) as scene:
        for way in scene.ways:
            way.up.swallow = way.down.swallow = True
        await through_an_outage(scene, 11.0, lambda: heal(scene.ways))


# --- single members ---


async def test_each_member_is_lost_in_turn(tmp_path: Path) -> None:
    async with pair(tmp_path, members=3) as scene:
        for member in scene.etcd.members:
            member.kill()
            await scene.first_commit()
            await scene.ask(RESUME_LIMIT_S)
            await asyncio.sleep(1)
            await scene.ask(RESUME_LIMIT_S)
            member.start()
            await asyncio.to_thread(member.wait_healthy)
            await scene.check_unchanged()


async def test_the_leader_freezes_and_wakes(tmp_path: Path) -> None:
    async with pair(tmp_path, members=3) as scene:
        leader = scene.etcd.leader()
        leader.pause()
        await scene.first_commit()
        await scene.ask(RESUME_LIMIT_S)
        leader.resume()
        await asyncio.to_thread(leader.wait_healthy)
        await scene.ask(RESUME_LIMIT_S)


async def test_leadership_moves_from_member_to_member(tmp_path: Path) -> None:
    async with pair(tmp_path, members=3) as scene:
        for _ in range(4):
            leader, heir = scene.etcd.leader(), scene.etcd.followers()[0]
            status = next(one for one in await scene.client.status() if one.endpoint.endswith(heir.endpoint))
            moved = ["move-leader", f"{status.member_id:x}"]
            await asyncio.to_thread(scene.etcd.ctl, *moved, endpoints=[leader.endpoint])
            await scene.ask(RESUME_LIMIT_S)
            await scene.check_unchanged()


# --- etcd is slow, full, forgetful ---


async def test_every_commit_takes_most_of_a_second(tmp_path: Path) -> None:
    async with pair(tmp_path, by_proxy=True) as scene:
        for way in scene.ways:
            way.delay_s = 0.35
        until = time.monotonic() + 8
        while time.monotonic() < until:
            await scene.ask()
            await asyncio.sleep(0.1)
        heal(scene.ways)


async def test_commits_that_take_longer_than_the_guard_are_an_outage(tmp_path: Path) -> None:
    async with pair(tmp_path, by_proxy=True) as scene:
        for way in scene.ways:
            way.delay_s = 1.5
        await scene.wait_held()
        await asyncio.sleep(3)
        await scene.ask_in_vain()
        heal(scene.ways)
        await scene.ask(RESUME_LIMIT_S)


async def test_the_quota_is_used_up_until_somebody_mends_it(tmp_path: Path) -> None:
    async with pair(tmp_path, arguments=["--quota-backend-bytes", str(8 << 20)]) as scene:
        await fill(scene.client)
        await scene.wait_held()
        async with asyncio.TaskGroup() as group:
            patient = group.create_task(scene.ask(60), name="patient")
            await scene.ask_in_vain()
            await asyncio.sleep(2)
            assert not patient.done()
            await asyncio.to_thread(mend, scene.etcd)
            await scene.first_commit()
            async with asyncio.timeout(RESUME_LIMIT_S):
                await patient


async def fill(client: EtcdClient) -> None:
    """Until etcd takes nothing more."""
    for number in itertools.count():
        try:
            await client.put(f"fill/{number}", os.urandom(256 << 10))
        except EtcdError:
            return


def mend(etcd: EtcdCluster) -> None:
    """What an operator does about a full quota."""
    etcd.ctl("del", "fill/", "fill0")
    status = json.loads(etcd.ctl("endpoint", "status", "-w", "json"))
    etcd.ctl("compact", str(status[0]["Status"]["header"]["revision"]))
    etcd.ctl("defrag")
    etcd.ctl("alarm", "disarm")


async def test_tokens_that_expire_in_use(tmp_path: Path) -> None:
    """JSON web tokens end after their time, however often they are used."""
    async with pair(tmp_path, auth=True, arguments=["--auth-token", jwt(tmp_path, ttl_s=2)]) as scene:
        until = time.monotonic() + 8
        while time.monotonic() < until:
            await scene.ask()
            await asyncio.sleep(0.05)


async def test_tokens_that_etcd_has_forgotten(tmp_path: Path) -> None:
    """Simple tokens do not outlive the member."""
    async with pair(tmp_path, auth=True, arguments=["--bcrypt-cost", "4"]) as scene:
        scene.etcd.kill_all()
        await through_an_outage(scene, 4.0, lambda: start_all(scene.etcd))


def jwt(folder: Path, *, ttl_s: int) -> str:
    """etcd's argument for such tokens; makes the key pair."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "jwt.key").write_bytes(private)
    (folder / "jwt.pub").write_bytes(public)
    keys = f"pub-key={folder / 'jwt.pub'},priv-key={folder / 'jwt.key'}"
    return f"jwt,{keys},sign-method=RS256,ttl={ttl_s}s"


# --- the last test: it began with the first ---


@pytest.mark.timeout(320)
def test_stopped_for_two_minutes(longest_outage: Future[None]) -> None:
    longest_outage.result()
