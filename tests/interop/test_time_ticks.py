"""UpdateChannelTimeTick of coordd and of Milvus' own rootcoord, and Milvus' own proxy as a reporter."""

import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from coordd.ha.session import SessionRecord
from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.internal_pb2 import ChannelTimeTickMsg
from coordd.rootcoord.messages import time_tick
from tests.interop.test_recorded import RECORDING
from tests.lab.channel_recording import ChannelMessage, read_channels
from tests.lab.cluster import MilvusLab
from tests.lab.recorder import open_rootcoord
from tests.lab.recording import load
from tests.lab.wire import Stub

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

PROXY = 70
PROXY_KEY = f"by-dev/meta/session/proxy-{PROXY}"
STAMP = 470_716_483_765_272_578


def message(msg_type: Any = MsgType.TimeTick, source: int = PROXY, **fields: Any) -> ChannelTimeTickMsg:
    return ChannelTimeTickMsg(base=MsgBase(msg_type=msg_type, sourceID=source), **fields)


CALLS = (
    message(default_timestamp=STAMP),
    message(default_timestamp=STAMP - 5),
    message(channelNames=["by-dev-rootcoord-dml_0", "x"], timestamps=[STAMP, 0], default_timestamp=STAMP),
    message(channelNames=["by-dev-rootcoord-dml_0"], timestamps=[STAMP]),
    message(),
    message(source=99),
    message(source=99, timestamps=[1, 2]),
    message(source=99, default_timestamp=STAMP),
    message(source=0, default_timestamp=STAMP),
    message(source=99, channelNames=["a"], default_timestamp=STAMP),
    message(channelNames=["a"], default_timestamp=STAMP),
    message(channelNames=["a", "b"], timestamps=[1], default_timestamp=STAMP),
    message(timestamps=[1], default_timestamp=STAMP),
    message(MsgType.CreateCollection, default_timestamp=STAMP),
    message(MsgType.Undefined),
    message(31_337, default_timestamp=STAMP),
    message(MsgType.Insert, source=99, channelNames=["a"]),
)


def registered(address: str) -> bytes:
    """The session record of a proxy."""
    record = SessionRecord(server_id=PROXY, server_name="proxy", address=address, version="2.3.5")
    return record.to_json()


def update(stub: Stub, request: ChannelTimeTickMsg) -> dict[str, Any]:
    """The answer as plain data; {} is success."""
    answer = stub.call("UpdateChannelTimeTick", request)
    return json_format.MessageToDict(answer, preserving_proto_field_name=True)


def test_the_same_reports_get_the_same_answers(tmp_path: Path) -> None:
    """The proxy is one that hangs, so that nobody takes it for dead however long this lasts."""
    answers: dict[str, list[dict[str, Any]]] = {}
    for kind in ("milvus", "coordd"):
        with MilvusLab(tmp_path / kind) as lab, socket.create_server(("127.0.0.1", 0)) as hung:
            lab.etcd.load({PROXY_KEY: registered(f"127.0.0.1:{hung.getsockname()[1]}")})
            rootcoord = lab.start("rootcoord") if kind == "milvus" else lab.start_coordd("rootcoord")
            rootcoord.wait_state("Healthy")
            with open_rootcoord(rootcoord.address) as stub:
                answers[kind] = [update(stub, call) for call in CALLS]
    for call, ours, theirs in zip(CALLS, answers["coordd"], answers["milvus"], strict=True):
        assert ours == theirs, str(call)
    assert {answer.get("code", 0) for answer in answers["coordd"]} == {0, 1100, 65535}


def test_a_real_proxy_reports_and_a_killed_one_loses_its_session_early(tmp_path: Path) -> None:
    with MilvusLab(tmp_path, session_ttl_s=60) as lab:
        coordd = lab.start_coordd("rootcoord")
        lab.start_cluster(rootcoord=coordd, nodes=("proxy",))
        proxy = lab.component("proxy")
        [key] = lab.etcd.dump("by-dev/meta/session/proxy-")
        server_id = int(key.rpartition("-")[2])
        with open_rootcoord(coordd.address) as stub:
            assert update(stub, message(source=server_id, default_timestamp=1)) == {}
            proxy.process.signal(signal.SIGKILL)
            coordd.process.wait_until(
                lambda: not lab.etcd.dump(key), timeout_s=30, what="the end of the dead proxy's session"
            )
            refused = update(stub, message(source=server_id, default_timestamp=STAMP))
        assert refused["reason"] == f"skip ChannelTimeTickMsg from un-recognized session {server_id}"


def test_a_live_proxy_whose_session_is_deleted_ends_itself(tmp_path: Path) -> None:
    """What ending a session comes to for a proxy that is not gone."""
    with MilvusLab(tmp_path, session_ttl_s=60) as lab:
        coordd = lab.start_coordd("rootcoord")
        lab.start_cluster(rootcoord=coordd, nodes=("proxy",))
        proxy = lab.component("proxy")
        [key] = lab.etcd.dump("by-dev/meta/session/proxy-")
        lab.etcd.delete(key)
        proxy.process.wait(60)


def test_ticks_rise_on_every_channel_and_through_a_takeover(tmp_path: Path) -> None:
    """On the channels of the recorded collections, at the word of Milvus' own proxy."""
    with MilvusLab(tmp_path, session_ttl_s=60) as lab:
        lab.etcd.load(load(RECORDING).etcd)
        first = lab.start_coordd("rootcoord")
        lab.start_cluster(rootcoord=first, nodes=("proxy",))
        heir = lab.start_coordd("rootcoord", name="heir")
        heir.wait_standby()
        read_channels(lab.config.kafka_brokers, lambda found: ticks_of(found, 1))
        first.process.signal(signal.SIGKILL)
        heir.wait_state("Healthy")
        found = read_channels(lab.config.kafka_brokers, lambda found: ticks_of(found, 2))
    last: dict[str, int] = {}
    for message in found:  # of each channel in order
        base = message.base
        assert base.timestamp > last.get(message.channel, 0), str(message)
        if base.msg_type == MsgType.TimeTick:
            assert message.payload == time_tick(base.timestamp, server_id=base.sourceID)
            last[message.channel] = base.timestamp


def ticks_of(found: list[ChannelMessage], senders: int) -> bool:
    """Whether each channel has five ticks of each of so many rootcoords."""
    counts: dict[str, dict[int, int]] = {}
    for message in found:
        if message.base.msg_type != MsgType.TimeTick:
            continue
        by_sender = counts.setdefault(message.channel, {})
        by_sender[message.base.sourceID] = by_sender.get(message.base.sourceID, 0) + 1
    return bool(counts) and all(
        len(by_sender) == senders and min(by_sender.values()) >= 5 for by_sender in counts.values()
    )
