"""`coordd status`: what its table and its warnings say, whatever the records hold."""

import pytest
from rich.console import Console

from coordd.cli.report import ClusterReport, replica_table
from coordd.etcd import MemberStatus
from coordd.ha.status import ReplicaStatus, RoleStatus


def replica(**fields: object) -> ReplicaStatus:
    standard: dict[str, object] = {
        "role": "rootcoord", "state": "ACTIVE", "server_id": 7, "address": "10.0.0.5:53100", "kind": "coordd",
        "version": "2.3.5", "host_name": "h", "epoch": 42, "since_ms": None, "lease_id": 1, "lease_left_s": 9,
        "key": "by-dev/meta/session/rootcoord", "pid": 77,
    }  # fmt: skip
    return ReplicaStatus(**{**standard, **fields})


def shown(*roles: RoleStatus) -> str:
    console = Console(width=140, force_terminal=False)
    with console.capture() as captured:
        console.print(replica_table(roles))
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
