"""What `coordd switchover` refuses without asking, and what it says then."""

import pytest

from coordd.cli.switchover_command import (
    ActiveCannotHandOver,
    NobodyActive,
    NotAStandby,
    RoleView,
    SwitchoverPending,
)
from coordd.errors import CoorddError
from coordd.ha.leadership import SessionEntry
from coordd.ha.session import Safety, SessionRecord
from coordd.ha.switchover import SwitchoverEntry, SwitchoverRequest, SwitchoverState


def session(server_id: int, *, milvus: bool = False, name: str = "") -> SessionEntry:
    record = SessionRecord(
        server_id=server_id,
        server_name="rootcoord",
        address=f"10.0.0.{server_id}:53100",
        version="2.3.5",
        safety=None if milvus else Safety(2000),
    )
    return SessionEntry(name or f"session/rootcoord-{server_id}", 100 + server_id, server_id, record)


ACTIVE = session(12, name="session/rootcoord")
SESSIONS = (session(12), session(13), session(14), session(15, milvus=True))


def request(state: SwitchoverState = SwitchoverState.ASKED) -> SwitchoverEntry:
    value = SwitchoverRequest("5e0a", 112, 0, "host-a/77", at_ms=1_700_000_000_000, state=state, heir=13)
    return SwitchoverEntry("switchover/rootcoord", 500, value)


def view(
    active: SessionEntry | None = ACTIVE,
    sessions: tuple[SessionEntry, ...] = SESSIONS,
    pending: SwitchoverEntry | None = None,
) -> RoleView:
    return RoleView("rootcoord", active, sessions, pending)


@pytest.mark.parametrize("to", [0, 13, 14])
def test_any_standby_or_one_of_them_may_be_asked_for(to: int) -> None:
    assert view().may_ask(to).server_id == 12
    assert view().epoch == 112


@pytest.mark.parametrize(
    ("seen", "to", "kind", "words"),
    [
        (view(active=None), 0, NobodyActive, ["nobody is active rootcoord"]),
        (
            view(active=SessionEntry("session/rootcoord", 112, 12, None)),
            0,
            ActiveCannotHandOver,
            ["session/rootcoord does not hold a session record"],
        ),
        (
            view(active=session(15, milvus=True)),
            13,
            ActiveCannotHandOver,
            ["server 15 at 10.0.0.15:53100", "Milvus coordinator"],
        ),
        (view(), 12, NotAStandby, ["server 12 is active rootcoord already", "standbys: 13, 14"]),
        (view(), 99, NotAStandby, ["server 99 is no standby of rootcoord", "standbys: 13, 14"]),
        (view(), 15, NotAStandby, ["server 15 is a Milvus coordinator", "standbys: 13, 14"]),
        (view(sessions=SESSIONS[:1]), 13, NotAStandby, ["there is no standby to hand over to"]),
        (view(pending=request()), 0, SwitchoverPending, ["asked by host-a/77 at 2023-11-1"]),
    ],
)
def test_what_cannot_be_asked(seen: RoleView, to: int, kind: type[CoorddError], words: list[str]) -> None:
    with pytest.raises(kind) as raised:
        seen.may_ask(to)
    assert raised.value.hint
    for word in words:
        assert word in str(raised.value)


def test_an_answered_and_an_unreadable_request_are_no_obstacle() -> None:
    assert view(pending=request(SwitchoverState.DONE)).may_ask(0).server_id == 12
    assert view(pending=request(SwitchoverState.REFUSED)).may_ask(0).server_id == 12
    assert view(pending=SwitchoverEntry("switchover/rootcoord", 500, None)).may_ask(0).server_id == 12
