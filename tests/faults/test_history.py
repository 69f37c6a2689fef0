"""Random troubles of real replicas on real etcd, under clients whose history is judged.

What is judged: `tests/support/checker.py`, `tests/support/etcd_audit.py`. Every run draws a new seed, which
is printed; COORDD_SEED repeats one (the order of events between processes is not repeated).
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from coordd.cli.switchover_command import Asking
from tests.faults.stage import RECOVERY_LIMIT_S, stage
from tests.faults.troubles import Troubles, trouble_for
from tests.support.coordd import LAYOUT
from tests.support.etcd import eventually

pytestmark = pytest.mark.timeout(600)

TROUBLE_S = 25.0


@pytest.mark.parametrize(("members", "replicas", "ttl_s"), [(1, 3, 30), (3, 2, 3)])
async def test_whatever_fails_clients_are_told_the_truth(
    tmp_path: Path, members: int, replicas: int, ttl_s: int
) -> None:
    seed = int(os.environ.get("COORDD_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"seed {seed}")
    async with stage(tmp_path, members=members, replicas=replicas, seed=seed, ttl_s=ttl_s) as scene:
        troubles = Troubles(scene, seed)
        await trouble_for(scene, troubles, TROUBLE_S)
    print(f"{dict(troubles.done)}, terms {dict(scene.audit.began)}, {scene.checker.outcomes}")
    assert scene.audit.terms > 1
    assert scene.audit.written["access"] > 10
    assert scene.checker.timestamps.answered > 100


@pytest.mark.parametrize("members", [1, 3])
async def test_planned_moves_fail_no_request(tmp_path: Path, members: int) -> None:
    """Switchovers and SIGTERMs, one after another, with a caught-up standby each time."""
    async with stage(tmp_path, members=members, replicas=3, seed=1, ttl_s=30) as scene:
        failed_at_start = scene.workload.failed
        for number in range(6):
            await eventually(lambda: len(scene.audit.synced_standbys) == 2, RECOVERY_LIMIT_S)
            before = scene.audit.terms
            if number % 3 < 2:
                await Asking(scene.client, LAYOUT, "rootcoord", 0).ask()
            else:
                leader = scene.leader()
                assert leader is not None
                await scene.end(leader, signal.SIGTERM)
                await scene.start(leader)
            await scene.wait_served(time.monotonic_ns())
            await scene.calm()
            assert scene.audit.terms == before + 1
        assert scene.workload.failed == failed_at_start, scene.workload.last_failure
        assert scene.audit.began == {"first": 1, "handed over": 6}
        print(f"longest pause {scene.workload.longest_silence_s * 1000:.0f} ms")
