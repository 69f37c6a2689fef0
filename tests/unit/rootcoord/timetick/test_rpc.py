"""UpdateChannelTimeTick as proxies call it; texts and codes were recorded from a running 2.3.5."""

from typing import Any

import pytest

from coordd.ha.session import SessionRecord
from coordd.pb.common_pb2 import ErrorCode, MsgBase, MsgType, Status
from coordd.pb.internal_pb2 import ChannelTimeTickMsg
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.timetick import TickConditions, TimeTicker
from coordd.rootcoord.timetick.sessions import ProxySessions
from coordd.rpc.failure import RpcCode, RpcFailure
from tests.unit.rootcoord.recorded import LAYOUT, World, world
from tests.unit.rootcoord.term import start_oracle
from tests.unit.rootcoord.test_handlers import ask

METHOD = "UpdateChannelTimeTick"


def message(msg_type: Any = MsgType.TimeTick, source: int = 7, **fields: Any) -> ChannelTimeTickMsg:
    return ChannelTimeTickMsg(base=MsgBase(msg_type=msg_type, sourceID=source), **fields)


async def with_proxy_7() -> World:
    record = SessionRecord(server_id=7, server_name="proxy", address="127.0.0.1:1", version="2.3.5")
    return await world({LAYOUT.session("proxy", 7): record.to_json()})


def ticker(place: World) -> TimeTicker:
    assert place.oracle is not None
    conditions = TickConditions(list, lambda: 0.0, lambda: True, 0.2, 4)
    return TimeTicker(
        floor=1,
        newest=lambda: 0,
        timestamps=place.oracle,
        proxies=ProxySessions(place.sessions),
        queue=None,
        conditions=conditions,
    )


PLAIN = (65535, ErrorCode.UnexpectedError)


@pytest.mark.parametrize(
    ("request_", "codes", "reason"),
    [
        (message(default_timestamp=5), (0, 0), ""),
        (message(channelNames=["c"], timestamps=[4], default_timestamp=5), (0, 0), ""),
        (message(source=99), (0, 0), ""),
        (
            message(source=99, default_timestamp=5),
            PLAIN,
            "skip ChannelTimeTickMsg from un-recognized session 99",
        ),
        (
            message(channelNames=["c"], default_timestamp=5),
            PLAIN,
            "invalid TimeTickMsg, timestamp and channelname size mismatch",
        ),
        (
            message(source=99, channelNames=["c"]),
            PLAIN,
            "invalid TimeTickMsg, timestamp and channelname size mismatch",
        ),
    ],
)
async def test_answers(request_: ChannelTimeTickMsg, codes: tuple[int, int], reason: str) -> None:
    place = await with_proxy_7()
    async with start_oracle(place):
        place.time_ticks = ticker(place)
        answer = await ask(place, METHOD, request_)
    assert isinstance(answer, Status)
    assert ((answer.code, answer.error_code), answer.reason) == (codes, reason)


@pytest.mark.parametrize(
    ("request_", "actual"),
    [
        (message(MsgType.CreateCollection), "CreateCollection"),
        (ChannelTimeTickMsg(default_timestamp=5), "Undefined"),
    ],
)
async def test_another_type_is_refused_first(request_: ChannelTimeTickMsg, actual: str) -> None:
    place = await with_proxy_7()
    async with start_oracle(place):
        place.time_ticks = ticker(place)
        answer = await ask(place, METHOD, request_)
    assert (answer.code, answer.error_code) == (1100, ErrorCode.IllegalArgument)
    assert answer.detail == f"invalid message type: invalid parameter[expected=TimeTick][actual={actual}]"


async def test_after_the_term_the_caller_is_sent_elsewhere() -> None:
    place = await with_proxy_7()

    def over() -> TimeTicker:
        raise TermOverError("this rootcoord is not active")

    place.handlers._time_ticks = over
    with pytest.raises(RpcFailure) as caught:
        await ask(place, METHOD, message(default_timestamp=5))
    assert caught.value.code is RpcCode.UNAVAILABLE
