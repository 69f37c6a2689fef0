"""`coordd status`: past terms and the lag of standbys, read from real etcd."""

import json

import pytest

from coordd.ha.election_events import TermCause
from coordd.ha.history import TermEnd
from coordd.ha.standbys import encode_report
from tests.integration.cli.support import Role, coordd

pytestmark = pytest.mark.timeout(60)


async def test_history_shows_terms_the_newest_last(role: Role) -> None:
    epoch = await role.make(14, 15)
    await role.term(1, 12, cause=TermCause.FIRST, predecessor=0, started_ms=1_700_000_000_000,
                    ended_ms=1_700_000_009_500, end=TermEnd.CRASH)  # fmt: skip
    await role.term(epoch, 14, phases_ms={"detect": 0.4, "fence": 2.0, "activate": 0.8, "serve": 1.5})
    await role.term(3, 9, role="datacoord")
    await role.client.put(role.layout.history("rootcoord", 2), b"not json")
    code, out, err = await coordd("status", "--history", "--json", "--config", role.config)
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert [(one["role"], one["epoch"]) for one in report["history"]] == [
        ("rootcoord", 1),
        ("rootcoord", 2),
        ("datacoord", 3),
        ("rootcoord", epoch),
    ]
    first, broken, _, last = report["history"]
    assert (first["cause"], first["end"], first["lasted_s"], first["running"]) == (
        "first",
        "crash",
        9.5,
        False,
    )
    assert broken["readable"] is False
    assert report["warnings"] == [f"{role.layout.history('rootcoord', 2)} is no record of a term"]
    assert (last["running"], last["end"], last["cause"], last["predecessor"]) == (True, None, "handover", 12)
    assert last["phases_ms"] == {"detect": 0.4, "fence": 2.0, "activate": 0.8, "serve": 1.5}


async def test_history_of_one_role_as_a_table(role: Role) -> None:
    epoch = await role.make(14, 15)
    await role.term(epoch, 14)
    await role.term(3, 9, role="datacoord")
    await role.client.put(role.layout.history("rootcoord", 2), b"not json")
    arguments = ["status", "--history", "--role", "rootcoord", "--config", role.config]
    code, out, err = await coordd(*arguments)
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    for column in ("role", "epoch", "server", "cause", "started", "detect ms", "serve ms", "lasted", "end"):
        assert column in lines[0]
    assert "UNREADABLE" in lines[2]
    assert lines[3].startswith("rootcoord")
    assert lines[3].endswith("active")
    assert lines[4] == f"warning: {role.layout.history('rootcoord', 2)} is no record of a term"
    assert "datacoord" not in out


async def test_no_history_is_said_so(role: Role) -> None:
    code, out, err = await coordd("status", "--history", "--config", role.config)
    assert (code, err) == (0, "")
    assert out.strip() == "no term of leadership is on record"


async def test_status_shows_how_far_behind_standbys_were(role: Role) -> None:
    epoch = await role.make(12, 13, 14)
    report = encode_report(13, epoch - 3, synced=True)
    written = await role.client.put(role.layout.standby_report("rootcoord", 13), report)
    lag = written - 1 - (epoch - 3)
    arguments = ["status", "--role", "rootcoord", "--config", role.config]
    code, out, err = await coordd(*arguments, "--json")
    assert (code, err) == (0, "")
    (rootcoord,) = json.loads(out)["roles"]
    assert [(one["server_id"], one["lag"], one["synced"]) for one in rootcoord["standbys"]] == [
        (13, lag, True),
        (14, None, None),
    ]
    code, out, err = await coordd(*arguments)
    assert (code, err) == (0, "")
    rows = {cells[2]: cells for line in out.splitlines() if (cells := line.split())[:1] == ["rootcoord"]}
    assert rows["13"][-2:] == [str(lag), "yes"]
    assert rows["14"][-2:] == ["?", "?"]
