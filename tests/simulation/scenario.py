"""What one seed draws before anything happens: the cluster, its timers, its clocks and its network."""

import random
from dataclasses import dataclass, replace

LOUD = (
    "anything",
    "network",
    "operators",
    "rolling",
    "stragglers",
    "takeovers",
    "passing on",
    "asked",
    "fooled",
)
"""What kind of faults a run sees; see `faults`."""

QUIET = ("outages", "switchovers", "crashes", "cutoffs")
"""One kind of fault, in a network that works: more is promised there; see `invariants`."""

LONG = "away"
"""A follower that is offline for ten minutes; rare, for such a run is long."""

TIGHT = 1.000001
"""A margin of exactly the bound, but for rounding."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One cluster. Times in seconds; `guards_s` has one serve guard for each coordd replica.

    `clock_rate_error` bounds by how much two clocks differ in rate: while the slower shows 1 - error seconds,
    the faster shows one. `loss` and `slow_share` are shares of messages, until `faults_end_s`.
    """

    guards_s: tuple[float, ...]
    milvus_replicas: int
    margin_s: float
    clock_rate_error: float
    heartbeat_interval_s: float
    ttl_s: float
    request_timeout_s: float
    drain_s: float
    delay_s: float
    slow_delay_s: float
    slow_share: float
    loss: float
    batching: float
    theme: str
    faults: int
    fault_at_state_change: float
    activation_failures: float
    faults_end_s: float
    client_interval_s: float
    work_s: float
    evidence_s: float
    """Longest time until the death of a process is noticed, where it can be."""
    sees_gone: float
    """Share of the pairs of machines of which one can notice that a process of the other is gone."""

    @property
    def quiet(self) -> bool:
        """Whether the theme is one of `QUIET`."""
        return self.theme in QUIET

    @property
    def recovery_bound_s(self) -> float:
        """Within this time after the faults some replica must serve, and whoever was told to stop has ended.

        Two lease times: a message that was under way for long can renew or take something just then.
        """
        waits = 2 * self.ttl_s + 2 * (max(self.guards_s) + self.margin_s) + 2 * self.request_timeout_s
        return waits + 2 * self.drain_s + 12.0


def draw(rng: random.Random) -> Scenario:
    """A cluster of 2 to 7 replicas; one in eight runs has Milvus' own coordinator as a part of it."""
    size = rng.choice((2, 2, 3, 3, 3, 3, 4, 4, 4, 7))
    milvus = 1 if rng.random() < 0.125 else 0
    guard, error, margin = 2.0, 0.001, 0.5
    if rng.random() < 0.6:  # far from the defaults, with a margin that only just covers the clocks
        guard = rng.uniform(0.6, 2.5)
        error = rng.choice((0.0, 0.01, 0.05, 0.1))
        margin = 0.0
    guards = [guard] * max(1, size - milvus)
    if rng.random() < 0.25:  # replicas in the middle of a rolling change of settings
        guards = [guard * rng.choice((0.3, 0.6, 1.0)) for _ in guards]
    margin = max(margin, max(guards) * error / (1 - error) * TIGHT, 0.001)
    harsh = rng.random()
    scenario = Scenario(
        guards_s=tuple(guards),
        milvus_replicas=milvus,
        margin_s=margin,
        clock_rate_error=error,
        heartbeat_interval_s=min(guards) / 3,
        ttl_s=rng.choice((1.5, 3.0, 8.0)),
        request_timeout_s=rng.choice((0.5, 1.0, 3.0)),
        drain_s=rng.choice((0.3, 1.0)),
        delay_s=rng.choice((0.002, 0.01, 0.05)),
        slow_delay_s=rng.choice((0.3, 1.5, 8.0)),
        slow_share=rng.choice((0.03, 0.1, 0.2)) * harsh,
        batching=rng.choice((0.2, 0.7, 1.0)),
        loss=0.08 * rng.random(),
        theme=LONG if rng.random() < 0.002 else rng.choice(LOUD + QUIET),
        faults=rng.choice((3, 6, 6, 12, 24)),
        fault_at_state_change=rng.choice((0.0, 0.0, 0.1, 0.4)),
        activation_failures=rng.choice((0.0, 0.0, 0.05, 0.3)),
        faults_end_s=rng.uniform(5.0, 14.0),
        client_interval_s=rng.uniform(0.1, 0.4),
        work_s=rng.choice((0.005, 0.3, 1.5)),
        evidence_s=rng.choice((0.005, 0.02, 0.3)),
        sees_gone=rng.choice((0.0, 0.5, 1.0)),
    )
    return quieted(scenario)


def quieted(scenario: Scenario) -> Scenario:
    """What the theme demands: a network that works, if it is a quiet one."""
    if scenario.theme == LONG:
        scenario = replace(scenario, faults_end_s=615.0, client_interval_s=3.0, heartbeat_interval_s=0.5)
        scenario = replace(scenario, guards_s=(2.0,) * len(scenario.guards_s), margin_s=0.5, ttl_s=8.0)
    elif not scenario.quiet:
        return scenario
    guards_s = (*scenario.guards_s, *[scenario.guards_s[0]] * scenario.milvus_replicas)
    return replace(
        scenario, guards_s=guards_s, milvus_replicas=0, loss=0.0, slow_share=0.0, fault_at_state_change=0.0,
        activation_failures=0.0, work_s=min(scenario.work_s, 0.2), sees_gone=1.0,
        evidence_s=min(scenario.evidence_s, 0.02),
    )  # fmt: skip
