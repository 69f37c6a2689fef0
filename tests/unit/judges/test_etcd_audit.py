"""Histories of etcd that honest replicas leave, and each of them with one wrong revision."""

import json
from collections.abc import Callable, Sequence

import pytest

from coordd.etcd import Event
from coordd.meta.layout import MetaLayout
from tests.support.etcd_audit import EtcdAudit
from tests.support.linearizability import Violation

LAYOUT = MetaLayout("by-dev", "meta", "kv")
ACTIVE = LAYOUT.session("rootcoord")
HEARTBEAT = LAYOUT.heartbeat("rootcoord")
OFFER = LAYOUT.offer("rootcoord")
ONE, TWO = 1, 2

Change = tuple[str, bytes | None, int]
"""Key, value and lease."""


def put(key: str, value: object, lease: int = 0) -> Change:
    return key, value if isinstance(value, bytes) else json.dumps(value).encode(), lease


def delete(key: str) -> Change:
    return key, None, 0


def session(server_id: int, lease: int | None = None) -> Change:
    key = LAYOUT.session("rootcoord", server_id)
    return put(key, {"ServerID": server_id}, 100 + server_id if lease is None else lease)


def no_session(server_id: int) -> Change:
    return delete(LAYOUT.session("rootcoord", server_id))


def active(server_id: int, lease: int | None = None) -> Change:
    return put(ACTIVE, {"ServerID": server_id}, 100 + server_id if lease is None else lease)


def beat(server_id: int) -> Change:
    return put(HEARTBEAT, {"ServerID": server_id, "ServeGuardMs": 2000})


def report(server_id: int, offer: int = 0, lease: int | None = None) -> Change:
    key = LAYOUT.standby_report("rootcoord", server_id)
    value = {"ServerID": server_id, "Revision": 1, "Synced": True, "Offer": offer}
    return put(key, value, 100 + server_id if lease is None else lease)


def mark(ts_ms: int) -> Change:
    return put(LAYOUT.ddl("rootcoord"), str(ts_ms << 18).encode())


def access(ts_ms: int) -> Change:
    return put(LAYOUT.ddl("rootcoord-access"), str(ts_ms << 18).encode())


def user(name: str) -> Change:
    return put(LAYOUT.user(name), b"{}")


def no_user(name: str) -> Change:
    return delete(LAYOUT.user(name))


def imports(ts_ms: int) -> Change:
    return put(LAYOUT.ddl("rootcoord-import"), str(ts_ms << 18).encode())


def task(id_ms: int) -> Change:
    return put(LAYOUT.import_task(id_ms << 18), b"x")


def answer(state: str, *, to: int = 0, heir: int = 0) -> Change:
    value = {"ID": "x", "Epoch": 3, "To": to, "State": state, "Heir": heir}
    return put(LAYOUT.switchover("rootcoord"), value, 77 if state == "asked" else 0)


def timestamps(end_ms: int) -> Change:
    return put(LAYOUT.timestamp, (end_ms * 1_000_000).to_bytes(8, "big"))


def id_window(end_ms: int) -> Change:
    return put(LAYOUT.id_window, (end_ms * 1_000_000).to_bytes(8, "big"))


def database(db_ms: int, ts_ms: int) -> list[Change]:
    """A new database whose ID and timestamp are the first of these milliseconds."""
    key = LAYOUT.database(db_ms << 18)
    return [put(key, b"x"), put(LAYOUT.snapshot(key, ts_ms << 18), b"x")]


Revisions = list[list[Change]]

BEGIN: Revisions = [
    [session(ONE)],
    [session(TWO)],
    [active(ONE), beat(ONE)],
    [timestamps(100), id_window(50)],
]
"""Two replicas, the first of them leads; revisions 1 to 4."""

TO_TWO_BY_LEASE: Revisions = [[delete(ACTIVE), no_session(ONE)], [active(TWO), beat(TWO)]]
TO_TWO_BY_STEAL: Revisions = [[active(TWO), beat(TWO)]]
HANDOVER = [active(TWO), delete(HEARTBEAT), delete(OFFER)]
TO_TWO_BY_HANDOVER: Revisions = [[put(OFFER, {"ServerID": ONE, "To": 0})], [report(TWO, 5)], HANDOVER]
NEXT_WINDOWS: Revisions = [[timestamps(200), id_window(150)]]

GOOD: dict[str, tuple[Revisions, dict[str, int]]] = {
    "a lease ends": ([*TO_TWO_BY_LEASE, *NEXT_WINDOWS, database(60, 150)], {"after lease end": 1}),
    "a steal": ([*TO_TWO_BY_STEAL, *NEXT_WINDOWS, database(60, 150)], {"stolen": 1}),
    "a campaign claims the windows": (
        [[active(TWO), beat(TWO), timestamps(200), id_window(150)], database(60, 150)],
        {"stolen": 1},
    ),
    "a handover bequeaths windows": (
        [*TO_TWO_BY_HANDOVER[:-1], [*HANDOVER, timestamps(200), id_window(150)], database(60, 150)],
        {"handed over": 1},
    ),
    "a handover": ([*TO_TWO_BY_HANDOVER, [beat(TWO)], *NEXT_WINDOWS, database(60, 150)], {"handed over": 1}),
    "a resignation": (
        [[delete(ACTIVE), delete(HEARTBEAT)], [active(TWO), beat(TWO)], *NEXT_WINDOWS],
        {"after resignation": 1},
    ),
    "somebody deletes the key": ([[delete(ACTIVE)], [active(TWO), beat(TWO)]], {"after deletion": 1}),
    "a term goes on": ([database(10, 50), [beat(ONE)], [timestamps(110)], database(11, 105)], {}),
    "changes are marked": ([[*database(10, 50), mark(50)], [mark(51)]], {}),
    "users change under their own mark": (
        [
            [user("root")],
            [put(LAYOUT.role("admin"), b"")],
            [user("a"), access(50)],
            [mark(51)],
            [no_user("a"), access(52)],
        ],
        {},
    ),
    "import tasks change under their own mark": (
        [[task(10), imports(50)], [mark(51)], [task(10), imports(52)], [delete(task(10)[0]), imports(53)]],
        {},
    ),
    "the next term finds something missing": (
        [
            [user("a"), access(50)],
            *TO_TWO_BY_STEAL,
            *NEXT_WINDOWS,
            [user("root")],
            [no_user("a"), access(150)],
        ],
        {"stolen": 1},
    ),
    "a term is recorded": ([[put(LAYOUT.history("rootcoord", 3), {"ServerID": ONE})]], {}),
    "a standby reports": ([[report(TWO)], [report(TWO)]], {}),
    "a standby comes anew": ([[no_session(TWO)], [session(3)], [report(3)]], {}),
    "an operator asks and is refused": ([[answer("asked")], [answer("refused")]], {}),
    "an operator asks in vain": ([[answer("asked")], [delete(ACTIVE)]], {}),
    "a switchover": (
        [[answer("asked", to=TWO)], [report(TWO, 5)], [*HANDOVER, answer("done", to=TWO, heir=TWO)]],
        {"handed over": 1},
    ),
}

BAD: dict[str, tuple[Revisions, str]] = {
    "a heartbeat of somebody deposed": ([*TO_TWO_BY_STEAL, [beat(ONE)]], "heartbeat was written by 1"),
    "a heartbeat without a term": ([[delete(ACTIVE), no_session(ONE)], [beat(ONE)]], "heartbeat was written"),
    "a heartbeat is deleted": ([[delete(HEARTBEAT)]], "outside a change of leadership"),
    "a window without a term": ([[delete(ACTIVE)], [timestamps(200)]], "outside every term"),
    "a window together with a resignation": (
        [[delete(ACTIVE), delete(HEARTBEAT), timestamps(200)]], "outside every term",
    ),
    "a window goes back": ([*TO_TWO_BY_STEAL, [timestamps(99)]], "went from"),
    "a window stands still": ([[timestamps(100)]], "went from"),
    "a window is damaged": ([[put(LAYOUT.timestamp, b"1")]], "was set to"),
    "metadata without a term": ([[delete(ACTIVE)], database(10, 50)], "outside every term"),
    "metadata of somebody deposed, by its timestamp": (
        [*TO_TWO_BY_STEAL, *NEXT_WINDOWS, database(60, 99)], "none of its author's",
    ),
    "metadata of somebody deposed, by its ID": (
        [*TO_TWO_BY_STEAL, *NEXT_WINDOWS, database(49, 150)], "none of its author's",
    ),
    "metadata before the new windows": ([*TO_TWO_BY_STEAL, database(10, 50)], "none of its author's"),
    "a timestamp of no window": ([database(10, 100)], "none of its author's"),
    "an ID of no window": ([database(50, 60)], "none of its author's"),
    "a mark without a term": ([[delete(ACTIVE)], [mark(50)]], "outside every term"),
    "a mark of somebody deposed": ([*TO_TWO_BY_STEAL, *NEXT_WINDOWS, [mark(99)]], "none of its author's"),
    "a mark goes back": ([[mark(51)], [mark(50)]], "mark of changes went from"),
    "a mark of users goes back": ([[access(51)], [access(50)]], "mark of changes went from"),
    "a mark of users of somebody deposed": (
        [*TO_TWO_BY_STEAL, *NEXT_WINDOWS, [user("a"), access(99)]], "none of its author's",
    ),
    "a user without a term": ([[delete(ACTIVE)], [user("a"), access(50)]], "outside every term"),
    "an import task without the mark": ([[task(10)]], "without the mark"),
    "an import task forgotten without the mark": (
        [[task(10), imports(50)], [delete(task(10)[0])]], "without the mark",
    ),
    "an import task with another's ID": ([[task(60), imports(50)]], "none of its author's"),
    "a user without the mark": ([[user("a"), access(50)], [user("b")]], "without the mark"),
    "a user under another mark": ([[user("a"), access(50)], [user("b"), mark(51)]], "without the mark"),
    "a user deleted without the mark": ([[user("a")], [no_user("a")]], "without the mark"),
    "a grant without the mark": (
        [[access(50)], [put(LAYOUT.grantee_id("id", "PrivilegeSearch"), b"root")]], "without the mark",
    ),
    "won without a heartbeat": ([[delete(ACTIVE)], [active(TWO)]], "without a heartbeat"),
    "won on another's lease": ([[delete(ACTIVE)], [active(TWO, 101), beat(TWO)]], "lease of a session"),
    "won by somebody whose session has ended": (
        [[no_session(TWO)], [active(TWO), beat(TWO)]], "lease of a session",
    ),
    "won with the heartbeat of another": ([[active(TWO), beat(ONE)]], "heartbeat was written by 1"),
    "the key is written again": ([[active(ONE), beat(ONE)]], "rewrote its own"),
    "an heir that has not answered": ([[report(TWO)], [active(TWO), delete(HEARTBEAT)]], "was made heir"),
    "an heir that has not reported": ([[active(TWO), delete(HEARTBEAT)]], "was made heir"),
    "a handover that leaves the heartbeat": ([[report(TWO, 5)], [active(TWO)]], "its predecessor stays"),
    "an offer of somebody deposed": (
        [*TO_TWO_BY_STEAL, [put(OFFER, {"ServerID": ONE})]], "offer was written by 1",
    ),
    "a record of another's term": (
        [[put(LAYOUT.history("rootcoord", 3), {"ServerID": TWO})]], "history was written by 2",
    ),
    "a switchover without a handover": ([[answer("done", heir=TWO)]], "was not passed on"),
    "a switchover by a steal": ([[*TO_TWO_BY_STEAL[0], answer("done", heir=TWO)]], "was not passed on"),
    "a switchover that names another heir": (
        [[report(TWO, 5)], [*HANDOVER, answer("done", heir=3)]], "was not passed on",
    ),
    "a switchover to somebody else": (
        [[report(TWO, 5)], [*HANDOVER, answer("done", to=3, heir=TWO)]], "to somebody else",
    ),
    "a switchover refused by nobody": ([[delete(ACTIVE)], [answer("refused")]], "outside every term"),
    "a report of somebody gone": ([[no_session(TWO)], [report(TWO)]], "on the lease of its session"),
    "a server ID again": ([[no_session(TWO)], [session(TWO)]], "used again"),
    "a session on no lease": ([[session(3, 0)]], "hangs on no lease"),
    "an unknown key": ([[put("by-dev/meta/other/x", b"")]], "no known family"),
    "an unknown key of coordination": ([[put(LAYOUT.coordination_prefix + "x", b"")]], "no known family"),
}  # fmt: skip


def audited(revisions: Sequence[list[Change]]) -> EtcdAudit:
    audit = EtcdAudit(LAYOUT, "rootcoord")
    versions: dict[str, int] = {}
    for revision, changes in enumerate(revisions, start=1):
        events = []
        for key, value, lease in changes:
            versions[key] = 0 if value is None else versions.get(key, 0) + 1
            events.append(Event(key, value, revision, 0, lease, versions[key]))
        audit.feed(events)
    return audit


@pytest.mark.parametrize("name", GOOD)
def test_what_honest_replicas_write_passes(name: str) -> None:
    revisions, began = GOOD[name]
    audit = audited([*BEGIN, *revisions])
    assert audit.began == {"first": 1, **began}
    assert audit.terms == 1 + sum(began.values())


@pytest.mark.parametrize("name", BAD)
def test_what_nobody_may_write_is_found(name: str) -> None:
    revisions, why = BAD[name]
    audited([*BEGIN, *revisions[:-1]])
    with pytest.raises(Violation, match=why):
        audited([*BEGIN, *revisions])


def test_what_a_violation_says() -> None:
    revisions, _why = BAD["a heartbeat of somebody deposed"]
    with pytest.raises(
        Violation, match=r"revision 6(.*\n)*term: Term\(epoch=5(.*\n)*.*5: .*session/rootcoord"
    ):
        audited([*BEGIN, *revisions])


@pytest.mark.parametrize("events", [[3, 2], [2, 2]])
def test_revisions_come_once_and_in_order(events: list[int]) -> None:
    audit = EtcdAudit(LAYOUT, "rootcoord")
    make: Callable[[int], Event] = lambda revision: Event(ACTIVE, None, revision, 0, 0, 0)  # noqa: E731
    audit.feed([make(events[0])])
    with pytest.raises(Violation, match="comes after"):
        audit.feed([make(events[1])])
