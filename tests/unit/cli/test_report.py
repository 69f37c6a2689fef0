"""`coordd status`: what its table and its warnings say, whatever the records hold."""

import time

import pytest
from rich.console import Console

from coordd.cli.report import ClusterReport, replica_table, since
from coordd.cli.status_command import show_state
from coordd.etcd import MemberStatus
from coordd.etcd.version import RECOMMENDED, version_warnings
from coordd.ha.status import ReplicaStatus, RoleStatus


def replica(**fields: object) -> ReplicaStatus:
    standard: dict[str, object] = {
        "role": "rootcoord", "state": "ACTIVE", "server_id": 7, "address": "10.0.0.5:53100", "kind": "coordd",
        "version": "2.3.5", "host_name": "h", "epoch": 42, "since_ms": None, "lease_id": 1, "lease_left_s": 9,
        "key": "by-dev/meta/session/rootcoord", "pid": 77,
    }  # fmt: skip
    return ReplicaStatus(**{**standard, **fields})


def shown(*roles: RoleStatus, width: int = 140) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(replica_table(roles, width=width))
    return captured.get()


def report(*roles: RoleStatus, members: tuple[MemberStatus, ...] = ()) -> ClusterReport:
    return ClusterReport(1, roles, members)


@pytest.mark.parametrize("address", ["[fd00::1]:53100", "[/red]", "[bold]x", "10.0.0.5:1"])
def test_an_address_is_shown_as_it_is(address: str) -> None:
    assert address in shown(RoleStatus("rootcoord", replica(address=address), (), 1))


@pytest.mark.parametrize(
    ("fields", "cells"),
    [
        ({"lag": 12, "synced": True}, ["12", "yes"]),
        ({"lag": 0, "synced": False}, ["0", "no"]),
        ({}, ["?", "?"]),
        ({"kind": "milvus"}, ["77"]),
        ({"state": "ACTIVE"}, ["77"]),
    ],
)
def test_a_standby_shows_how_far_behind_it_was(fields: dict[str, object], cells: list[str]) -> None:
    one = replica(**{"state": "STANDBY", "epoch": 0, **fields})
    (row,) = [
        line for line in shown(RoleStatus("rootcoord", None, (one,), 0)).splitlines() if "10.0.0.5" in line
    ]
    assert row.split()[-len(cells) :] == cells


@pytest.mark.parametrize("width", [80, 100, 124, 125, 200])
def test_a_table_that_is_narrow_still_says_what_matters(width: int) -> None:
    fields = {"address": "192.168.178.15:53100", "epoch": 1234567, "pid": 1234567, "server_id": 123}
    now = time.time_ns() // 1_000_000
    active = replica(role="querycoord", since_ms=now, **fields)
    standby = replica(state="STANDBY", **{**fields, "epoch": 0}, since_ms=now, lag=12, synced=False)
    table = shown(RoleStatus("querycoord", active, (standby,), 1), width=width)
    rows = [line for line in table.splitlines() if "coordd 123" in line]
    assert len(rows) == 2
    assert rows[0].split()[:5] == ["querycoord", "coordd", "123", "ACTIVE", "1234567"]
    assert rows[1].split()[-2:] == ["12", "no"]
    assert ("1234567" in rows[1]) == (width >= 125), "the pid is left out where there is no room"
    assert since(now)[:10] in rows[0]
    assert len(table.splitlines()) <= 10


def test_a_role_without_replicas_is_named() -> None:
    nobody = RoleStatus("datacoord", None, (), 0)
    assert "datacoord   none" in shown(nobody)
    assert report(nobody).warnings() == ["datacoord: nobody is active, nobody stands by"]


def test_a_role_with_standbys_alone_needs_attention() -> None:
    waiting = RoleStatus("rootcoord", None, (replica(state="STANDBY", epoch=0),), 0)
    assert report(waiting).warnings() == ["rootcoord: nobody is active"]


def test_a_key_that_holds_no_record_is_named() -> None:
    corrupt = RoleStatus("rootcoord", replica(state="UNREADABLE", server_id=None), (), 0)
    assert report(corrupt).warnings() == [
        "rootcoord: by-dev/meta/session/rootcoord does not hold a session record"
    ]


def test_a_member_that_does_not_answer_is_named_with_its_reason() -> None:
    healthy = RoleStatus("rootcoord", replica(), (), 1)
    assert report(healthy, members=(MemberStatus("[::1]:2379", error="no answer"),)).warnings() == [
        "etcd [::1]:2379: no answer"
    ]


def test_people_are_told_of_an_etcd_with_many_bugs_in_one_sentence() -> None:
    nobody = RoleStatus("datacoord", None, (), 0)
    old = tuple(MemberStatus(f"10.0.0.{host}:2379", version="3.5.1") for host in (1, 2, 3))
    bugs = version_warnings("3.5.1")
    assert report(nobody, members=old).warnings() == [*bugs, "datacoord: nobody is active, nobody stands by"]
    assert report(nobody, members=old).headlines() == [
        f"etcd 3.5.1 has {len(bugs)} known data bugs; use {RECOMMENDED}",
        "datacoord: nobody is active, nobody stands by",
    ]


@pytest.mark.parametrize("version", ["3.4.45", "3.5.27", "3.3.1", "not decided"])
def test_of_an_etcd_with_one_bug_people_are_told_which(version: str) -> None:
    [bug] = version_warnings(version)
    assert report(members=(MemberStatus("[::1]:2379", version=version),)).headlines() == [bug]


def test_a_table_and_what_is_said_below_it_fit_on_a_small_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = RoleStatus("rootcoord", replica(), (replica(state="STANDBY", epoch=0),), 1)
    show_state(report(pair, members=(MemberStatus("10.0.0.1:2379", version="3.5.1"),)))
    lines = capsys.readouterr().out.splitlines()
    assert "state" in lines[1]
    assert any("ACTIVE" in line for line in lines[:4])
    assert len(lines) < 12
    assert any("--json" in line for line in lines[-2:])
