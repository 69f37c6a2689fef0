"""The promises of the election hold in ten thousand runs, and the runs are eventful enough to break them.

`make simulate RUNS=…` runs any number. A failing seed prints its transcript; replay it with
`python -m tests.simulation --seed N --trace`.
"""

from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import get_args

import pytest

from coordd.ha.election_events import (
    BeginTerm,
    EndReason,
    Event,
    Instruction,
    Refusal,
    Refuse,
    Serve,
    State,
    TermCause,
)
from tests.support.ahead import parameters

from .__main__ import main
from .coordd_model import CoorddProcess, Session
from .runs import chunks, run_range
from .scenario import LONG, LOUD, QUIET
from .test_planted_bugs import BUGS, first_violation
from .world import Parts, World, run_seed, transcript_of

SHARDS = 10
RUNS_PER_SHARD = 1000
EVENTFUL_RUNS = 2000


@pytest.fixture(scope="module")
def shards(
    request: pytest.FixtureRequest, pool: ProcessPoolExecutor
) -> dict[int, Future[tuple[int, list[int]]]]:
    """How many runs each shard had, and which failed."""
    ranges = {
        shard: range(shard * RUNS_PER_SHARD, (shard + 1) * RUNS_PER_SHARD)
        for shard in parameters(request, "shard")
    }
    return {shard: pool.submit(run_range, seeds) for shard, seeds in ranges.items()}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_promises_hold(shard: int, shards: dict[int, Future[tuple[int, list[int]]]]) -> None:
    runs, failed = shards[shard].result()
    if failed:
        failure = f"{run_seed(failed[0])}\nfailing seeds: {failed}"
        pytest.fail(
            f"{failure}\nreplay: python -m tests.simulation --seed {failed[0]} --trace", pytrace=False
        )
    assert runs == RUNS_PER_SHARD


class Diary(Session):
    """A session that keeps count of where it has been."""

    def __init__(
        self, seen: Counter[str], process: CoorddProcess, server_id: int, lease_id: int, granted_at: float
    ) -> None:
        self.seen = seen
        super().__init__(process, server_id, lease_id, granted_at)

    def handle(self, event: Event) -> None:
        super().handle(event)
        self.seen[f"{self.election.state.value} after {type(event).__name__}"] += 1
        self.seen[self.election.state.value] += 1

    def _perform(self, instruction: Instruction) -> None:
        self.seen[type(instruction).__name__] += 1
        if isinstance(instruction, Refuse):
            self.seen[f"refused: {instruction.reason.name}"] += 1
        if isinstance(instruction, BeginTerm):
            self.seen[f"term by: {instruction.cause.value}"] += 1
        if isinstance(instruction, Serve):
            rivals = [process.session for process in self.world.processes if not process.dead]
            if any(rival is not None and rival is not self and rival.gate.answering for rival in rivals):
                self.seen["serving beside one who does not know that it is deposed"] += 1
        super()._perform(instruction)

    def _end(self, reason: EndReason) -> None:
        self.seen[f"ended: {reason.value}"] += 1
        if self.gate.could_answer():
            self.seen["ended while it could answer"] += 1
        super()._end(reason)


def diary_of(seeds: range) -> Counter[str]:
    """All that happens in these runs, and how often."""
    seen = Counter[str]()
    parts = Parts(session=partial(Diary, seen))
    for seed in seeds:
        world = World(seed, parts)
        world.run()
        seen["answers"] += world.invariants.answers
        seen["answers of an heir to what a former active held"] += world.invariants.forwarded
        seen[f"theme: {world.scenario.theme}"] += 1
        seen["terms"] += len({view.active_mod_revision for view in world.etcd.history} - {0})
    return seen


@pytest.mark.timeout(180)
def test_runs_are_eventful(pool: ProcessPoolExecutor) -> None:
    seen = sum(pool.map(diary_of, chunks(0, EVENTFUL_RUNS)), Counter[str]())

    assert seen["answers"] > EVENTFUL_RUNS * 5
    assert seen["terms"] > EVENTFUL_RUNS * 2
    never = [EndReason.EXCLUSIVE_HELD]
    history_only = [TermCause.FIRST, TermCause.UNKNOWN]
    expected = [state.value for state in State]
    expected += [f"ended: {reason.value}" for reason in EndReason if reason not in never]
    expected += [f"term by: {cause.value}" for cause in TermCause if cause not in history_only]
    expected += [f"refused: {reason.name}" for reason in Refusal]
    expected += [kind.__name__ for kind in get_args(Instruction)]
    expected += [f"theme: {theme}" for theme in (*LOUD, *QUIET)]
    expected += [
        "serving beside one who does not know that it is deposed",
        "ended while it could answer",
        "answers of an heir to what a former active held",
        "standby after ProbeFailed",
        "campaigning after ProbeCommitted",
        "campaigning after HolderGone",
        "offering after HandoverRefused",
        "handing over after HandoverUnknown",
        "ended after HandedOver",
        "handing over after StopRequested",
        "standby after CampaignLost",
        "standby after CampaignFailed",
        "activating after CampaignLost",
        "activating after CampaignFailed",
        "activating after Observed",
        "ended after CampaignWon",
        "ended after FenceLost",
        "ended after Resigned",
    ]
    assert {what: seen[what] for what in expected if not seen[what]} == {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("theme", QUIET)
def test_a_quiet_theme_keeps_its_special_promise(theme: str) -> None:
    for seed in range(100):
        failure = run_seed(seed, bias={"theme": theme})
        if failure is not None:
            pytest.fail(failure, pytrace=False)


@pytest.mark.timeout(120)
def test_a_follower_that_was_offline_for_ten_minutes_can_take_over() -> None:
    steals = 0
    for seed in range(4):
        world = World(seed, bias={"theme": LONG})
        world.run()
        steals += sum(world.invariants.steals.values())
    assert steals > 0


def test_same_seed_is_the_same_run() -> None:
    assert transcript_of(11) == transcript_of(11)
    assert transcript_of(11) != transcript_of(12)


def test_command_line_replays_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "11", "--trace"]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("seed 11: Scenario(")
    assert "-> Campaign(" in printed
    assert printed.endswith("seed 11: ok\n")


def test_command_line_replays_a_planted_bug(capsys: pytest.CaptureFixture[str]) -> None:
    found = first_violation(BUGS["Unfenced"])
    assert found is not None
    seed, violation = found

    assert main(["--seed", str(seed), "--bug", "Unfenced"]) == 1

    printed = capsys.readouterr().out
    assert f"*** {violation}" in printed
    assert printed.endswith(f"seed {seed}: FAILED\n")


@pytest.mark.timeout(120)
def test_command_line_runs_many_in_parallel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--start", "5", "--runs", "40", "--jobs", "2"]) == 0

    assert capsys.readouterr().out.startswith("40 runs from seed 5, 0 failed")
