"""What one seed draws before anything happens: the cluster, its timers, its clocks and its network."""

import random
from dataclasses import dataclass

THEMES = ("anything", "network", "operators", "rolling", "stragglers", "takeovers")
"""What kind of faults a run sees; see `faults`."""

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

    @property
    def recovery_bound_s(self) -> float:
        """Within this time after the faults some replica must serve, and whoever was told to stop has ended.

        Two lease times: a message that was under way for long can renew or take something just then.
        """
        waits = 2 * self.ttl_s + 2 * (max(self.guards_s) + self.margin_s) + 2 * self.request_timeout_s
        return waits + self.drain_s + 8.0


def draw(rng: random.Random) -> Scenario:
    """A cluster of 2 to 4 replicas; one in eight runs has Milvus' own coordinator as a part of it."""
    size = rng.choice((2, 3, 3, 4))
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
    return Scenario(
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
        theme=rng.choice(THEMES),
        faults=rng.choice((3, 6, 6, 12, 24)),
        fault_at_state_change=rng.choice((0.0, 0.0, 0.1, 0.4)),
        activation_failures=rng.choice((0.0, 0.0, 0.05, 0.3)),
        faults_end_s=rng.uniform(6.0, 20.0),
        client_interval_s=rng.uniform(0.1, 0.4),
        work_s=rng.choice((0.005, 0.3, 1.5)),
    )
