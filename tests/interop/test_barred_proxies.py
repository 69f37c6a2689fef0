"""A real proxy that could not be told of a change, over a takeover: it must start anew."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from coordd.pb.common_pb2 import MsgType
from coordd.rootcoord.tso import LOGICAL_BITS
from tests.interop.scenario import connect
from tests.interop.test_other_processes import stands_still
from tests.lab.channel_recording import ChannelMessage, read_channels
from tests.lab.client import PymilvusClient
from tests.lab.cluster import MilvusLab
from tests.lab.proxy_calls import ProxyCalls

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

MARK = b'"CoorddBarred":true'


def test_a_proxy_that_wakes_up_after_a_takeover_is_started_anew(tmp_path: Path) -> None:
    """Two proxies, one is stopped while an alias is altered through the other, and rootcoord is killed."""
    with (
        MilvusLab(tmp_path / "lab", session_ttl_s=60) as lab,
        PymilvusClient(lab.files, tmp_path) as client,
        ExitStack() as stack,
    ):
        first = lab.start_coordd("rootcoord")
        first.wait_state("Healthy")
        lab.start_cluster(rootcoord=first, nodes=("proxy", "datanode"))
        stopped = lab.start("proxy", name="second-proxy")
        stopped.wait_state("Healthy")
        heir = lab.start_coordd("rootcoord", name="coordd-heir")
        heir.wait_standby()
        # Connected before it is stopped: of the seconds in which it is awake and refuses none is lost.
        calls = stack.enter_context(ProxyCalls(lab.files, tmp_path, stopped.address))
        assert "has not confirmed" not in calls.call("HasCollection")
        connect(lab, client)
        ids = {name: client.call("create_collection", name=name) for name in ("a", "b")}
        client.call("create_alias", name="a", alias="x")
        [key] = [key for key, value in sessions(lab).items() if stopped.health_address.encode() in value]

        stopped.process.signal(signal.SIGSTOP)
        stopped.process.wait_until(lambda: stands_still(stopped.process.pid), timeout_s=10, what="a stop")
        client.call("alter_alias", name="b", alias="x", timeout_s=30)
        assert client.call("describe_collection", name="x")["collection_id"] == ids["b"]
        assert MARK in sessions(lab)[key]
        first.process.signal(signal.SIGKILL)
        heir.wait_state("Healthy")

        stopped.process.signal(signal.SIGCONT)
        heir.process.wait_until(
            lambda: "has not confirmed" in calls.call("HasCollection"), timeout_s=30, what="a refusal"
        )
        heir.process.wait_until(lambda: key not in sessions(lab), timeout_s=60, what="the session's end")
        stopped.process.wait(60)
        lab.start("proxy", name="third-proxy").wait_state("Healthy")

        def logged(text: str) -> bool:
            return text in heir.process.log.read_text()

        heir.process.wait_until(
            lambda: logged("time ticks go on without a proxy"), timeout_s=60, what="word that it has left"
        )
        bound = time.time_ns() // 1_000_000 << LOGICAL_BITS
        read_channels(lab.config.kafka_brokers, lambda found: any(is_tick(one, bound) for one in found[-1:]))
        client.call("create_collection", name="c")


def sessions(lab: MilvusLab) -> dict[str, bytes]:
    """The proxies' session records by key."""
    return lab.etcd.dump("by-dev/meta/session/proxy-")


def is_tick(message: ChannelMessage, above: int) -> bool:
    base = message.base
    return base.msg_type == MsgType.TimeTick and base.timestamp > above
