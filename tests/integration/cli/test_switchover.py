"""`coordd switchover` against real etcd and an active replica that follows a script."""

import asyncio
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from coordd.cli import switchover_command
from coordd.cli.switchover_command import (
    ActiveSilent,
    Asking,
    HeirNotServing,
    LeadershipMoved,
    SwitchoverPending,
    switchover,
)
from coordd.config import Settings, load_config
from coordd.etcd import Delete, EtcdClient, TxnResult, WatchBatch
from coordd.etcd.errors import NoSpace, OutcomeUnknown
from coordd.ha.switchover import SwitchoverEntry, SwitchoverRequest, SwitchoverState
from tests.integration.cli.support import Role, coordd
from tests.support.etcd import EtcdCluster

pytestmark = pytest.mark.timeout(60)


def settings(role: Role) -> Settings:
    return load_config(Path(role.config)).settings


async def test_the_heir_and_the_time_are_told(role: Role) -> None:
    epoch = await role.make(12, 13, 14)
    asked: list[SwitchoverRequest | None] = []

    async def hand_over(entry: SwitchoverEntry) -> None:
        asked.append(entry.request)
        kv = (await role.client.get(entry.key)).kv
        assert kv is not None
        left_s = await role.client.lease_time_left_s(kv.lease)  # a killed command leaves it for that long
        assert left_s is not None
        assert left_s <= switchover_command.LEASE_TTL_S
        await role.hand_over(entry, 14)

    async with role.reacting(epoch, hand_over):
        code, out, err = await coordd("switchover", "rootcoord", "--to", "14", "--config", role.config)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"rootcoord: server 12 handed over to server 14 in \d+\.\d ms\n", out)
    (request,) = asked
    assert request is not None
    assert (request.epoch, request.to) == (epoch, 14)
    assert re.fullmatch(r".+/\d+", request.by)
    assert await role.request_is_gone()


async def test_a_refusal_is_an_error_with_the_reason(role: Role) -> None:
    epoch = await role.make(12)

    async with role.reacting(epoch, lambda entry: role.refuse(entry, "nobody stands by")):
        code, out, err = await coordd("switchover", "rootcoord", "--config", role.config)
    assert (code, out) == (1, "")
    assert "server 12 refused to hand rootcoord over: nobody stands by" in err
    assert "Traceback" not in err
    assert await role.request_is_gone()


async def test_waiting_ends_with_the_record_of_the_heirs_term(role: Role) -> None:
    epoch = await role.make(12, 13)
    served = asyncio.Event()

    async def hand_over(entry: SwitchoverEntry) -> None:
        heirs_epoch = await role.hand_over(entry, 13)
        await asyncio.sleep(0.3)
        served.set()
        await role.term(heirs_epoch, 13)

    async with role.reacting(epoch, hand_over):
        code, out, err = await coordd("switchover", "rootcoord", "--wait", "--config", role.config)
        assert served.is_set()
    assert (code, err) == (0, "")
    assert re.search(r"^rootcoord: server 13 serves, \d+\.\d ms after it was asked for$", out, re.MULTILINE)


async def test_an_heir_that_does_not_serve_is_an_error(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switchover_command, "SERVE_LIMIT_S", 0.5)
    epoch = await role.make(12, 13)

    async def hand_over(entry: SwitchoverEntry) -> None:
        await role.term(await role.hand_over(entry, 13) - 1, 12)  # of another term

    async with role.reacting(epoch, hand_over):
        with pytest.raises(HeirNotServing, match="server 13 has inherited rootcoord but did not serve"):
            await switchover(settings(role), "rootcoord", to=0, wait=True)


async def test_an_active_that_does_not_answer(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switchover_command, "ANSWER_LIMIT_S", 0.5)
    await role.make(12, 13)
    with pytest.raises(ActiveSilent, match=r"server 12 at 127.0.0.1:12 did not answer .* withdrawn"):
        await switchover(settings(role), "rootcoord", to=0, wait=False)
    assert await role.request_is_gone()


async def test_an_interrupted_command_leaves_no_request_behind(role: Role) -> None:
    epoch = await role.make(12, 13)
    command = asyncio.create_task(switchover(settings(role), "rootcoord", to=0, wait=False))
    await role.next_request(epoch)
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert await role.request_is_gone()


async def test_of_two_at_once_one_wins_and_the_other_is_told(
    role: Role, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch = await role.make(12, 13)
    async with asyncio.TaskGroup() as group:
        group.create_task(switchover(settings(role), "rootcoord", to=0, wait=False))
        entry = await role.next_request(epoch)
        assert entry.request is not None
        with pytest.raises(SwitchoverPending) as raised:
            await switchover(settings(role), "rootcoord", to=0, wait=False)
        assert f"under way, asked by {entry.request.by} at 20" in str(raised.value)
        await role.hand_over(entry, 13)
    assert "server 12 handed over to server 13" in capsys.readouterr().out


async def test_many_at_the_same_moment_move_leadership_once(role: Role) -> None:
    """Whoever comes late is told that another asks, or that leadership has moved: it is not moved again."""
    epoch = await role.make(12, 13)

    async def hand_over(entry: SwitchoverEntry) -> None:
        await role.hand_over(entry, 13)

    async with role.reacting(epoch, hand_over):
        outcomes = await asyncio.gather(
            *(switchover(settings(role), "rootcoord", to=13, wait=False) for _ in range(6)),
            return_exceptions=True,
        )
    assert outcomes.count(None) == 1, outcomes
    assert all(isinstance(one, switchover_command.SwitchoverError | None) for one in outcomes), outcomes
    assert await role.request_is_gone()


async def test_leadership_that_moves_while_this_is_about_to_ask_is_not_moved_again(role: Role) -> None:
    seen = await role.make(12, 13)
    moved = await role.client.put(role.layout.session("rootcoord"), role.record(13).to_json())
    assert moved > seen
    lease = await role.client.grant(60)
    with pytest.raises(LeadershipMoved, match="server 13 became active rootcoord just now"):
        await Asking(role.client, role.layout, "rootcoord", to=0)._write(lease, seen)
    assert await role.request_is_gone()


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_request_of_unknown_outcome_is_found_with_its_answer_or_without(
    role: Role, etcd_server: EtcdCluster, at_once: bool
) -> None:
    epoch = await role.make(12, 13)
    lost, answered = asyncio.Event(), asyncio.Event()

    class Forgetful(EtcdClient):
        """Loses the answer to its first transaction, which is carried out."""

        async def txn(self, *arguments: Any, **options: Any) -> TxnResult:
            result = await super().txn(*arguments, **options)
            if lost.is_set():
                return result
            if at_once:
                await answered.wait()
            lost.set()
            raise OutcomeUnknown("the answer was lost")

    async def hand_over(entry: SwitchoverEntry) -> None:
        if not at_once:
            await lost.wait()
        await role.hand_over(entry, 13)
        answered.set()

    async with Forgetful(etcd_server.settings()) as client, role.reacting(epoch, hand_over):
        answer, active, _ = await Asking(client, role.layout, "rootcoord", to=13).ask()
    assert lost.is_set()
    assert (answer.request.heir, active.server_id) == (13, 12)
    assert await role.request_is_gone()


async def test_an_etcd_that_takes_no_writes_is_what_is_told(role: Role, etcd_server: EtcdCluster) -> None:
    await role.make(12, 13)

    class Full(EtcdClient):
        """Whose writes are refused, as by an etcd whose quota is used up."""

        async def txn(self, *_arguments: Any, **_options: Any) -> TxnResult:
            raise NoSpace("database space exceeded")

    async with Full(etcd_server.settings()) as client:
        with pytest.raises(NoSpace):
            await Asking(client, role.layout, "rootcoord", to=0).ask()


async def test_an_answer_that_comes_as_the_request_is_withdrawn_counts(
    role: Role, etcd_server: EtcdCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switchover_command, "ANSWER_LIMIT_S", 1.0)
    epoch = await role.make(12, 13)
    answered = asyncio.Event()

    class Deaf(EtcdClient):
        """Whose watch delivers nothing, and who reads on only when the answer is there."""

        def watch(self, *_arguments: Any, **_options: Any) -> AsyncGenerator[WatchBatch, None]:
            async def nothing() -> AsyncGenerator[WatchBatch, None]:
                await asyncio.Event().wait()
                yield WatchBatch(0, ())

            return nothing()

        async def txn(self, compares: Any, success: Any, *more: Any, **options: Any) -> TxnResult:
            if any(isinstance(op, Delete) for op in success):
                await answered.wait()
            return await super().txn(compares, success, *more, **options)

    async def hand_over(entry: SwitchoverEntry) -> None:
        await role.hand_over(entry, 13)
        answered.set()

    async with Deaf(etcd_server.settings()) as client, role.reacting(epoch, hand_over):
        answer, _, _ = await Asking(client, role.layout, "rootcoord", to=0).ask()
    assert answer.request.heir == 13


@pytest.mark.parametrize(
    "left",
    [b"not json", SwitchoverRequest("old", 1, 0, "h/1", 1, SwitchoverState.REFUSED, "old").to_json()],
)
async def test_an_answer_left_behind_is_no_obstacle(role: Role, left: bytes) -> None:
    await role.make(12, 13)
    revision = await role.client.put(role.layout.switchover("rootcoord"), left)

    async with role.reacting(revision, lambda entry: role.refuse(entry, "not now")):
        code, _, err = await coordd("switchover", "rootcoord", "--config", role.config)
    assert code == 1
    assert "not now" in err


@pytest.mark.parametrize(
    ("milvus", "arguments", "words"),
    [
        (False, ["datacoord"], ["nobody is active datacoord"]),
        (True, ["rootcoord"], ["server 12 at 127.0.0.1:12, a Milvus coordinator"]),
        (False, ["rootcoord", "--to", "12"], ["server 12 is active rootcoord already", "standbys: 13"]),
        (False, ["rootcoord", "--to", "77"], ["server 77 is no standby of rootcoord", "standbys: 13"]),
    ],
)
async def test_what_is_impossible_is_refused_without_asking(
    role: Role, milvus: bool, arguments: list[str], words: list[str]
) -> None:
    await role.make(12, 13, milvus=milvus)
    code, out, err = await coordd("switchover", *arguments, "--config", role.config)
    assert (code, out) == (1, "")
    for word in words:
        assert word in err
    assert "Traceback" not in err
    assert await role.request_is_gone()


@pytest.mark.parametrize("arguments", [[], ["proxy"], ["rootcoord", "--to", "0"], ["rootcoord", "--to", "x"]])
async def test_a_wrong_command_line(arguments: list[str]) -> None:
    code, _, _ = await coordd("switchover", *arguments)
    assert code == 2
