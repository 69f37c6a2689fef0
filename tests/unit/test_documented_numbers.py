"""Times and counts that documents state as facts are those of the code, which has each in one place."""

import re

import pytest

from coordd import daemon
from coordd.cli import switchover_command
from coordd.etcd import transport
from coordd.etcd.version import RECOMMENDED
from coordd.ha import candidacy, follower, forwarding, history, standing_by
from coordd.ha.election import ElectionSettings
from coordd.rootcoord import batch
from coordd.rootcoord.handlers import access_changes
from coordd.rootcoord.proxies import link
from coordd.rootcoord.snapshots import HOURLY
from coordd.rootcoord.timetick import gone, ticker, untold
from coordd.supervisor import machine
from tests.support.named_tests import ROOT

ELECTION = ElectionSettings(server_id=1, serve_guard_s=2.0, margin_s=0.5, heartbeat_interval_s=1.0)
README, CHANGELOG = "README.md", "CHANGELOG.md"
OPERATIONS, ARCHITECTURE = "docs/operations.md", "docs/architecture.md"
DEAD_PROXIES, UNTOLD = "docs/adr/0008-dead-proxies.md", "docs/adr/0011-proxies-that-cannot-be-told.md"
NO_TIMESTAMPS, SHARED = "docs/adr/0009-proxies-without-timestamps.md", "docs/adr/0013-shared-transactions.md"
HANDOVER, SILENCE = "docs/adr/0005-handover.md", "docs/adr/0006-silence.md"

SAID = [
    (README, "A standby says so every ten seconds", candidacy.STANDBY_LOG_INTERVAL_S, 10),
    (CHANGELOG, "Old history of metadata is deleted once an hour", HOURLY.every_s, 3600),
    (CHANGELOG, "has its session ended after ten seconds", untold.END_AFTER_S, 10),
    (OPERATIONS, "if that hangs within a minute, too", machine.STEADY_AFTER_S, 60),
    (OPERATIONS, "the next one is started 0.5 s later, then 1 s", machine.BACK_OFF_S, 0.5),
    (OPERATIONS, "then 1 s, up to 30 s", machine.MAX_BACK_OFF_S, 30),
    (OPERATIONS, "no answer came within ten seconds", switchover_command.ANSWER_LIMIT_S, 10),
    (OPERATIONS, "the heir did not serve within thirty seconds", switchover_command.SERVE_LIMIT_S, 30),
    (OPERATIONS, "shows the last 64 terms of each role", history.KEEP_TERMS, 64),
    (OPERATIONS, "answered nothing for a second", transport.SILENCE_LIMIT_S, 1),
    (OPERATIONS, "did not report it on the watch within 2 s", follower.OVERDUE_S, 2),
    (OPERATIONS, "did not answer on its internal port for 2 s", link.PATIENCE_S, 2),
    (OPERATIONS, "has not answered on its internal port for ten seconds", untold.END_AFTER_S, 10),
    (OPERATIONS, "did not confirm it within a second", access_changes.PROXIES_PATIENCE_S, 1),
    (OPERATIONS, "the time tick for 2.000000 minutes", ticker.STALLED_S, 120),
    (OPERATIONS, "It goes on trying, each second. Check `etcd.endpoints`", daemon.ETCD_RETRY_S, 1),
    (ARCHITECTURE, "finishes those under way (at most a second;", daemon.MAX_DRAIN_S, 1),
    (ARCHITECTURE, "until none has come for a second", forwarding.TURN_S * forwarding.QUIET_TURNS, 1),
    (ARCHITECTURE, "Standbys wait 10 ms for each standby with a lower server ID", ELECTION.stagger_s, 0.01),
    (ARCHITECTURE, "after 1.5 heartbeat intervals without a change", ELECTION.suspicion_s, 1.5),
    (ARCHITECTURE, "its own report, every half interval", ELECTION.probe_interval_s, 0.5),
    (ARCHITECTURE, "A gap of more than two intervals", ELECTION.commit_gap_s, 2),
    (HANDOVER, "A request that takes longer than a second", daemon.MAX_DRAIN_S, 1),
    (SILENCE, "besides a report every five seconds", standing_by.REPORT_INTERVAL_S, 5),
    (SILENCE, "longer than two heartbeat intervals to commit", ELECTION.commit_gap_s, 2),
    (DEAD_PROXIES, "a proxy that has been silent for half a second", gone.ASK_AFTER_S, 0.5),
    (DEAD_PROXIES, "is given 12 s", gone.REFUSED_UNHEARD_S, 12),
    (NO_TIMESTAMPS, "A change waits two seconds for an answer", link.PATIENCE_S, 2),
    (UNTOLD, "for ten seconds, two attempts to tell it", untold.END_AFTER_S, 2 * link.ATTEMPT_S),
    (UNTOLD, "its port refuses connections for 12 s", gone.REFUSED_UNHEARD_S, 12),
    (SHARED, "32 changes at most", batch.BATCH_MAX, 32),
]  # fmt: skip


@pytest.mark.parametrize(("document", "words", "value", "meant"), SAID, ids=[said[1] for said in SAID])
def test_it_says_what_the_code_has(document: str, words: str, value: float, meant: float) -> None:
    assert words in " ".join((ROOT / document).read_text("utf-8").split())
    assert value == pytest.approx(meant), f"{document} has to say so"


def test_versions_of_etcd_that_are_advised() -> None:
    (row,) = re.findall(r"Upgrade etcd to ([^|]*)\|", (ROOT / OPERATIONS).read_text("utf-8"))
    assert re.findall(r"\d+\.\d+\.\d+", row) == re.findall(r"\d+\.\d+\.\d+", RECOMMENDED)
