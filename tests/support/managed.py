"""Real rootcoord replicas with their management ports."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from coordd.clock import boottime
from tests.support.coordd import CoorddProcess, coordd_processes, milvus_yaml
from tests.support.etcd import EtcdCluster, free_ports

LIMIT_S = 20.0
STANDBY = "serverName: rootcoord enter STANDBY mode"
LEADS = "RootCoord startup success"


async def until(what: str, check: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> None:
    """Poll until it is true."""
    limit = boottime() + limit_s
    while not await check():
        assert boottime() < limit, f"not within {limit_s} s: {what}"
        await asyncio.sleep(0.05)


@dataclass
class Managed:
    """A replica and its management port."""

    process: CoorddProcess
    base: str
    http: aiohttp.ClientSession

    async def ask(self, path: str, method: str = "GET", **options: Any) -> tuple[int, str]:
        """Status and body; (0, "") when nothing listens."""
        try:
            async with self.http.request(method, self.base + path, **options) as reply:
                return reply.status, await reply.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def is_200(self, path: str) -> bool:
        return (await self.ask(path))[0] == 200

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Value by name and labels."""
        families = text_string_to_metric_families((await self.ask("/metrics"))[1])
        return {(one.name, frozenset(one.labels.items())): one.value for f in families for one in f.samples}

    async def metric(self, name: str, **labels: str) -> float | None:
        return (await self.metrics()).get((name, frozenset(labels.items())))


@asynccontextmanager
async def replicas(folder: Path, etcd: EtcdCluster, count: int, **more: Any) -> AsyncIterator[list[Managed]]:
    """Rootcoords on one etcd, the first of them active."""
    async with coordd_processes(folder) as launcher, aiohttp.ClientSession() as http:
        started: list[Managed] = []
        for number, port in enumerate(free_ports(count)):
            env = {"METRICS_PORT": str(port)}
            process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints, **more), env=env)
            started.append(Managed(process, f"http://127.0.0.1:{port}", http))
            await process.wait_log(STANDBY if number else LEADS)
            await until("ready", lambda one=started[-1]: one.is_200("/readyz"))
        yield started
