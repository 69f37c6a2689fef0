"""A proxy that could not be told of a change gets no timestamps; everybody else does."""

import pytest

from coordd.clock import boottime
from coordd.ha.leadership import SessionEntry
from coordd.ha.session import SessionRecord
from coordd.ha.tasks import TaskScope
from coordd.pb import root_coord_pb2
from coordd.pb.common_pb2 import MsgBase
from coordd.rootcoord.proxies import Departures, TimestampBar
from coordd.rootcoord.proxies.bar import BarredError
from coordd.rootcoord.tso import MAX_COUNT
from tests.support.etcd import eventually
from tests.unit.rootcoord.recorded import world
from tests.unit.rootcoord.term import start_oracle
from tests.unit.rootcoord.test_handlers import ask


def request(source: int, count: int = 1) -> root_coord_pb2.AllocTimestampRequest:
    return root_coord_pb2.AllocTimestampRequest(base=MsgBase(sourceID=source), count=count)


def test_a_proxy_is_barred_until_it_has_answered() -> None:
    bar = TimestampBar()
    bar.owes(7)
    bar.check(8)
    with pytest.raises(BarredError, match="proxy 7 has not confirmed"):
        bar.check(7)
    bar.told(7)
    bar.check(7)
    assert bar.ids == set()


def test_a_proxy_without_a_session_is_barred_for_good() -> None:
    bar = TimestampBar()
    bar.gone(7)
    bar.told(7)
    with pytest.raises(BarredError, match="proxy 7 has no session any more"):
        bar.check(7)
    assert bar.ids == {7}


def test_what_is_owed_is_forgotten_with_the_term_and_who_is_gone_is_not() -> None:
    bar = TimestampBar()
    bar.owes(7)
    bar.owes(8)
    bar.gone(8)
    bar.end_term()
    bar.check(7)
    with pytest.raises(BarredError, match="proxy 8 has no session any more"):
        bar.check(8)
    assert bar.ids == {8}


def test_whoever_had_a_session_and_lost_it_is_barred() -> None:
    bar, sessions = TimestampBar(), {7: session(7)}
    departures = Departures(lambda: dict(sessions), bar)
    departures.look()
    sessions[8] = session(8)
    departures.look()
    bar.check(6)  # one that has not registered yet
    del sessions[7]
    assert bar.ids == set()
    departures.look()
    departures.look()
    assert bar.ids == {7}
    bar.check(8)


def test_who_was_barred_when_its_session_ended_is_remembered_for_a_while() -> None:
    sessions = {7: session(7), 8: session(8, barred=True), 9: session(9, barred=True)}
    departures = Departures(lambda: dict(sessions), TimestampBar())
    departures.look()
    del sessions[7], sessions[8]
    departures.look()
    departures.look()
    assert departures.barred(60) == departures.barred(60) == {8: session(8, barred=True)}
    assert departures.barred(0) == {}
    assert departures.barred(60) == {}, "older ones are forgotten"


def session(server_id: int, *, barred: bool = False) -> SessionEntry:
    record = SessionRecord(server_id, "proxy", f"a:{server_id}", version="2.3.5", barred=barred)
    return SessionEntry(f"proxy-{server_id}", 1, 0, record)


async def test_alloc_timestamp_refuses_a_barred_proxy_and_nobody_else() -> None:
    place = await world()
    place.bar.owes(7)
    async with start_oracle(place):
        other = await ask(place, "AllocTimestamp", request(8))
        nameless = await ask(place, "AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=1))
        refused = await ask(place, "AllocTimestamp", request(7))
        place.bar.told(7)
        again = await ask(place, "AllocTimestamp", request(7))
    assert 0 < other.timestamp < nameless.timestamp < again.timestamp
    assert (refused.status.code, refused.status.retriable, refused.timestamp) == (65535, False, 0)
    assert "proxy 7 has not confirmed that it forgets collections or passwords" in refused.status.reason


async def test_what_was_asked_for_before_the_bar_is_refused_if_it_comes_after() -> None:
    """One that must wait for the clock, as after blocks that use its milliseconds up."""
    place = await world()
    now_ms = 1_800_000_000_000
    async with start_oracle(place, now_ms=lambda: now_ms) as oracle, TaskScope() as scope:
        while isinstance(oracle.timestamps_now(MAX_COUNT), int):
            pass
        waiting = scope.create_task(
            ask(place, "AllocTimestamp", request(7, MAX_COUNT), deadline=boottime() + 10)
        )
        await eventually(lambda: place.gate.running)
        place.bar.owes(7)
        now_ms += 1_000
        refused = await waiting
    assert "proxy 7 has not confirmed" in refused.status.reason
