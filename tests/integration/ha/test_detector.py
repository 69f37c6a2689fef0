"""Crash evidence from real processes and real sockets, under both event loops."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import uvloop

from coordd.clock import boottime
from coordd.ha import procfs
from coordd.ha.detector import wait_gone
from coordd.ha.evidence import Evidence
from coordd.ha.held_connection import CONNECT_TIMEOUT_S
from coordd.ha.session import LocalIdentity, Safety, SessionRecord
from tests.support.tcp_proxy import tcp_proxy

US = LocalIdentity.of_this_process()
ELSEWHERE = replace(US, boot_id="another boot")
Run = Callable[[Coroutine[Any, Any, None]], None]

HOLDER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
accepted = []
while True:
    accepted.append(listener.accept())
"""


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in one kind of loop; what the loop has to complain about fails the test."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        complaints: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.get_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
            runner.run(main)
        assert complaints == []

    return run


class Holder:
    """A process that listens and holds on to whatever connects."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def record(self, **safety: Any) -> SessionRecord:
        pid = self.process.pid
        return record_of(
            f"127.0.0.1:{self.port}", pid=pid, **{"start_ticks": procfs.start_ticks(pid)} | safety
        )

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def holder() -> Iterator[Holder]:
    holder = Holder()
    yield holder
    holder.end()


class Listener:
    """A listener in this process, accepting one by one."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, backlog: int = 16) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.create_server((host, port), family=family, backlog=backlog)
        self.socket.settimeout(0)
        self.port: int = self.socket.getsockname()[1]
        self.accepted: list[socket.socket] = []

    async def accept(self, *, within_s: float = 10.0) -> socket.socket:
        async with asyncio.timeout(within_s):
            one, _peer = await asyncio.get_running_loop().sock_accept(self.socket)
        self.accepted.append(one)
        return one

    async def accept_all(self) -> None:
        """Until nobody comes for half a second."""
        with contextlib.suppress(TimeoutError):
            while True:
                await self.accept(within_s=0.5)

    def close(self) -> None:
        """As a dying process does it: connections first."""
        for one in [*self.accepted, self.socket]:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def record_of(address: str, *, pid: int = 0, start_ticks: int = 0) -> SessionRecord:
    """The record of a process on this machine."""
    return SessionRecord(
        server_id=12,
        server_name="rootcoord",
        address=address,
        version="2.3.5",
        host_name=US.host_name,
        safety=Safety(
            2000, boot_id=US.boot_id, pid_namespace=US.pid_namespace, pid=pid, start_ticks=start_ticks
        ),
    )


@contextlib.asynccontextmanager
async def watching(record: SessionRecord, us: LocalIdentity) -> AsyncIterator[asyncio.Task[Evidence]]:
    """The detector at work; cancelled at the end, which it must heed."""
    task = asyncio.get_running_loop().create_task(wait_gone(record, us), name="detector")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def connected_to(port: int) -> int:
    """How many of this process' connections to `port` of this machine are established."""
    established = 0
    inodes = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(fd.readlink()).removeprefix("socket:[").removesuffix("]"))
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and fields[3] == "01" and int(fields[2].rpartition(":")[2], 16) == port:
            established += 1
    return established


# --- the same machine ---


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("knows_start", [True, False])
def test_a_process_that_ends_while_it_is_watched(
    run: Run, holder: Holder, number: signal.Signals, knows_start: bool
) -> None:
    async def main() -> None:
        record = holder.record() if knows_start else holder.record(start_ticks=0)
        async with watching(record, US) as task:
            await asyncio.sleep(0.1)
            assert not task.done()
            before = boottime()
            os.kill(holder.process.pid, number)  # and not reaped: the test is its parent
            evidence = await asyncio.wait_for(task, 10)
        assert evidence.kind == "process exited"
        assert before <= evidence.noticed_at == evidence.confirmed_at <= boottime()
        assert procfs.start_ticks(holder.process.pid) != 0  # a zombie still

    run(main())


def test_a_stopped_process_is_not_gone(run: Run, holder: Holder) -> None:
    async def main() -> None:
        async with watching(holder.record(), US) as task:
            os.kill(holder.process.pid, signal.SIGSTOP)
            await asyncio.sleep(0.2)
            assert not task.done()

    run(main())


@pytest.mark.parametrize("reaped", [True, False])
def test_a_process_that_had_ended_before(run: Run, holder: Holder, reaped: bool) -> None:
    async def main() -> None:
        record = holder.record()
        holder.process.kill()
        if reaped:
            holder.process.wait()
        evidence = await asyncio.wait_for(wait_gone(record, US), 10)
        assert evidence.kind == "process exited"

    run(main())


def test_a_later_process_with_the_same_pid(run: Run, holder: Holder) -> None:
    async def main() -> None:
        ticks = procfs.start_ticks(holder.process.pid)
        evidence = await asyncio.wait_for(wait_gone(holder.record(start_ticks=ticks - 1), US), 10)
        assert evidence.kind == "process exited"

    run(main())


def test_a_thread_of_another_process_with_the_same_pid(run: Run) -> None:
    async def main() -> None:
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        try:
            record = record_of("127.0.0.1:1", pid=thread.native_id or 0, start_ticks=1)
            evidence = await asyncio.wait_for(wait_gone(record, US), 10)
        finally:
            done.set()
            thread.join()
        assert evidence.kind == "process exited"

    run(main())


def test_without_a_start_only_an_end_that_is_seen_counts(run: Run, holder: Holder) -> None:
    """A pid that nobody has any more: its port is watched instead."""

    async def main() -> None:
        record = holder.record(start_ticks=0)
        holder.end()
        with Listener(port=holder.port) as listener:
            async with watching(record, US) as task:
                await listener.accept()
                assert not task.done()
                listener.close()
                assert (await asyncio.wait_for(task, 10)).kind == "connection refused"

    run(main())


def test_without_a_start_a_zombie_proves_nothing(run: Run, holder: Holder) -> None:
    holder.process.kill()
    os.waitid(os.P_PID, holder.process.pid, os.WEXITED | os.WNOWAIT)

    async def main() -> None:
        async with watching(holder.record(start_ticks=0), US) as task:
            await asyncio.sleep(0.3)
            assert not task.done()

    run(main())


# --- another machine ---


def test_a_process_on_another_machine_is_killed(run: Run, holder: Holder) -> None:
    async def main() -> None:
        async with watching(holder.record(), ELSEWHERE) as task:
            await until(lambda: connected_to(holder.port) == 1)
            assert not task.done()
            before = boottime()
            holder.process.kill()
            evidence = await asyncio.wait_for(task, 10)
        assert evidence.kind == "connection refused"
        assert before <= evidence.noticed_at < evidence.confirmed_at <= boottime()

    run(main())


def test_a_refusal_is_no_evidence_until_a_connection_was_held(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        async with watching(record_of(f"127.0.0.1:{port}"), ELSEWHERE) as task:
            await asyncio.sleep(0.5)
            assert not task.done()
            with Listener("127.0.0.1", port) as listener:
                await listener.accept()
            assert (await asyncio.wait_for(task, 10)).kind == "connection refused"

    run(main())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_forms_of_addresses(run: Run, address: str) -> None:
    async def main() -> None:
        with Listener("::1" if address == "::1" else "127.0.0.1") as listener:
            written = f"[{address}]" if ":" in address else address
            async with watching(record_of(f"{written}:{listener.port}"), ELSEWHERE) as task:
                await listener.accept()
                listener.close()
                assert (await asyncio.wait_for(task, 10)).kind == "connection refused"

    run(main())


@pytest.mark.parametrize("address", ["", "rootcoord", "127.0.0.1:0", "127.0.0.1:70000", "a..b:53100"])
def test_what_is_no_address_gives_no_evidence_and_no_error(run: Run, address: str) -> None:
    async def main() -> None:
        async with watching(record_of(address), ELSEWHERE) as task:
            await asyncio.sleep(0.3)
            assert not task.done()

    run(main())


def test_a_server_that_ends_a_connection_and_goes_on_listening(run: Run) -> None:
    """As gRPC servers do after two minutes of silence: dialled a few times, then held again."""

    async def main() -> None:
        with Listener() as listener:
            async with watching(record_of(f"127.0.0.1:{listener.port}"), ELSEWHERE) as task:
                (await listener.accept()).close()
                await listener.accept_all()
                assert not task.done()
                assert 2 < len(listener.accepted) < 20
                assert connected_to(listener.port) == 1
                listener.close()
                assert (await asyncio.wait_for(task, 10)).kind == "connection refused"

    run(main())


@pytest.mark.parametrize("how", ["kept", "closed", "reset"])
def test_a_connect_that_still_succeeds_is_no_sign_of_life(run: Run, how: str) -> None:
    async def main() -> None:
        with Listener() as listener:
            async with watching(record_of(f"127.0.0.1:{listener.port}"), ELSEWHERE) as task:
                (await listener.accept()).close()
                second = await listener.accept()
                listener.socket.close()
                if how == "reset":
                    reset(second)
                elif how == "closed":
                    second.close()
                assert (await asyncio.wait_for(task, 10)).kind == "connection refused"

    run(main())


def test_a_connection_that_ends_before_anyone_looks_was_one(run: Run) -> None:
    async def main() -> None:
        with Listener() as listener:
            async with watching(record_of(f"127.0.0.1:{listener.port}"), ELSEWHERE) as task:
                async with asyncio.timeout(10):
                    while await nobody_waits(listener):
                        pass
                reset(listener.accepted.pop())  # in the same turn of the loop
                listener.close()
                assert (await asyncio.wait_for(task, 10)).kind == "connection refused"

    run(main())


async def nobody_waits(listener: Listener) -> bool:
    """Take a turn of the loop; False when a connection was there to be accepted then."""
    await asyncio.sleep(0)
    try:
        one, _peer = listener.socket.accept()
    except BlockingIOError:
        return True
    listener.accepted.append(one)
    return False


def test_a_name_that_moves_to_another_address_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the new address, while the old one goes on."""
    addresses = iter(["127.0.0.1"])

    def resolve(_host: str, port: int, *_args: Any, **_kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(addresses, "127.0.0.2"), port))]

    async def main() -> None:
        with Listener() as listener:
            async with watching(record_of(f"rootcoord.example:{listener.port}"), ELSEWHERE) as task:
                (await listener.accept()).close()
                await listener.accept_all()
                assert not task.done()
                assert len(listener.accepted) > 1

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    asyncio.run(main())


def test_connections_in_the_backlog_end_with_the_listener(run: Run) -> None:
    async def main() -> None:
        with Listener() as listener:
            async with watching(record_of(f"127.0.0.1:{listener.port}"), ELSEWHERE) as task:
                await until(lambda: connected_to(listener.port) == 1)
                listener.close()  # and nothing was accepted
                assert (await asyncio.wait_for(task, 10)).kind == "connection refused"

    run(main())


def test_an_intermediary_that_resets_every_connection(run: Run) -> None:
    """No evidence, and no storm of connects."""

    async def main() -> None:
        with Listener(backlog=128) as listener:
            async with watching(record_of(f"127.0.0.1:{listener.port}"), ELSEWHERE) as task:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        while True:
                            reset(await listener.accept())
                assert not task.done()
                assert 2 < len(listener.accepted) < 20

    run(main())


def test_a_black_hole_is_no_evidence(run: Run, holder: Holder) -> None:
    async def main() -> None:
        async with (
            tcp_proxy(f"127.0.0.1:{holder.port}") as proxy,
            watching(record_of(proxy.endpoint), ELSEWHERE) as task,
        ):
            await until(lambda: connected_to(proxy.port) == 1)
            proxy.partition()
            await asyncio.sleep(0.2)
            proxy.cut()
            await asyncio.sleep(0.5)  # fresh connects succeed, into silence
            assert not task.done()
            await proxy.refuse()
            proxy.cut()
            assert (await asyncio.wait_for(task, 10)).kind == "connection refused"

    run(main())


def test_connects_without_an_answer_are_no_evidence(run: Run) -> None:
    async def main() -> None:
        with Listener(backlog=0) as listener:
            address = ("127.0.0.1", listener.port)
            async with watching(record_of(f"127.0.0.1:{listener.port}"), ELSEWHERE) as task:
                first = await listener.accept()
                # A full backlog: the kernel drops every further SYN.
                with contextlib.ExitStack() as stack:
                    for _ in range(3):
                        filler = stack.enter_context(socket.socket())
                        filler.settimeout(0)
                        filler.connect_ex(address)
                    await asyncio.sleep(0.1)
                    ended_at = boottime()
                    first.close()
                    await asyncio.sleep(CONNECT_TIMEOUT_S + 0.5)
                    assert not task.done()
                    listener.close()
                    evidence = await asyncio.wait_for(task, 10)
        assert evidence.kind == "connection refused"
        assert evidence.confirmed_at - evidence.noticed_at > CONNECT_TIMEOUT_S
        assert ended_at <= evidence.noticed_at < ended_at + CONNECT_TIMEOUT_S

    run(main())


# --- cancellation ---


def open_fds() -> set[str]:
    """What this process has open, as `number -> target`."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{fd.name} -> {fd.readlink()}")
    return {one for one in found if "/proc/" not in one}


@pytest.mark.parametrize("us", [US, ELSEWHERE], ids=["here", "elsewhere"])
def test_a_cancelled_detector_leaves_nothing_open(run: Run, holder: Holder, us: LocalIdentity) -> None:
    async def main() -> None:
        await warm_up()
        before = open_fds()
        for steps in [*range(12), None]:
            async with watching(holder.record(), us) as task:
                if steps is None:
                    await until(lambda: len(open_fds()) > len(before))
                else:
                    await turns(steps)
                assert not task.done()
            assert task.cancelled()
            assert open_fds() == before
            assert readers() in {1, None}  # the loop's own
        holder.process.kill()
        await asyncio.sleep(0.02)

    run(main())


def readers() -> int | None:
    """How many descriptors the running loop looks at, if it tells."""
    selector = getattr(asyncio.get_running_loop(), "_selector", None)
    return None if selector is None else len(selector.get_map())


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def warm_up() -> None:
    """Let the loop open what it opens for itself."""
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 1)
    await asyncio.sleep(0.01)


def test_evidence_leaves_nothing_open(run: Run, holder: Holder) -> None:
    async def main() -> None:
        await warm_up()
        before = open_fds()
        async with watching(holder.record(), US) as here, watching(holder.record(), ELSEWHERE) as elsewhere:
            await until(lambda: connected_to(holder.port) == 1)
            holder.process.kill()
            await asyncio.wait_for(asyncio.wait([here, elsewhere]), 10)
            assert here.result().kind != elsewhere.result().kind
            assert open_fds() == before

    run(main())


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
