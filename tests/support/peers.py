"""Other processes of a cluster, as RootCoord's clients see them: a real gRPC server and a session key.

`Acting` runs in the test's own loop and does as it is told; `acting_process` is one in a process of its own,
which can be killed and stopped. Both check `serverid` and `cluster` as Milvus' servers do.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from coordd.etcd import EtcdClient
from coordd.etcd.child import bound_to_parent
from coordd.ha.follower import Follower
from coordd.ha.leadership import SessionTable
from coordd.ha.session_watch import SessionWatch
from coordd.ha.tasks import TaskScope
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout
from coordd.pb import common_pb2, data_coord_pb2, proxy_pb2, query_coord_pb2, root_coord_pb2
from coordd.rpc.call import Call
from coordd.rpc.connection import ClientOptions
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.server import GrpcServer
from coordd.rpc.table import snake_case
from tests.support.etcd import eventually
from tests.support.rpc import FakeGate

CLUSTER = "by-dev"
OPTIONS = ClientOptions(cluster=CLUSTER)
SERVICES = {
    "proxy": proxy_pb2.DESCRIPTOR.services_by_name["Proxy"],
    "rootcoord": root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"],
    "datacoord": data_coord_pb2.DESCRIPTOR.services_by_name["DataCoord"],
    "querycoord": query_coord_pb2.DESCRIPTOR.services_by_name["QueryCoord"],
}
ROOT = Path(__file__).resolve().parents[2]

Reply = Message | Callable[[], Awaitable[Message]]


@dataclass
class Asked:
    """A call as it arrived."""

    method: str
    request: Any
    metadata: dict[str, str]


class Acting:
    """A process of `role`. `replies`: what it answers to a method, if not an empty message (success)."""

    def __init__(self, role: str, server_id: int, *, port: int = 0) -> None:
        self.role = role
        self.asked: list[Asked] = []
        self.replies: dict[str, Reply] = {}
        self.gate = FakeGate()
        self.gate.role, self.gate.server_id = role, server_id
        self._hang = asyncio.Event()
        self._hang.set()
        self.table = DispatchTable()
        self.table.add_service(SERVICES[role], self._handlers())
        self._server = GrpcServer(Dispatcher(self.table, self.gate, cluster=CLUSTER))
        self.port = self._server.listen("127.0.0.1", port, setting=f"{role}.port")

    @property
    def server_id(self) -> int:
        return self.gate.server_id

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def requests(self, method: str) -> list[Any]:
        """What was asked of one method so far."""
        return [one.request for one in self.asked if one.method == method]

    def hang(self) -> None:
        """Answer nothing until `resume`."""
        self._hang.clear()

    def resume(self) -> None:
        """Answer what waits, and all that comes."""
        self._hang.set()

    async def stop(self) -> None:
        """Refuse connections, end those that there are."""
        await self._server.stop()

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang.set()
        await self.stop()

    def _handlers(self) -> object:
        methods = {
            snake_case(method.name): partial(self._answer, method.name, GetMessageClass(method.output_type))
            for method in SERVICES[self.role].methods
        }
        return type("Handlers", (), {name: staticmethod(handler) for name, handler in methods.items()})()

    async def _answer(self, method: str, kind: type[Message], request: Message, call: Call) -> Message:
        self.asked.append(Asked(method, request, dict(call.metadata)))
        await self._hang.wait()
        reply = self.replies.get(method, kind())
        return reply if isinstance(reply, Message) else await reply()


def refusal(reason: str, *, retriable: bool = False) -> common_pb2.Status:
    """A status that is an error."""
    return common_pb2.Status(
        error_code=common_pb2.ErrorCode.UnexpectedError, code=65535, reason=reason, retriable=retriable
    )


@dataclass
class ActingProcess:
    """An `Acting` in a process of its own that answers every call with success."""

    role: str
    server_id: int
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait(10)


@asynccontextmanager
async def acting_process(role: str, server_id: int) -> AsyncIterator[ActingProcess]:
    command = [sys.executable, "-m", "tests.support.peers", role, str(server_id)]
    process = subprocess.Popen(bound_to_parent(command), stdout=subprocess.PIPE, cwd=ROOT)  # noqa: ASYNC220
    assert process.stdout is not None
    try:
        line = await asyncio.get_running_loop().run_in_executor(None, process.stdout.readline)
        yield ActingProcess(role, server_id, int(line), process)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


class Cluster:
    """Session keys under one root path, and a follower that tells of them."""

    def __init__(self, client: EtcdClient, layout: MetaLayout) -> None:
        self.client = client
        self.layout = layout
        self.table = SessionTable(layout)
        self.follower = Follower(client, Fold([self.table]), layout.session_prefix, layout.session_end)
        self.sessions = SessionWatch(self.table, self.follower)

    async def register(self, name: str, server_id: int, address: str, *, wait: bool = True) -> int:
        """Write `session/<name>`; returns the revision. With `wait` it is known when this returns."""
        record = {
            "ServerID": server_id,
            "ServerName": name.partition("-")[0],
            "Address": address,
            "TriggerKill": True,
            "Version": "2.3.5",
            "IndexEngineVersion": {},
        }
        revision = await self.client.put(self.layout.session_prefix + name, json.dumps(record).encode())
        await self._seen(revision, wait=wait)
        return revision

    async def proxy(self, proxy: Acting | ActingProcess) -> int:
        """Give a proxy its session."""
        return await self.register(f"proxy-{proxy.server_id}", proxy.server_id, proxy.address)

    async def active(self, peer: Acting | ActingProcess) -> int:
        """Make a coordinator the active one of its role."""
        return await self.register(peer.role, peer.server_id, peer.address)

    async def remove(self, name: str) -> None:
        """End the session `session/<name>`."""
        await self.client.delete(self.layout.session_prefix + name)
        await eventually(lambda: self.table.get(name) is None)

    async def _seen(self, revision: int, *, wait: bool) -> None:
        if wait:
            assert await self.follower.follows(revision, 5.0)


@asynccontextmanager
async def cluster_in(client: EtcdClient, root: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(client, MetaLayout(root, "meta", "kv"))
    async with TaskScope() as scope:
        scope.create_task(cluster.follower.run(), name="follower")
        await eventually(lambda: cluster.follower.synced)
        yield cluster


async def _run(role: str, server_id: int) -> None:
    async with Acting(role, server_id) as acting:
        print(acting.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2])))
