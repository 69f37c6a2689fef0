"""UpdateChannelTimeTick: what a proxy promises of its messages, several times a second.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go, timeticksync.go; recorded replies.
"""

from collections.abc import Callable

from coordd.pb.common_pb2 import MsgType, Status
from coordd.pb.internal_pb2 import ChannelTimeTickMsg
from coordd.rootcoord.errors import elsewhere, msg_type_name
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.timetick import TimeTicker
from coordd.rpc.call import Call
from coordd.rpc.status import ParameterInvalid, success


class TimeTickHandlers:
    """`_time_ticks` gives the time ticks of the present term."""

    _time_ticks: Callable[[], TimeTicker]

    def update_channel_time_tick(self, request: ChannelTimeTickMsg, _call: Call) -> Status:
        """Take the report in; refused from whoever is no registered proxy. A request without `base`, which
        ends Milvus' process, has the type "Undefined"."""
        if request.base.msg_type != MsgType.TimeTick:
            expected, actual = msg_type_name(MsgType.TimeTick), msg_type_name(request.base.msg_type)
            raise ParameterInvalid(expected=expected, actual=actual).wrap("invalid message type")
        try:
            self._time_ticks().report(request)
        except TermOverError as error:
            raise elsewhere(error) from error
        return success()
