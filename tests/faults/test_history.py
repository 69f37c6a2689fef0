"""Random troubles of real replicas on real etcd, under clients whose history is judged.

What is judged: `tests/support/checker.py`, `tests/support/etcd_audit.py`. Every run draws a new seed, which
is printed; COORDD_SEED repeats one (the order of events between processes is not repeated).
"""

import os
import random
from pathlib import Path

import pytest

from tests.faults.stage import stage
from tests.faults.troubles import Troubles, trouble_for

pytestmark = pytest.mark.timeout(240)

TROUBLE_S = 25.0


@pytest.mark.parametrize(("members", "replicas"), [(1, 3), (3, 2)])
async def test_whatever_fails_clients_are_told_the_truth(tmp_path: Path, members: int, replicas: int) -> None:
    seed = int(os.environ.get("COORDD_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"seed {seed}")
    async with stage(tmp_path, members=members, replicas=replicas, seed=seed, ddl=False) as scene:
        troubles = Troubles(scene, seed)
        await trouble_for(scene, troubles, TROUBLE_S)
    print(f"{dict(troubles.done)}, terms {dict(scene.audit.began)}, {scene.checker.outcomes}")
    assert scene.audit.terms > 1
    assert scene.checker.timestamps.answered > 100
