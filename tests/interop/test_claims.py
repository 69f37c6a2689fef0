"""What README.md says of Milvus 2.3.5 and of coordd, side by side: processes of both, one yardstick."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.etcd_gate import open_gate
from coordd.pb import milvus_pb2, root_coord_pb2
from tests.interop.scenario import METADATA
from tests.interop.test_recorded import RECORDING
from tests.lab.cluster import PROJECT, Component, MilvusLab
from tests.lab.process import POLL_S
from tests.lab.recorder import base, open_rootcoord
from tests.lab.recording import load
from tests.support.etcd_log import LOG_REQUESTS, EtcdLog

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

TTL_S = 4
# For what has to come at once or after a lease's end, on a busy machine with two cores.
SOON_S = 30.0
OUTAGE_TTL_S = 5
HOLD_S = 50.0
PAUSES = 5
BY_DEV = "by-dev"
COORDD_ROOT = "by-coordd"
STAMP = root_coord_pb2.AllocTimestampRequest(count=1)
both = pytest.mark.parametrize("kind", ["milvus", "coordd"])


@dataclass(frozen=True, slots=True)
class Session:
    """A session record."""

    server_id: int
    address: str
    lease_id: int


def session(lab: MilvusLab, name: str = "rootcoord", root: str = BY_DEV) -> Session | None:
    """The session of that name; of the role's own name: who is active."""
    key = f"{root}/meta/session/{name}"
    value = lab.etcd.dump(key).get(key)
    if value is None:
        return None
    record = json.loads(value)
    return Session(record["ServerID"], record["Address"], record["LeaseID"])


def wait_for(what: str, probe: Callable[[], object], limit_s: float = SOON_S) -> None:
    """Poll until it is true."""
    deadline = time.monotonic() + limit_s
    while not probe():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(POLL_S)


def start(lab: MilvusLab, kind: str, name: str, **settings: object) -> Component:
    """Start a rootcoord, with more settings for it than the lab's."""
    launch = lab.start if kind == "milvus" else lab.start_coordd
    return launch("rootcoord", name=f"{kind}-{name}", extra=dict(settings))


def pair(lab: MilvusLab, kind: str, **settings: object) -> tuple[Component, Component]:
    """An active and a standby of one kind."""
    active = start(lab, kind, "active", **settings)
    active.wait_state("Healthy")
    standby = start(lab, kind, "standby", **settings)
    standby.wait_standby()
    return active, standby


def active_session(lab: MilvusLab, root: str = BY_DEV) -> Session:
    """Who is active; somebody must be."""
    held = session(lab, root=root)
    assert held is not None
    return held


def wait_renewed(lab: MilvusLab, lease_id: int, left_s: int) -> None:
    """Wait until a lease has that much left: it was just renewed."""
    wait_for("the lease's renewal", lambda: lab.etcd.lease_left_s(lease_id) >= left_s)


@dataclass(frozen=True, slots=True)
class Outage:
    """A pair of each kind whose etcd was killed at ``began``; ``held`` and ``epoch`` are coordd's."""

    lab: MilvusLab
    milvus: Component
    milvus_standby: Component
    coordd: Component
    coordd_standby: Component
    held: Session
    epoch: float
    began: float


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """Begins with the first test and lasts through the others, until the last one ends it: 40 s and more."""
    with MilvusLab(tmp_path_factory.mktemp("outage"), session_ttl_s=OUTAGE_TTL_S) as lab:
        milvus = pair(lab, "milvus")
        coordd = pair(lab, "coordd", etcd={"rootPath": COORDD_ROOT})
        held, epoch = active_session(lab, COORDD_ROOT), metric(coordd[0], "coordd_epoch")
        lab.etcd.member.kill()
        began = time.monotonic()
        wait_for("coordd's guard has passed", lambda: coordd[0].http("/leader")[0] == 503)
        yield Outage(lab, *milvus, *coordd, held, epoch, began)


def metric(coordd: Component, name: str, labels: str = 'role="rootcoord"') -> float:
    """One of its metrics."""
    found = re.search(rf"^{name}\{{{labels}\}} (\S+)$", coordd.wait_http("/metrics"), re.MULTILINE)
    assert found
    return float(found[1])


def test_coordd_waits_for_an_etcd_that_is_away(outage: Outage) -> None:
    assert outage.coordd.http("/healthz") == (200, "OK")
    assert outage.coordd_standby.http("/healthz") == (200, "OK")


how_it_ends = pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)


@how_it_ends
def test_milvus_standby_waits_for_the_lease(tmp_path: Path, how: signal.Signals) -> None:
    with MilvusLab(tmp_path, session_ttl_s=TTL_S) as lab:
        active, standby = pair(lab, "milvus")
        held = active_session(lab)
        wait_renewed(lab, held.lease_id, TTL_S - 1)
        told = time.monotonic()
        active.process.signal(how)
        wait_for("the end of its ACTIVE key", lambda: session(lab) != held)
        assert time.monotonic() - told > TTL_S - 2
        assert lab.etcd.lease_left_s(held.lease_id) == -1
        standby.wait_state("Healthy", timeout_s=SOON_S)
        assert active_session(lab).address == standby.address
        wait_for("the lines of a takeover", lambda: not missing_lines(standby))


def missing_lines(heir: Component) -> set[str]:
    """Lines that docs/operations.md quotes and that are not in the log of a new active."""
    documented = (PROJECT / "docs" / "operations.md").read_text("utf-8")
    quoted = set(re.findall(r'^\["([^"]+)"\]', documented, re.MULTILINE))
    assert len(quoted) > 4
    # Due ten seconds after its start (tests/faults/test_failover.py), or at the end of its term.
    late = {line for line in quoted if line.endswith("is in STANDBY ...")}
    quoted -= (late | {"term ended"}) if heir.kind == "coordd" else {"term began", "term ended"}
    number = re.compile(r"\d+")
    log = number.sub("0", heir.process.log.read_text(errors="replace"))
    return {line for line in quoted if '["' + number.sub("0", line) + '"]' not in log}


@how_it_ends
def test_coordds_standby_does_not_wait(tmp_path: Path, how: signal.Signals) -> None:
    """The lease of the one that ended is given back: SOON_S is shorter than what it had left."""
    with MilvusLab(tmp_path, session_ttl_s=60, milvus=False) as lab:
        active, standby = pair(lab, "coordd")
        held = active_session(lab)
        active.process.signal(how)
        standby.wait_state("Healthy", timeout_s=SOON_S)
        assert active_session(lab).address == standby.address
        wait_for("the end of its lease", lambda: lab.etcd.lease_left_s(held.lease_id) == -1)
        expected = 0 if how is signal.SIGTERM else -signal.SIGKILL
        assert active.process.wait(timeout_s=SOON_S) == expected
        # Whoever inherits has nothing to register for.
        inherits = {"try to register as ACTIVE rootcoord service..."} if how is signal.SIGTERM else set()
        wait_for("the lines of a takeover", lambda: missing_lines(standby) == inherits)


@both
def test_what_is_read_at_a_takeover(tmp_path: Path, kind: str) -> None:
    """On metadata that Milvus wrote, with 18 collections; by etcd's own log of what it was asked."""
    metadata = load(RECORDING).etcd
    collections = {
        found[1]
        for key in metadata
        if (found := re.fullmatch(r"by-dev/meta/root-coord/database/collection-info/\d+/(\d+)", key))
    }
    assert len(collections) > 10
    with MilvusLab(tmp_path, milvus=kind == "milvus", etcd_arguments=LOG_REQUESTS) as lab:
        lab.etcd.load(metadata)
        active, standby = pair(lab, kind)
        log = EtcdLog(lab.etcd.member)
        counted = range_requests(standby) if kind == "coordd" else 0
        active.process.kill()
        if kind == "milvus":
            lab.end_session("rootcoord")
        standby.wait_state("Healthy", timeout_s=SOON_S)
        counted = range_requests(standby) - counted if kind == "coordd" else 0
        read = log.keys_read()

    of_metadata = [key for key in read if key.startswith(METADATA)]
    if kind == "milvus":
        for part in ("fields", "partitions"):
            assert {f"by-dev/meta/snapshots/root-coord/{part}/{one}" for one in collections} <= set(
                of_metadata
            )
    else:
        assert of_metadata == []
        # Settings are read again every few seconds, whatever happens.
        assert counted <= read.count("by-dev/config/")
    # The windows of timestamps and IDs are read by Milvus; coordd's campaign saves the next ones itself.
    assert ("by-dev/kv/gid/timestamp" in read) == (kind == "milvus")


def range_requests(coordd: Component) -> float:
    """How many etcd has answered to this process, by its own count."""
    return metric(coordd, "coordd_etcd_requests_total", 'operation="Range"')


def test_a_paused_milvus_that_wakes_can_answer_and_write(tmp_path: Path) -> None:
    """What coordd does then, tests/faults/test_failover.py shows: no answer, no commit.

    Which of two signs Milvus sees first is chance. Mostly it goes on for 1.4 s; when it sees first that its
    key is gone, it answers what lies in its socket at best. So this is tried more than once.
    """
    assert any(_answers_and_writes_after_a_pause(tmp_path / str(number)) for number in range(PAUSES))


def _answers_and_writes_after_a_pause(work: Path) -> bool:
    """Tell whether it did both while another was active."""
    with MilvusLab(work, session_ttl_s=2) as lab:
        paused, heir = pair(lab, "milvus")
        with open_rootcoord(paused.address) as client, ThreadPoolExecutor(16) as threads:
            assert client.call("AllocTimestamp", STAMP).status.code == 0
            paused.process.signal(signal.SIGSTOP)
            roles = [
                threads.submit(client.call, "CreateRole", _create_role(f"late_{number}"), timeout_s=60)
                for number in range(5)
            ]
            stamps = [threads.submit(client.call, "AllocTimestamp", STAMP, timeout_s=60) for _ in range(10)]
            heir.wait_state("Healthy", timeout_s=SOON_S)
            assert active_session(lab).address == heir.address
            assert not any(call.done() for call in roles + stamps)

            paused.process.signal(signal.SIGCONT)
            answered = [_code(call, lambda reply: reply.status.code) for call in stamps]
            made = [number for number, call in enumerate(roles) if _code(call, lambda reply: reply.code) == 0]
        assert heir.state() == "Healthy"
        assert active_session(lab).address == heir.address
        prefix = "by-dev/meta/root-coord/credential/roles/late_"
        assert set(lab.etcd.dump(prefix)) >= {f"{prefix}{number}" for number in made}
        paused.wait_state("Abnormal", timeout_s=SOON_S)
        return 0 in answered and bool(made)


def _create_role(name: str) -> milvus_pb2.CreateRoleRequest:
    return milvus_pb2.CreateRoleRequest(base=base("CreateRole"), entity=milvus_pb2.RoleEntity(name=name))


def _code(call: Future[Any], of_reply: Callable[[Any], int]) -> int | str:
    """Status code of a reply, or the name of the gRPC error."""
    try:
        return of_reply(call.result())
    except grpc.RpcError as error:
        return str(error)


def test_a_milvus_cut_off_from_etcd_changes_nothing_until_its_lease_ends(tmp_path: Path) -> None:
    """It goes on giving timestamps out. How soon coordd is replaced then, `bench.failover` measures."""
    roles = "by-dev/meta/root-coord/credential/roles/late"
    with MilvusLab(tmp_path, session_ttl_s=TTL_S) as lab, open_gate(lab.etcd.endpoint) as gate:
        active = start(lab, "milvus", "active", etcd={"endpoints": gate.endpoint})
        active.wait_state("Healthy")
        standby = start(lab, "milvus", "standby")
        standby.wait_standby()
        held = active_session(lab)
        with open_rootcoord(active.address) as client, ThreadPoolExecutor(1) as threads:
            wait_renewed(lab, held.lease_id, TTL_S - 1)
            gate.cut()
            change = threads.submit(client.call, "CreateRole", _create_role("late"), timeout_s=SOON_S)
            assert client.call("AllocTimestamp", STAMP).status.code == 0
            wait_for("the end of its session", lambda: session(lab) != held)
            assert not change.done() or _code(change, lambda reply: reply.code) != 0
            assert not lab.etcd.dump(roles)
            standby.wait_state("Healthy", timeout_s=SOON_S)
            active.process.kill()
        with open_rootcoord(standby.address) as client:
            assert client.call("CreateRole", _create_role("late")).code == 0
        assert list(lab.etcd.dump(roles)) == [roles]


@both
def test_a_standby_whose_lease_lapsed(tmp_path: Path, kind: str) -> None:
    with MilvusLab(tmp_path, session_ttl_s=TTL_S, milvus=kind == "milvus") as lab:
        active, standby = pair(lab, kind)
        registered = {key.rpartition("/")[2] for key in lab.etcd.dump("by-dev/meta/session/rootcoord-")}
        own = next(
            one
            for name in registered
            if (one := session(lab, name)) is not None and one.address == standby.address
        )
        lab.etcd.revoke_lease(own.lease_id)
        if kind == "coordd":
            # A new session under a new server ID.
            wait_for(
                "its registration",
                lambda: session(lab, f"rootcoord-{own.server_id + 1}") is not None,
            )
            standby.wait_standby()
        active.process.kill()
        if kind == "coordd":
            standby.wait_state("Healthy", timeout_s=SOON_S)
            assert active_session(lab).server_id == own.server_id + 1
        else:
            lab.end_session("rootcoord")
            assert_never_takes_over(lab, standby)


def assert_never_takes_over(lab: MilvusLab, standby: Component) -> None:
    """A Milvus standby tries and tries, and never takes the ACTIVE key that nobody holds."""
    refused = "register active key to etcd failed"

    def tries() -> bool:
        assert session(lab) is None
        return standby.process.log.read_text(errors="replace").count(refused) >= 20

    wait_for("twenty attempts", tries, 3 * SOON_S)
    assert standby.state() == "StandBy"
    assert standby.process.alive()


def test_coordd_replaces_a_milvus_that_runs_without_active_standby(tmp_path: Path) -> None:
    """As docs/operations.md describes it: status before, SIGTERM, takeover when the lease ends."""
    with MilvusLab(tmp_path, session_ttl_s=TTL_S) as lab:
        milvus = start(lab, "milvus", "alone", rootCoord={"enableActiveStandby": False})
        milvus.wait_state("Healthy")
        coordd = start(lab, "coordd", "standby")
        coordd.wait_standby()
        config = coordd.process.log.parent
        shown = subprocess.run(
            [sys.executable, "-m", "coordd", "status", "--json", "--config", str(config)],
            cwd=PROJECT,
            capture_output=True,
            timeout=30,
            check=True,
        )
        roles = {role["role"]: role for role in json.loads(shown.stdout)["roles"]}
        active, (standby,) = roles["rootcoord"]["active"], roles["rootcoord"]["standbys"]
        assert (active["kind"], active["state"], active["address"]) == ("milvus", "ACTIVE", milvus.address)
        assert (standby["kind"], standby["state"], standby["address"]) == (
            "coordd",
            "STANDBY",
            coordd.address,
        )

        held = active_session(lab)
        wait_renewed(lab, held.lease_id, TTL_S - 1)
        told = time.monotonic()
        milvus.process.signal(signal.SIGTERM)
        coordd.wait_state("Healthy", timeout_s=SOON_S)
        assert time.monotonic() - told > TTL_S - 2


def test_after_an_etcd_outage_longer_than_the_lease(outage: Outage) -> None:
    """Milvus makes three more attempts of 10 s each after the lease, then it gives up for good."""
    lab, coordd = outage.lab, outage.coordd
    outage.milvus.wait_state("Abnormal", timeout_s=90)
    assert time.monotonic() - outage.began > 30
    assert coordd.process.alive()
    assert coordd.http("/healthz")[0] == 200
    with open_rootcoord(coordd.address) as client, ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.call, "AllocTimestamp", STAMP, timeout_s=HOLD_S)
        wait_for("coordd holds the call", lambda: metric(coordd, "coordd_rpc_in_flight") == 1)
        lab.etcd.member.start()
        lab.etcd.member.wait_healthy()
        assert call.result(HOLD_S).status.code == 0
    assert active_session(lab, COORDD_ROOT) == outage.held
    assert metric(coordd, "coordd_epoch") == outage.epoch
    outage.coordd_standby.wait_standby()

    # etcd gives each lease its full length once more when it starts; nobody renews those of Milvus.
    wait_for("the end of Milvus' session", lambda: session(lab) is None)
    assert_never_takes_over(lab, outage.milvus_standby)
    assert outage.milvus.state() == "Abnormal"
    # That was longer than coordd's lease, too.
    assert active_session(lab, COORDD_ROOT) == outage.held
    coordd.process.signal(signal.SIGTERM)
    outage.coordd_standby.wait_state("Healthy", timeout_s=SOON_S)
