"""The management port over HTTP."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from coordd import log
from coordd.management.metrics import Metrics
from coordd.management.server import ManagementServer
from coordd.pb.common_pb2 import StateCode
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.port import PortInUse, PortReservation
from tests.support.management import FakeView, standby
from tests.support.rpc import FakeGate

HOST = "127.0.0.1"


class Site:
    """A server with two replicas, and a client of it."""

    def __init__(
        self, session: aiohttp.ClientSession, server: ManagementServer, views: list[FakeView]
    ) -> None:
        self.session = session
        self.server = server
        self.rootcoord, self.datacoord = views

    async def ask(self, path: str, method: str = "GET", **options: Any) -> tuple[int, str]:
        async with self.session.request(
            method, f"http://{HOST}:{self.server.port}{path}", **options
        ) as reply:
            return reply.status, await reply.text()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    views = [FakeView(), standby("datacoord")]
    metrics = Metrics(version="0.1.0", milvus_version="2.3.5")
    for view in views:
        metrics.add_replica(view, Dispatcher(DispatchTable(), FakeGate(), cluster="by-dev"))
    async with (
        ManagementServer(views, metrics, host=HOST, port=0) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Site(session, server, views)


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    log.set_level("info")
    yield
    log.set_level("info")


async def test_healthz_is_milvus_answer(site: Site) -> None:
    assert await site.ask("/healthz") == (200, "OK")
    site.rootcoord.state_code = StateCode.Abnormal
    assert await site.ask("/healthz") == (500, "component rootcoord state is Abnormal")


async def test_healthz_as_json_when_the_request_says_json(site: Site) -> None:
    json_header = {"Content-Type": "application/json"}
    status, text = await site.ask("/healthz", headers=json_header)
    assert (status, text) == (
        200,
        '{"state":"OK","detail":[{"name":"rootcoord","code":1},{"name":"datacoord","code":3}]}',
    )
    site.datacoord.state_code = StateCode.Initializing
    status, text = await site.ask("/healthz", headers=json_header)
    assert status == 500
    assert json.loads(text)["state"] == "component datacoord state is Initializing"
    assert (await site.ask("/healthz", headers={"Accept": "application/json"}))[1].startswith("component")


async def test_livez_does_not_depend_on_any_replica(site: Site) -> None:
    site.rootcoord.state_code = StateCode.Abnormal
    assert await site.ask("/livez") == (200, "OK")


async def test_leader_and_standby_for_load_balancers(site: Site) -> None:
    assert await site.ask("/leader?role=rootcoord") == (200, "rootcoord 4 is active\n")
    assert (await site.ask("/leader?role=datacoord"))[0] == 503
    assert (await site.ask("/standby?role=datacoord"))[0] == 200
    assert (await site.ask("/standby?role=rootcoord"))[0] == 503
    assert (await site.ask("/leader"))[0] == 503
    assert (await site.ask("/readyz"))[0] == 200
    assert (await site.ask("/leader?role=querycoord"))[0] == 404
    site.rootcoord.serving = False  # the guard has passed
    assert (await site.ask("/leader?role=rootcoord"))[0] == 503
    assert (await site.ask("/readyz"))[0] == 503


async def test_head_is_answered_like_get(site: Site) -> None:
    assert await site.ask("/leader?role=rootcoord", "HEAD") == (200, "")
    assert (await site.ask("/leader?role=datacoord", "HEAD"))[0] == 503


async def test_metrics(site: Site) -> None:
    async with site.session.get(f"http://{HOST}:{site.server.port}/metrics") as reply:
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await reply.text()
    assert 'coordd_state{role="rootcoord",state="active"} 1.0' in text
    status, text = await site.ask("/metrics_default")
    assert status == 200
    assert "process_resident_memory_bytes" in text


async def test_log_level(site: Site) -> None:
    assert await site.ask("/log/level") == (200, '{"level":"info"}\n')
    assert await site.ask("/log/level", "PUT", json={"level": "debug"}) == (200, '{"level":"debug"}\n')
    assert await site.ask("/log/level") == (200, '{"level":"debug"}\n')
    assert await site.ask("/log/level", "PUT", data={"level": "warn"}) == (200, '{"level":"warn"}\n')
    status, text = await site.ask("/log/level", "PUT", data=b'{"level":"loud"}')
    assert (status, json.loads(text)) == (400, {"error": 'unrecognized level: "loud"'})
    status, text = await site.ask("/log/level", "PUT", data=b"\xff\xfe")
    assert (status, "error" in json.loads(text)) == (400, True)
    status, text = await site.ask("/log/level", "POST", json={"level": "debug"})
    assert (status, json.loads(text)) == (405, {"error": "Only GET and PUT are supported."})
    assert log.get_level() == "warn"


async def test_a_put_that_is_too_long_is_refused(site: Site) -> None:
    assert (await site.ask("/log/level", "PUT", data=b"x" * 10_000))[0] == 413


def address_of_this_machine() -> str | None:
    """An address of this machine that is not loopback; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address


@pytest.mark.parametrize(("allowed", "expected"), [(False, 403), (True, 200)])
async def test_a_change_from_elsewhere_needs_permission(*, allowed: bool, expected: int) -> None:
    """Asked over an address that is not loopback, on which the server sees a peer that is not loopback."""
    address = address_of_this_machine()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    metrics = Metrics(version="0", milvus_version="0")
    async with (
        ManagementServer([], metrics, host=address, port=0, allow_remote_changes=allowed) as server,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://{address}:{server.port}/log/level"
        spoofed = {"X-Forwarded-For": "127.0.0.1"}
        async with session.put(url, json={"level": "debug"}, headers=spoofed) as reply:
            assert reply.status == expected
        async with session.get(url) as reply:
            assert await reply.json() == {"level": "debug" if allowed else "info"}


async def test_unknown_path(site: Site) -> None:
    assert (await site.ask("/no/such/path"))[0] == 404


@pytest.mark.parametrize("host", ["", HOST])
async def test_port_in_use_names_setting_and_variable(host: str) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            async with ManagementServer([], Metrics(version="0", milvus_version="0"), host=host, port=port):
                pass
    assert str(port) in str(caught.value)
    assert "METRICS_PORT" in str(caught.value)
    assert "coordd.management.port" in str(caught.value)


async def test_a_port_that_is_only_reserved_is_in_use_too() -> None:
    with PortReservation(HOST, 0, setting="rootCoord.port") as reserved, pytest.raises(PortInUse):
        async with ManagementServer(
            [], Metrics(version="0", milvus_version="0"), host=HOST, port=reserved.port
        ):
            pass


async def test_all_interfaces_of_both_families(site: Site) -> None:
    async with ManagementServer([], Metrics(version="0", milvus_version="0"), port=0) as server:
        async with site.session.get(f"http://127.0.0.1:{server.port}/livez") as reply:
            assert reply.status == 200
        if socket.has_dualstack_ipv6():
            async with site.session.get(f"http://[::1]:{server.port}/livez") as reply:
                assert reply.status == 200
        url = f"http://127.0.0.1:{server.port}/log/level"  # arrives as ::ffff:127.0.0.1
        async with site.session.put(url, json={"level": "error"}) as reply:
            assert reply.status == 200


async def test_the_port_is_free_again_afterwards(site: Site) -> None:
    async with ManagementServer([], Metrics(version="0", milvus_version="0"), host=HOST, port=0) as server:
        port = server.port
        async with site.session.get(f"http://{HOST}:{port}/livez") as reply:
            assert reply.status == 200
    async with ManagementServer([], Metrics(version="0", milvus_version="0"), host=HOST, port=port) as server:
        assert server.port == port
